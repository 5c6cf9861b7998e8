//! Files sent in each way, from the first question to the object.

use http::{HeaderMap, Method};
use landfall::event::EventKind;
use landfall_direct::{Asked, DirectError, Standing, Way};
use landfall_grants::{JobState, job::JobEventKind, queue::Scope};

use super::site::{
    LONG, MIB, Service, Site, alice, is_conflict, is_gone, on_both, pattern, post, send, texts, who,
};

on_both!(
    a_presigned_put,
    a_form,
    a_multipart_upload,
    too_much_in_parts,
    parts_that_are_not_right,
    too_much_at_once,
    metadata_and_headers_arrive,
    addresses,
);

const CREATED: EventKind = EventKind::Created;
const COMPLETED: EventKind = EventKind::Completed;
const TERMINATED: EventKind = EventKind::Terminated;

async fn a_presigned_put(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Put, Some(5)).await;
    assert_eq!(record.standing, Standing::Open);
    assert!(record.place.key.starts_with("uploads/") && record.place.key.ends_with("/a file.bin"));
    assert_eq!(site.job(&record).await.state, JobState::Started);
    assert!(matches!(
        site.check(&record).await,
        Err(DirectError::NotYet)
    ));
    assert_eq!(site.used("alice").await, 5, "it is reserved");
    assert_eq!(site.put(&record, "hello".into()).await, 200);

    let done = site.check(&record).await.unwrap();
    assert_eq!(site.used("alice").await, 5, "it is used");
    assert_eq!((done.size, done.record.standing), (5, Standing::Finished));
    let head = site.head(&record).await.unwrap();
    assert_eq!(done.etag, head.etag);
    assert_eq!(
        head.content_type.as_deref(),
        Some("application/octet-stream")
    );
    assert_eq!(
        site.direct.key_of(&done.location).as_deref(),
        Some(&*record.place.key)
    );
    let job = site.job(&record).await;
    assert_eq!(
        (job.state, job.offset, job.size),
        (JobState::Completed, 5, Some(5))
    );
    // The evidence is in the job and in its event.
    assert_eq!(job.etag.as_ref(), Some(&head.etag));
    let events = site.queue.events(&Scope::All, 0, 10).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!(last.kind, JobEventKind::UploadCompleted);
    assert_eq!(last.job.etag.as_ref(), Some(&head.etag));
    assert_eq!(site.told(&record), [CREATED, COMPLETED]);

    // Asked again, it says the same, and nothing happens.
    assert_eq!(site.check(&record).await.unwrap(), done);
    assert_eq!(site.told(&record), [CREATED, COMPLETED]);
    assert_eq!(site.hook.asked(), ["create a file.bin", "finish 5"]);
    let late = site.direct.put(&done.record, LONG, true).await.unwrap_err();
    assert!(is_conflict(&late), "{late}");
    assert!(is_conflict(&site.cancel(&record).await.unwrap_err()));
    assert!(site.head(&record).await.is_some());
    // Hooks see no secret of Landfall's.
    for request in site.hook.requests() {
        assert!(!format!("{request:?}").contains("secret"), "{request:?}");
    }
}

async fn a_form(service: Service) {
    let site = Site::on(service).await;
    let mut asked = Asked::new(Way::Post, "Zürich.png");
    asked.metadata = texts(&[("name", "Zürich.png"), ("type", "image/png")]);
    let record = site.open(&alice(), asked).await.unwrap();
    let form = site.direct.form(&record).await.unwrap();
    assert!(form.url.ends_with('/'));
    let (status, headers, body) = post(&form, b"not really").await;
    assert_eq!(status, 201, "{headers:?} {body:?}");
    let done = site.check(&record).await.unwrap();
    assert_eq!(done.size, 10);
    let head = site.head(&record).await.unwrap();
    assert_eq!(head.content_type.as_deref(), Some("image/png"));
    assert_eq!(head.metadata["name"], "=?UTF-8?B?WsO8cmljaC5wbmc=?=");
    assert_eq!(
        site.job(&record).await.filename.as_deref(),
        Some("Zürich.png")
    );
}

