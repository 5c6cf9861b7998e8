//! Each transfer mode, from the request to the object.

use http::{HeaderMap, Method};
use landfall::event::EventKind;
use landfall_direct::{DirectError, OpenRequest, SentHeaders, Status, TransferMode};
use landfall_objects::Cloud as _;
use landfall_state::queue::{JobEventKind, JobState, Scope};

use super::harness::{
    Harness, LONG, MIB, Service, alice, is_conflict, is_gone, on_each, pattern, post, requester,
    send, texts,
};

on_each!(
    files_are_sent_by_presigned_put,
    files_are_sent_by_form,
    files_are_sent_in_parts,
    too_large_multipart_uploads_are_removed,
    invalid_parts_are_rejected,
    too_large_objects_are_removed,
    metadata_and_headers_reach_the_object,
    urls_of_objects,
);

const CREATED: EventKind = EventKind::Created;
const COMPLETED: EventKind = EventKind::Completed;
const TERMINATED: EventKind = EventKind::Terminated;

async fn files_are_sent_by_presigned_put(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.opened(TransferMode::Put, Some(5)).await;
    assert_eq!(record.status, Status::Open);
    assert!(
        record.object.key.starts_with("uploads/") && record.object.key.ends_with("/a file.bin")
    );
    assert_eq!(harness.job(&record).await.state, JobState::Started);
    assert!(matches!(
        harness.check(&record).await,
        Err(DirectError::NotUploaded)
    ));
    assert_eq!(harness.used("alice").await, 5, "it is reserved");
    assert_eq!(harness.put(&record, "hello".into()).await, 200);

    let done = harness.check(&record).await.unwrap();
    assert_eq!(harness.used("alice").await, 5, "it is used");
    assert_eq!((done.size, done.record.status), (5, Status::Completed));
    let head = harness.head(&record).await.unwrap();
    assert_eq!(done.etag, head.etag);
    assert_eq!(
        head.content_type.as_deref(),
        Some("application/octet-stream")
    );
    assert_eq!(
        harness.direct.key_of(&done.location).as_deref(),
        Some(&*record.object.key)
    );
    let job = harness.job(&record).await;
    assert_eq!(
        (job.state, job.offset, job.size),
        (JobState::Completed, 5, Some(5))
    );
    // The job and its event have the evidence.
    assert_eq!(job.etag.as_ref(), Some(&head.etag));
    let events = harness.queue.events(&Scope::All, 0, 10).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!(last.kind, JobEventKind::UploadCompleted);
    assert_eq!(last.job.etag.as_ref(), Some(&head.etag));
    assert_eq!(harness.emitted(&record), [CREATED, COMPLETED]);

    // A repeated request gets the same response, without an effect.
    assert_eq!(harness.check(&record).await.unwrap(), done);
    assert_eq!(harness.emitted(&record), [CREATED, COMPLETED]);
    assert_eq!(harness.hook.asked(), ["create a file.bin", "finish 5"]);
    let late = harness
        .direct
        .presign_upload(&done.record, LONG, SentHeaders::All)
        .await
        .unwrap_err();
    assert!(is_conflict(&late), "{late}");
    assert!(is_conflict(&harness.cancel(&record).await.unwrap_err()));
    assert!(harness.head(&record).await.is_some());
    // Hooks receive no Landfall secret.
    for request in harness.hook.requests() {
        assert!(!format!("{request:?}").contains("secret"), "{request:?}");
    }
}

async fn files_are_sent_by_form(service: Service) {
    let harness = Harness::on(service).await;
    let mut asked = OpenRequest::new(TransferMode::Post, "Zürich.png");
    asked.metadata = texts(&[("name", "Zürich.png"), ("type", "image/png")]);
    let record = harness.of_alice(asked).await;
    let form = harness.direct.sign_post(&record).await.unwrap();
    assert!(form.url.ends_with('/'));
    let (status, headers, body) = post(&form, b"not really").await;
    assert_eq!(status, 201, "{headers:?} {body:?}");
    let done = harness.check(&record).await.unwrap();
    assert_eq!(done.size, 10);
    let head = harness.head(&record).await.unwrap();
    assert_eq!(head.content_type.as_deref(), Some("image/png"));
    assert_eq!(head.metadata["name"], "=?UTF-8?B?WsO8cmljaC5wbmc=?=");
    assert_eq!(
        harness.job(&record).await.filename.as_deref(),
        Some("Zürich.png")
    );
}

