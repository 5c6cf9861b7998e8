//! Opening of uploads: authorization, idempotency, hooks and policies.

use std::{sync::Arc, time::Duration};

use landfall::{
    event::EventKind,
    hook::{ClientResponse, CreateDecision, Decision},
};
use landfall_direct::{DirectError, DirectSettings, OpenRequest, Requester, Status, TransferMode};
use landfall_objects::Cloud as _;
use landfall_state::queue::{GrantLimits, JobEnd, JobState, LimitExceeded, Principal};

use super::harness::{
    Harness, Script, Service, alice, is_conflict, is_gone, on_each, parts, refuse, requester, texts,
};

on_each!(
    hooks_can_change_bucket_and_key,
    earlier_objects_are_not_taken_for_the_upload,
    multipart_uploads_have_their_type,
);

async fn hooks_can_change_bucket_and_key(service: Service) {
    let harness = Harness::on(service).await;
    harness.hook.creation(|creation: CreateDecision| {
        creation
            .storage("Key", "elsewhere/x.bin")
            .storage("ContentType", "text/x-mine")
            .label("tenant", "7")
            .label("job", "999")
            .id(landfall::upload::UploadId::new("mine").unwrap())
    });
    for mode in [TransferMode::Put, TransferMode::Multipart] {
        let record = harness.opened(mode, Some(5)).await;
        assert_eq!(record.object.key, "elsewhere/x.bin");
        let upload = &record.upload;
        assert_eq!(upload.storage["Type"], "s3store");
        assert_eq!(upload.storage["Bucket"], harness.bucket);
        assert_eq!(upload.labels["tenant"], "7");
        assert_eq!(upload.labels["job"], record.job.to_string());
        assert_eq!(upload.labels["subject"], "alice");
        assert!(record.id().as_str().starts_with("direct-"));
        match mode {
            TransferMode::Put => {
                assert_eq!(harness.put(&record, "hello".into()).await, 200);
                harness.check(&record).await.unwrap();
            }
            _ => {
                let parts = [harness.send_part(&record, 1, "hello".into()).await];
                harness.complete(&record, &parts).await.unwrap();
            }
        }
        let head = harness.head(&record).await.unwrap();
        assert_eq!(head.content_type.as_deref(), Some("text/x-mine"));
    }
}

async fn earlier_objects_are_not_taken_for_the_upload(service: Service) {
    let harness = Harness::on(service).await;
    harness
        .hook
        .creation(|creation: CreateDecision| creation.storage("Key", "avatar.png"));
    let first = harness.opened(TransferMode::Put, Some(5)).await;
    assert_eq!(harness.put(&first, "hello".into()).await, 200);
    harness.check(&first).await.unwrap();
    // The object of an earlier upload at this key is not taken for that of the next one, …
    let next = harness.opened(TransferMode::Put, Some(6)).await;
    assert!(matches!(
        harness.check(&next).await,
        Err(DirectError::NotUploaded)
    ));
    // … and is not removed with it.
    harness.cancel(&next).await.unwrap();
    assert_eq!(harness.head(&first).await.unwrap().size, 5);
    let last = harness.opened(TransferMode::Put, Some(6)).await;
    assert_eq!(harness.put(&last, "second".into()).await, 200);
    assert_eq!(harness.check(&last).await.unwrap().size, 6);
    assert_eq!(
        harness.check(&first).await.unwrap().size,
        5,
        "it was complete"
    );
}

async fn multipart_uploads_have_their_type(service: Service) {
    let harness = Harness::on(service).await;
    let mut asked = OpenRequest::new(TransferMode::Multipart, "a.PDF");
    asked.filetype = Some(String::new());
    let record = harness.of_alice(asked).await;
    let parts = [harness.send_part(&record, 1, "hello".into()).await];
    harness.complete(&record, &parts).await.unwrap();
    let head = harness.head(&record).await.unwrap();
    assert_eq!(head.content_type.as_deref(), Some("application/pdf"));
    assert_eq!(
        harness.job(&record).await.filetype.as_deref(),
        Some("application/pdf")
    );
}

async fn harness() -> Harness {
    Harness::on(Service::Garage).await
}