async fn a_multipart_upload(service: Service) {
    let site = Site::on(service).await;
    let bytes = pattern(7, 6 * MIB);
    let record = site.opened(Way::Multipart, Some(6 * MIB as u64)).await;
    let id = record.multipart.clone().unwrap();
    // 6 MiB have two parts at most.
    for number in [0, 3, 10_001] {
        let error = site.direct.part(&record, number).await.unwrap_err();
        assert!(matches!(
            error,
            DirectError::Bad {
                field: "partNumber",
                ..
            }
        ));
    }
    let first = site.send_part(&record, 1, bytes.slice(..5 * MIB)).await;
    let parts = site.direct.parts(&record).await.unwrap();
    assert_eq!(
        parts.iter().map(|part| part.size).sum::<u64>(),
        5 * MIB as u64
    );
    site.direct.progress(&record, 5 * MIB as u64).await.unwrap();
    let second = site.send_part(&record, 2, bytes.slice(5 * MIB..)).await;
    // Entity tags come with or without quotes.
    let bare = (second.0, second.1.trim_matches('"').to_owned());
    let found = site
        .direct
        .find(&alice(), &record.place.key, Some(&id))
        .await
        .unwrap();
    assert_eq!(found.id(), record.id());
    let done = site.complete(&found, &[first, bare]).await.unwrap();
    assert_eq!(done.size, 6 * MIB as u64);
    let object = site.client.get_object(&record.place, None).await.unwrap();
    assert_eq!(object.bytes(7 * MIB).await.unwrap(), bytes);
    assert_eq!(site.told(&record), [CREATED, COMPLETED]);
    let events = site.events(&record).await;
    assert_eq!(events.first(), Some(&"UploadStarted"));
    assert_eq!(events.last(), Some(&"UploadCompleted"));
    // Whatever is named now: it is complete.
    let again = site.complete(&record, &[(1, "x".into())]).await.unwrap();
    assert_eq!(again, done);
    assert_eq!(
        site.handler.get(record.id()).await.unwrap().unwrap().offset,
        done.size
    );
}

async fn too_much_in_parts(service: Service) {
    let site = Site::on(service).await;
    let mut caller = landfall_grants::Caller::new("alice");
    caller.limits.max_size = Some(5 * MIB as u64);
    caller.limits.quota = Some(100 * MIB as u64);
    let alice = landfall_direct::Who::Caller(caller);
    let record = site
        .open(&alice, Asked::new(Way::Multipart, "a"))
        .await
        .unwrap();
    assert_eq!(record.most(), Some(5 * MIB as u64));
    assert_eq!(site.used("alice").await, 5 * MIB as u64);
    let first = site.send_part(&record, 1, pattern(1, 5 * MIB)).await;
    let second = site.send_part(&record, 2, "1".into()).await;
    let error = site.complete(&record, &[first, second]).await.unwrap_err();
    let DirectError::TooLarge { stored, most } = error else {
        panic!("{error}");
    };
    assert_eq!((stored, most), (5 * MIB as u64 + 1, 5 * MIB as u64));
    site.assert_nothing_of(&record).await;
    let job = site.job(&record).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.reason.unwrap().contains("at most 5242880"));
    assert_eq!(site.used("alice").await, 0);
    assert_eq!(site.told(&record), [CREATED, TERMINATED]);
    let late = site
        .direct
        .find(&alice, &record.place.key, None)
        .await
        .unwrap();
    assert!(is_gone(&site.direct.part(&late, 1).await.unwrap_err()));
    assert!(is_gone(
        &site.complete(&late, &[(1, "x".into())]).await.unwrap_err()
    ));
    assert!(is_gone(&site.check(&late).await.unwrap_err()));
}