async fn files_are_sent_in_parts(service: Service) {
    let harness = Harness::on(service).await;
    let bytes = pattern(7, 6 * MIB);
    let record = harness
        .opened(TransferMode::Multipart, Some(6 * MIB as u64))
        .await;
    let id = record.multipart.clone().unwrap();
    // 6 MiB have at most two parts.
    for number in [0, 3, 10_001] {
        let error = harness
            .direct
            .presign_part(&record, number)
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            DirectError::Invalid {
                field: "partNumber",
                ..
            }
        ));
    }
    let first = harness.send_part(&record, 1, bytes.slice(..5 * MIB)).await;
    let parts = harness.direct.parts(&record).await.unwrap();
    assert_eq!(
        parts.iter().map(|part| part.size).sum::<u64>(),
        5 * MIB as u64
    );
    harness
        .direct
        .progress(&record, 5 * MIB as u64)
        .await
        .unwrap();
    let second = harness.send_part(&record, 2, bytes.slice(5 * MIB..)).await;
    // Entity tags with or without quotes are accepted.
    let bare = (second.0, second.1.trim_matches('"').to_owned());
    let found = harness.find(&record.object.key, Some(&id)).await;
    assert_eq!(found.id(), record.id());
    let done = harness.complete(&found, &[first, bare]).await.unwrap();
    assert_eq!(done.size, 6 * MIB as u64);
    let object = harness
        .client
        .get_object(&record.object, None)
        .await
        .unwrap();
    assert_eq!(object.bytes(7 * MIB).await.unwrap(), bytes);
    assert_eq!(harness.emitted(&record), [CREATED, COMPLETED]);
    let events = harness.events(&record).await;
    assert_eq!(events.first(), Some(&"UploadStarted"));
    assert_eq!(events.last(), Some(&"UploadCompleted"));
    // It is complete: the listed parts do not matter.
    let again = harness.complete(&record, &[(1, "x".into())]).await.unwrap();
    assert_eq!(again, done);
    assert_eq!(
        harness
            .handler
            .get(record.id())
            .await
            .unwrap()
            .unwrap()
            .offset,
        done.size
    );
}

async fn too_large_multipart_uploads_are_removed(service: Service) {
    let harness = Harness::on(service).await;
    let mut caller = landfall_state::queue::Principal::new("alice");
    caller.limits.max_size = Some(5 * MIB as u64);
    caller.limits.quota = Some(100 * MIB as u64);
    let alice = landfall_direct::Requester::Principal(caller);
    let record = harness
        .open(&alice, OpenRequest::new(TransferMode::Multipart, "a"))
        .await
        .unwrap();
    assert_eq!(record.size_limit(), Some(5 * MIB as u64));
    assert_eq!(harness.used("alice").await, 5 * MIB as u64);
    let first = harness.send_part(&record, 1, pattern(1, 5 * MIB)).await;
    let second = harness.send_part(&record, 2, "1".into()).await;
    let error = harness
        .complete(&record, &[first, second])
        .await
        .unwrap_err();
    let DirectError::TooLarge { stored, limit } = error else {
        panic!("{error}");
    };
    assert_eq!((stored, limit), (5 * MIB as u64 + 1, 5 * MIB as u64));
    harness.assert_nothing_of(&record).await;
    let job = harness.job(&record).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.reason.unwrap().contains("at most 5242880"));
    assert_eq!(harness.used("alice").await, 0);
    assert_eq!(harness.emitted(&record), [CREATED, TERMINATED]);
    let late = harness
        .direct
        .find(&alice, &record.object.key, None)
        .await
        .unwrap();
    assert!(is_gone(
        &harness.direct.presign_part(&late, 1).await.unwrap_err()
    ));
    assert!(is_gone(
        &harness
            .complete(&late, &[(1, "x".into())])
            .await
            .unwrap_err()
    ));
    assert!(is_gone(&harness.check(&late).await.unwrap_err()));
}