/// Returns a harness with a hook, and one without.
async fn both() -> [Harness; 2] {
    [harness().await, without_hooks().await]
}

async fn without_hooks() -> Harness {
    Harness::by(Service::Garage, Script::silent(), |_| {}).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_hooks_an_upload_is_opened_in_one_transaction() {
    let harness = without_hooks().await;
    let mut caller = Principal::new("alice");
    caller.limits.quota = Some(10);
    let alice = Requester::Principal(caller);
    for mode in [
        TransferMode::Put,
        TransferMode::Post,
        TransferMode::Multipart,
        TransferMode::SignedMultipart,
    ] {
        let before = harness.queue.stats();
        let mut asked = OpenRequest::new(mode, "a.bin");
        asked.size = Some(5);
        asked.metadata = texts(&[("album", "1")]);
        let record = harness.open(&alice, asked.clone()).await.unwrap();
        let after = harness.queue.stats();
        assert_eq!(after.batches - before.batches, 1, "{mode:?}");
        assert_eq!(harness.now(&record).await, *record);
        assert_eq!(record.status, Status::Open);
        let job = harness.job(&record).await;
        assert_eq!(job.state, JobState::Started);
        assert_eq!(job.upload_id.as_deref(), Some(record.id().as_str()));
        let labels = &record.upload.labels;
        assert_eq!(labels["job"], job.id.to_string());
        assert_eq!(labels["request_id"], job.request_id);
        assert_eq!(labels["subject"], "alice");
        assert_eq!(harness.emitted(&record), [EventKind::Created]);
        assert_eq!(harness.events(&record).await, ["UploadStarted"]);
        assert_eq!(harness.used("alice").await, 5);
        // An exceeded limit leaves nothing behind.
        asked.size = Some(6);
        asked.request_id = Some("6".into());
        let error = harness.open(&alice, asked).await.unwrap_err();
        assert!(matches!(error, DirectError::LimitExceeded(_)), "{error}");
        let job = harness.queue.by_request("alice", "6").await.unwrap();
        assert_eq!(job, None);
        harness.cancel(&record).await.unwrap();
        assert_eq!(harness.used("alice").await, 0);
    }
}

/// The maximum size follows from the remaining quota.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_unknown_length_gets_what_is_left_of_the_quota() {
    for harness in both().await {
        let mut caller = Principal::new("alice");
        caller.limits.quota = Some(10);
        let alice = Requester::Principal(caller);
        let record = harness
            .open(&alice, OpenRequest::new(TransferMode::Put, "a"))
            .await
            .unwrap();
        assert_eq!(record.upload.max_size, Some(10));
        assert_eq!(harness.now(&record).await, *record);
        let error = harness
            .open(&alice, OpenRequest::new(TransferMode::Put, "a"))
            .await;
        assert!(
            matches!(error, Err(DirectError::LimitExceeded(_))),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_can_deny_or_fail() {
    let harness = harness().await;
    let mut caller = Principal::new("alice");
    caller.limits.quota = Some(1000);
    let alice = Requester::Principal(caller);
    let mut asked = OpenRequest::new(TransferMode::Multipart, "a");
    asked.size = Some(10);
    asked.request_id = Some("1".into());
    harness.hook.next("create", refuse("not that"));
    let error = harness.open(&alice, asked.clone()).await.unwrap_err();
    let DirectError::Hook(declined) = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (declined.status.as_u16(), &*declined.message),
        (422, "not that")
    );
    assert_eq!(harness.used("alice").await, 0);
    let job = harness
        .queue
        .by_request("alice", "1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert!(job.reason.unwrap().contains("not that"));
    // Asked again, the hook decides again; the second request may differ.
    harness.hook.next("create", refuse("still not that"));
    let error = harness.open(&alice, asked.clone()).await.unwrap_err();
    assert!(error.to_string().contains("still"), "{error}");
    asked.filename = "b".into();
    let record = harness.open(&alice, asked.clone()).await.unwrap();
    assert_eq!(harness.used("alice").await, 10);
    let again = harness.open(&alice, asked.clone()).await.unwrap();
    assert_eq!(again.id(), record.id());
    // An upload that was opened and cancelled stays so.
    harness.cancel(&record).await.unwrap();
    let error = harness.open(&alice, asked.clone()).await.unwrap_err();
    assert!(is_gone(&error), "{error}");

    // After a failure of the hook, the client can retry.
    asked.filename = "a".into();
    asked.request_id = Some("2".into());
    harness.hook.next("create", Err("nobody at runtime".into()));
    let later = Ok(Decision::Fail(ClientResponse::text(503, "later")));
    harness.hook.next("create", later);
    for _ in 0..2 {
        let error = harness.open(&alice, asked.clone()).await.unwrap_err();
        assert!(matches!(error, DirectError::Hook(_)), "{error}");
    }
    assert_eq!(harness.used("alice").await, 10);
    let record = harness.open(&alice, asked).await.unwrap();
    assert_eq!(harness.used("alice").await, 10);
    assert_eq!(record.status, Status::Open);

    // If it cannot retry, the job ends.
    let mut asked = OpenRequest::new(TransferMode::Put, "a");
    asked.size = Some(100);
    harness.hook.next("create", Err("nobody at runtime".into()));
    harness.open(&alice, asked).await.unwrap_err();
    assert_eq!(harness.used("alice").await, 10);
    let page = harness
        .client
        .list_multiparts(&harness.bucket, "", None, 10);
    assert_eq!(page.await.unwrap().uploads.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_requests_return_the_same_upload() {
    for harness in both().await {
        finds_the_same(harness).await;
    }
}

async fn finds_the_same(harness: Harness) {
    let mut asked = OpenRequest::new(TransferMode::Multipart, "a.bin");
    asked.request_id = Some("7".into());
    asked.metadata = texts(&[("album", "1")]);
    let first = harness.of_alice(asked.clone()).await;
    let again = harness.of_alice(asked.clone()).await;
    assert_eq!(
        (first.id(), &first.multipart),
        (again.id(), &again.multipart)
    );
    assert!(harness.hook.asked().len() <= 1);
    // Another principal's request with the same id is a different one.
    let bobs = harness
        .open(&requester("bob"), asked.clone())
        .await
        .unwrap();
    assert_ne!(bobs.id(), first.id());
    for change in [
        |asked: &mut OpenRequest| asked.filename = "b.bin".into(),
        |asked: &mut OpenRequest| asked.mode = TransferMode::Put,
        |asked: &mut OpenRequest| asked.size = Some(7),
        |asked: &mut OpenRequest| asked.metadata = texts(&[("album", "2")]),
    ] {
        let mut other = asked.clone();
        change(&mut other);
        let error = harness.open(&alice(), other).await.unwrap_err();
        assert!(is_conflict(&error), "{error}");
    }
    let parts = [harness.send_part(&first, 1, "hello".into()).await];
    harness.complete(&first, &parts).await.unwrap();
    let again = harness.of_alice(asked.clone()).await;
    assert_eq!((again.id(), again.status), (first.id(), Status::Completed));
    let found = harness.direct.by_request(&alice(), "7").await.unwrap();
    assert_eq!(found.id(), first.id());
    harness.cancel(&bobs).await.unwrap();
    let error = harness.open(&requester("bob"), asked).await.unwrap_err();
    assert!(is_gone(&error), "{error}");
    let page = harness
        .client
        .list_multiparts(&harness.bucket, "", None, 10);
    assert_eq!(page.await.unwrap().uploads, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_open_one_upload() {
    for harness in both().await {
        opens_once(Arc::new(harness)).await;
    }
}

async fn opens_once(harness: Arc<Harness>) {
    let mut asked = OpenRequest::new(TransferMode::Multipart, "a.bin");
    asked.request_id = Some("7".into());
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (harness, asked) = (harness.clone(), asked.clone());
        opening.spawn(async move {
            loop {
                match harness.open(&alice(), asked.clone()).await {
                    Err(DirectError::Locked) => tokio::task::yield_now().await,
                    opened => return opened.unwrap().id().clone(),
                }
            }
        });
    }
    let mut ids = opening.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let page = harness
        .client
        .list_multiparts(&harness.bucket, "", None, 10);
    assert_eq!(page.await.unwrap().uploads.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_opens_one_upload() {
    let harness = harness().await;
    let (grant, token) = harness.grant(Some(5), Some("video/mp4")).await;
    let mut asked = OpenRequest::new(TransferMode::Put, "other.avi");
    for (size, kind, message) in [
        (Some(6), None, "exceed"),
        (Some(4), None, "not with fewer"),
        (None, Some("text/html"), "granted with the type"),
    ] {
        let mut wrong = asked.clone();
        wrong.size = size;
        wrong.filetype = kind.map(Into::into);
        let error = harness.open(&grant, wrong).await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    // After a denial that may pass, the token stays valid.
    let later = Ok(Decision::Deny(ClientResponse::text(429, "later")));
    harness.hook.next("create", later);
    harness.open(&grant, asked.clone()).await.unwrap_err();
    asked.metadata = texts(&[("name", "other.avi"), ("upload_token", token.reveal())]);
    let record = harness.open(&grant, asked.clone()).await.unwrap();
    assert!(
        record.object.key.ends_with("/holiday.mp4"),
        "{:?}",
        record.object
    );
    assert_eq!(record.upload.length, Some(5));
    assert_eq!(
        record.upload.metadata.get_text("filetype").unwrap(),
        "video/mp4"
    );
    assert!(!record.upload.metadata.header().contains("upload_token"));
    let again = harness.open(&grant, asked.clone()).await.unwrap();
    assert_eq!(again.id(), record.id());
    asked.mode = TransferMode::Multipart;
    assert!(is_conflict(
        &harness.open(&grant, asked.clone()).await.unwrap_err()
    ));
    // The token is valid for this upload only, and its principal can access it, too.
    let mine = harness.opened(TransferMode::Put, Some(5)).await;
    let found = harness.direct.find(&grant, &mine.object.key, None).await;
    assert!(matches!(found, Err(DirectError::NotFound)));
    harness
        .direct
        .find(&grant, &record.object.key, None)
        .await
        .unwrap();
    harness.find(&record.object.key, None).await;
    assert_eq!(harness.put(&record, "hello".into()).await, 200);
    harness.check(&record).await.unwrap();
    assert_eq!(harness.job(&record).await.state, JobState::Completed);

    let (grant, _) = harness.grant(None, None).await;
    let Requester::Token(job) = &grant else {
        panic!()
    };
    harness
        .queue
        .finish(job.id, JobEnd::Cancelled("no".into()))
        .await
        .unwrap();
    let error = harness
        .open(&grant, OpenRequest::new(TransferMode::Put, "a"))
        .await
        .unwrap_err();
    assert!(is_gone(&error), "{error}");

    // A denial for good ends the job, as that of an upload through the server does.
    let (grant, _) = harness.grant(Some(5), None).await;
    let Requester::Token(job) = &grant else {
        panic!()
    };
    let asked = OpenRequest::new(TransferMode::Put, "a");
    harness.hook.next("create", refuse("not that"));
    harness.open(&grant, asked.clone()).await.unwrap_err();
    let job = harness.queue.get(job.id).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert!(job.reason.unwrap().contains("not that"));
    let error = harness.open(&grant, asked).await.unwrap_err();
    assert!(is_gone(&error), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_survives_an_internal_error() {
    let harness = Harness::with(Service::Garage, |settings| {
        settings.objects.bucket = "there-is-none".into();
    })
    .await;
    let (grant, _) = harness.grant(Some(5), None).await;
    let asked = OpenRequest::new(TransferMode::Multipart, "a");
    for _ in 0..2 {
        harness.open(&grant, asked.clone()).await.unwrap_err();
        let Requester::Token(job) = &grant else {
            panic!()
        };
        let job = harness.queue.get(job.id).await.unwrap().unwrap();
        assert!(!job.state.is_terminal(), "{job:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_and_quotas_are_enforced() {
    let limits = GrantLimits {
        allowed_types: vec!["image/*".into()],
        require_size: true,
        ..GrantLimits::default()
    };
    for hook in [Script::default(), Script::silent()] {
        let rules = limits.clone();
        let change = |settings: &mut DirectSettings| settings.policies = vec![Arc::new(rules)];
        limits_hold(Harness::by(Service::Garage, hook, change).await).await;
    }
}

async fn limits_hold(harness: Harness) {
    let mut caller = Principal::new("alice");
    caller.limits.quota = Some(10);
    let alice = Requester::Principal(caller);
    let mut asked = OpenRequest::new(TransferMode::Put, "a.png");
    let error = harness.open(&alice, asked.clone()).await.unwrap_err();
    assert!(error.to_string().contains("size is required"), "{error}");
    asked.size = Some(8);
    let record = harness.open(&alice, asked.clone()).await.unwrap();
    assert_eq!(harness.used("alice").await, 8);
    let error = harness.open(&alice, asked.clone()).await.unwrap_err();
    let quota = LimitExceeded::Quota { quota: 10, used: 8 };
    assert!(
        matches!(&error, DirectError::LimitExceeded(refusal) if *refusal == quota),
        "{error}"
    );
    asked.filename = "a.html".into();
    let error = harness.open(&alice, asked.clone()).await.unwrap_err();
    assert!(error.to_string().contains("text/html"), "{error}");
    harness.cancel(&record).await.unwrap();
    assert_eq!(harness.used("alice").await, 0);
    for name in ["", "..", "a/"] {
        let error = harness
            .open(&alice, OpenRequest::new(TransferMode::Put, name))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                DirectError::Invalid {
                    field: "file_name",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_invalid_key_of_a_hook_opens_nothing() {
    let with_zero: fn(CreateDecision) -> CreateDecision =
        |creation| creation.storage("Key", "a\0b");
    let too_long: fn(CreateDecision) -> CreateDecision =
        |creation| creation.storage("Key", format!("end/{}", "k".repeat(1024)));
    for names in [with_zero, too_long] {
        let harness = harness().await;
        harness.hook.creation(names);
        for mode in [TransferMode::Put, TransferMode::Multipart] {
            let opened = harness
                .open(&alice(), OpenRequest::new(mode, "a.bin"))
                .await;
            assert!(
                matches!(opened, Err(DirectError::Internal(_))),
                "{opened:?}"
            );
        }
        // With a client key, a hook can still choose the bucket.
        harness
            .hook
            .creation(|creation| creation.storage("Bucket", "b\0"));
        let mut asked = OpenRequest::new(TransferMode::Put, "a.bin");
        asked.key = Some("own.bin".into());
        let opened = harness.open(&alice(), asked).await;
        assert!(
            matches!(opened, Err(DirectError::Internal(_))),
            "{opened:?}"
        );
        let looked_at = harness
            .repository
            .due_for_check(
                harness.queue.now() + Duration::from_secs(3600),
                Duration::ZERO,
                10,
            )
            .await;
        assert_eq!(looked_at.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_other_principals_are_not_found() {
    let harness = harness().await;
    let record = harness.opened(TransferMode::Multipart, None).await;
    let id = record.multipart.as_deref();
    let key = &record.object.key;
    // Cached or not.
    for _ in 0..2 {
        harness.find(key, id).await;
        for (requester, key, id) in [
            (requester("bob"), &**key, id),
            (requester("bob"), &**key, None),
            (alice(), "other", id),
            (alice(), &**key, Some("other")),
            (alice(), "a\0b", None),
            (requester(""), &**key, id),
        ] {
            let found = harness.direct.find(&requester, key, id).await;
            assert!(matches!(found, Err(DirectError::NotFound)), "{found:?}");
        }
        let id = harness.job(&record).await.request_id;
        let found = harness.direct.by_request(&requester("bob"), &id).await;
        assert!(matches!(found, Err(DirectError::NotFound)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_handler_is_an_internal_error() {
    let harness = harness().await;
    let alone = landfall_direct::Direct::new(
        landfall_direct::DirectSettings::new(
            std::sync::Arc::new(landfall_direct::S3Bucket::new(harness.client.clone())),
            &harness.bucket,
        ),
        harness.queue.clone(),
        harness.repository.clone(),
    );
    let asked = OpenRequest::new(TransferMode::Put, "a");
    let error = alone.open(&alice(), asked, &mut parts()).await.unwrap_err();
    assert!(matches!(error, DirectError::Internal(_)), "{error}");
}