async fn parts_that_are_not_right(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Multipart, Some(6 * MIB as u64)).await;
    let first = site.send_part(&record, 1, pattern(1, 5 * MIB)).await;
    for (parts, said) in [
        (vec![], "no parts are named"),
        (vec![(2, first.1.clone())], "S3 has no part 2"),
        (vec![(1, "other".to_owned())], "another entity tag"),
        (vec![first.clone(), first.clone()], "once, in order"),
        (vec![first.clone()], "S3 has the parts 1"),
    ] {
        let error = site.complete(&record, &parts).await.unwrap_err();
        assert!(matches!(error, DirectError::Parts(_)), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    // It stays as it was, and can be gone on with.
    let second = site.send_part(&record, 2, pattern(2, MIB)).await;
    site.complete(&record, &[first, second]).await.unwrap();
}

async fn too_much_at_once(service: Service) {
    let site = Site::on(service).await;
    let mut caller = landfall_grants::Caller::new("alice");
    caller.limits.max_size = Some(3);
    let alice = landfall_direct::Who::Caller(caller);
    // A PUT whose size nobody knew.
    let record = site.open(&alice, Asked::new(Way::Put, "a")).await.unwrap();
    assert_eq!(site.put(&record, "four".into()).await, 200);
    let error = site.check(&record).await.unwrap_err();
    assert!(
        matches!(error, DirectError::TooLarge { stored: 4, most: 3 }),
        "{error}"
    );
    site.assert_nothing_of(&record).await;
    assert_eq!(site.job(&record).await.state, JobState::Failed);
    assert_eq!(site.told(&record), [CREATED, TERMINATED]);
    // What was signed may still be used, so it is looked at again.
    assert!(site.now(&record).await.check_at.is_some());
    assert!(is_gone(&site.check(&record).await.unwrap_err()));
    // Stated beforehand, it isn't even begun.
    let mut asked = Asked::new(Way::Put, "a");
    asked.size = Some(4);
    let error = site.open(&alice, asked).await.unwrap_err();
    assert!(matches!(error, DirectError::Policy(_)), "{error}");
    for way in [Way::Put, Way::Post] {
        let mut asked = Asked::new(way, "a");
        asked.size = Some((5 << 30) + 1);
        let error = site.open(&who("bob"), asked).await.unwrap_err();
        assert!(
            matches!(
                error,
                DirectError::Bad {
                    field: "file_size",
                    ..
                }
            ),
            "{error}"
        );
    }
}

async fn metadata_and_headers_arrive(service: Service) {
    let site = Site::with(service, |settings| {
        settings.objects.headers.cache_control = Some("max-age=60".into());
    })
    .await;
    for way in [Way::Put, Way::Post, Way::Multipart] {
        let mut asked = Asked::new(way, "Ümlaut.txt");
        asked.size = Some(5);
        asked.metadata = texts(&[
            ("name", "Ümlaut.txt"),
            ("album", "a b&c"),
            ("token", "lft_x"),
        ]);
        let record = site.open(&alice(), asked).await.unwrap();
        match way {
            Way::Put => {
                let put = site.direct.put(&record, LONG, true).await.unwrap();
                assert_eq!(put.headers["cache-control"], "max-age=60");
                assert_eq!(put.headers["content-type"], "text/plain");
                let sent = send(Method::PUT, &put.url, &put.headers, "hello").await;
                assert_eq!(sent.0, 200, "{sent:?}");
                site.check(&record).await.unwrap();
            }
            Way::Post => {
                let form = site.direct.form(&record).await.unwrap();
                let sent = post(&form, b"hello").await;
                assert_eq!(sent.0, 201, "{sent:?}");
                site.check(&record).await.unwrap();
            }
            _ => {
                let parts = [site.send_part(&record, 1, "hello".into()).await];
                site.complete(&record, &parts).await.unwrap();
            }
        }
        let head = site.head(&record).await.unwrap();
        assert_eq!(head.content_type.as_deref(), Some("text/plain"), "{way:?}");
        assert_eq!(
            head.metadata["name"], "=?UTF-8?B?w5xtbGF1dC50eHQ=?=",
            "{way:?}"
        );
        assert_eq!(head.metadata["album"], "a b&c", "{way:?}");
        assert!(!head.metadata.contains_key("token"));
        let none = HeaderMap::new();
        let url = site
            .client
            .presign(Method::HEAD, &record.place, &[], &none, LONG);
        let (_, headers, _) = send(Method::HEAD, &url.await.unwrap(), &none, "").await;
        assert_eq!(headers["cache-control"], "max-age=60", "{way:?}");
    }
}

async fn addresses(service: Service) {
    let site = Site::with(service, |settings| {
        settings.public_url = Some("https://files.example/x/".into());
    })
    .await;
    let record = site.open(&alice(), Asked::new(Way::Put, "ä b?.bin")).await;
    let record = record.unwrap();
    let location = site.direct.location(&record);
    assert!(
        location.starts_with("https://files.example/x/uploads/"),
        "{location}"
    );
    assert!(location.ends_with("/%C3%A4%20b%3F.bin"), "{location}");
    let put = site.direct.put(&record, LONG, true).await.unwrap();
    for url in [&location, &put.url, &site.client.object_url(&record.place)] {
        assert_eq!(site.direct.key_of(url).as_deref(), Some(&*record.place.key));
    }
    for other in [
        "https://files.example/y",
        "https://files.example/x/",
        "",
        "x",
    ] {
        assert_eq!(site.direct.key_of(other), None, "{other}");
    }
    // Bytes that its client says are sent are shown, and no more than there are.
    let record = site.opened(Way::Put, Some(5)).await;
    site.direct.progress(&record, 1 << 40).await.unwrap();
    assert_eq!(site.put(&record, "hello".into()).await, 200);
    site.check(&record).await.unwrap();
    let job = site.job(&record).await;
    assert_eq!((job.offset, job.size), (5, Some(5)));
}