async fn invalid_parts_are_rejected(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness
        .opened(TransferMode::Multipart, Some(6 * MIB as u64))
        .await;
    let first = harness.send_part(&record, 1, pattern(1, 5 * MIB)).await;
    for (parts, message) in [
        (vec![], "no parts are listed"),
        (vec![(2, first.1.clone())], "S3 has no part 2"),
        (vec![(1, "other".to_owned())], "another entity tag"),
        (vec![first.clone(), first.clone()], "each part once"),
        (vec![first.clone()], "S3 has the parts 1"),
    ] {
        let error = harness.complete(&record, &parts).await.unwrap_err();
        assert!(matches!(error, DirectError::InvalidParts(_)), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
    // It is unchanged, and can continue.
    let second = harness.send_part(&record, 2, pattern(2, MIB)).await;
    harness.complete(&record, &[first, second]).await.unwrap();
}

async fn too_large_objects_are_removed(service: Service) {
    let harness = Harness::on(service).await;
    let mut caller = landfall_state::queue::Principal::new("alice");
    caller.limits.max_size = Some(3);
    let alice = landfall_direct::Requester::Principal(caller);
    // A PUT without a known size.
    let record = harness
        .open(&alice, OpenRequest::new(TransferMode::Put, "a"))
        .await
        .unwrap();
    assert_eq!(harness.put(&record, "four".into()).await, 200);
    let error = harness.check(&record).await.unwrap_err();
    assert!(
        matches!(
            error,
            DirectError::TooLarge {
                stored: 4,
                limit: 3
            }
        ),
        "{error}"
    );
    harness.assert_nothing_of(&record).await;
    assert_eq!(harness.job(&record).await.state, JobState::Failed);
    assert_eq!(harness.emitted(&record), [CREATED, TERMINATED]);
    // Earlier signatures may still be used, so it is checked again.
    assert!(harness.now(&record).await.next_check_at.is_some());
    assert!(is_gone(&harness.check(&record).await.unwrap_err()));
    // With a known size, it is rejected at once.
    let mut asked = OpenRequest::new(TransferMode::Put, "a");
    asked.size = Some(4);
    let error = harness.open(&alice, asked).await.unwrap_err();
    assert!(matches!(error, DirectError::Policy(_)), "{error}");
    for mode in [TransferMode::Put, TransferMode::Post] {
        let mut asked = OpenRequest::new(mode, "a");
        asked.size = Some((5 << 30) + 1);
        let error = harness.open(&requester("bob"), asked).await.unwrap_err();
        assert!(
            matches!(
                error,
                DirectError::Invalid {
                    field: "file_size",
                    ..
                }
            ),
            "{error}"
        );
    }
}

async fn metadata_and_headers_reach_the_object(service: Service) {
    let harness = Harness::with(service, |settings| {
        settings.objects.headers.cache_control = Some("max-age=60".into());
    })
    .await;
    for mode in [
        TransferMode::Put,
        TransferMode::Post,
        TransferMode::Multipart,
    ] {
        let mut asked = OpenRequest::new(mode, "Ümlaut.txt");
        asked.size = Some(5);
        asked.metadata = texts(&[
            ("name", "Ümlaut.txt"),
            ("album", "a b&c"),
            ("token", "lft_x"),
        ]);
        let record = harness.of_alice(asked).await;
        match mode {
            TransferMode::Put => {
                let put = harness
                    .direct
                    .presign_upload(&record, LONG, SentHeaders::All)
                    .await
                    .unwrap();
                assert_eq!(put.headers["cache-control"], "max-age=60");
                assert_eq!(put.headers["content-type"], "text/plain");
                let sent = send(Method::PUT, &put.url, &put.headers, "hello").await;
                assert_eq!(sent.0, 200, "{sent:?}");
                harness.check(&record).await.unwrap();
            }
            TransferMode::Post => {
                let form = harness.direct.sign_post(&record).await.unwrap();
                let sent = post(&form, b"hello").await;
                assert_eq!(sent.0, 201, "{sent:?}");
                harness.check(&record).await.unwrap();
            }
            _ => {
                let parts = [harness.send_part(&record, 1, "hello".into()).await];
                harness.complete(&record, &parts).await.unwrap();
            }
        }
        let head = harness.head(&record).await.unwrap();
        assert_eq!(head.content_type.as_deref(), Some("text/plain"), "{mode:?}");
        assert_eq!(
            head.metadata["name"], "=?UTF-8?B?w5xtbGF1dC50eHQ=?=",
            "{mode:?}"
        );
        assert_eq!(head.metadata["album"], "a b&c", "{mode:?}");
        assert!(!head.metadata.contains_key("token"));
        let none = HeaderMap::new();
        let url = harness
            .client
            .presign(Method::HEAD, &record.object, &[], &none, LONG);
        let (_, headers, _) = send(Method::HEAD, &url.await.unwrap(), &none, "").await;
        // Ceph ignores the field of a form.
        let stored = (service, mode) != (Service::Ceph, TransferMode::Post);
        let wanted = stored.then_some("max-age=60");
        let cache_control = headers.get("cache-control");
        let cache_control = cache_control.map(|value| value.to_str().unwrap());
        assert_eq!(cache_control, wanted, "{mode:?}");
    }
}

async fn urls_of_objects(service: Service) {
    let harness = Harness::with(service, |settings| {
        settings.public_url = Some("https://files.example/x/".into());
    })
    .await;
    let record = harness
        .open(&alice(), OpenRequest::new(TransferMode::Put, "ä b?.bin"))
        .await;
    let record = record.unwrap();
    let location = harness.direct.location(&record);
    assert!(
        location.starts_with("https://files.example/x/uploads/"),
        "{location}"
    );
    assert!(location.ends_with("/%C3%A4%20b%3F.bin"), "{location}");
    let put = harness
        .direct
        .presign_upload(&record, LONG, SentHeaders::All)
        .await
        .unwrap();
    for url in [
        &location,
        &put.url,
        &harness.client.object_url(&record.object),
    ] {
        assert_eq!(
            harness.direct.key_of(url).as_deref(),
            Some(&*record.object.key)
        );
    }
    for other in [
        "https://files.example/y",
        "https://files.example/x/",
        "",
        "x",
    ] {
        assert_eq!(harness.direct.key_of(other), None, "{other}");
    }
    // Reported progress is shown, up to the length.
    let record = harness.opened(TransferMode::Put, Some(5)).await;
    harness.direct.progress(&record, 1 << 40).await.unwrap();
    assert_eq!(harness.put(&record, "hello".into()).await, 200);
    harness.check(&record).await.unwrap();
    let job = harness.job(&record).await;
    assert_eq!((job.offset, job.size), (5, Some(5)));
}
