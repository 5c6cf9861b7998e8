//! Completion: once, after the hooks, also with concurrent or cancelled requests.

use std::{sync::Arc, time::Duration};

use http::{Method, header};
use landfall::{
    event::EventKind,
    hook::{ClientResponse, Decision},
};
use landfall_direct::{
    DirectError, DirectSettings, OpenRequest, SentHeaders, Status, TransferMode,
};
use landfall_state::queue::JobState;
use landfall_test_services::until;

use super::harness::{
    Harness, MIB, Service, is_conflict, is_gone, on, on_each, pattern, post, refuse, send,
};

on_each!(
    concurrent_completions_complete_once,
    a_hook_can_deny_the_completion,
    an_upload_stays_open_if_a_hook_fails,
    completion_continues_without_the_client,
    a_replaced_file_is_checked_again,
);

// Ceph wants all parts.
on!(garage_selects, Garage: a_subset_of_the_parts_can_be_completed);
on!(moto_selects, Moto: a_subset_of_the_parts_can_be_completed);

const CREATED: EventKind = EventKind::Created;
const COMPLETED: EventKind = EventKind::Completed;
const TERMINATED: EventKind = EventKind::Terminated;

async fn concurrent_completions_complete_once(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.opened(TransferMode::Multipart, None).await;
    let parts = [harness.send_part(&record, 1, "hello".into()).await];
    let (one, other) = tokio::join!(
        harness.complete(&record, &parts),
        harness.complete(&record, &parts)
    );
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(harness.emitted(&record), [CREATED, COMPLETED]);
    assert_eq!(harness.hook.asked(), ["create a file.bin", "finish 5"]);

    let record = harness.opened(TransferMode::Put, Some(5)).await;
    assert_eq!(harness.put(&record, "hello".into()).await, 200);
    let (one, other, third) = tokio::join!(
        harness.check(&record),
        harness.check(&record),
        harness.direct.check(&record, None)
    );
    assert_eq!(one.unwrap(), other.unwrap());
    third.unwrap();
    assert_eq!(harness.emitted(&record), [CREATED, COMPLETED]);
    assert_eq!(harness.hook.asked().len(), 4);
}

async fn a_hook_can_deny_the_completion(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.opened(TransferMode::Multipart, None).await;
    let parts = [harness.send_part(&record, 1, "a virus".into()).await];
    harness.hook.next("finish", refuse("a virus"));
    let error = harness.complete(&record, &parts).await.unwrap_err();
    let DirectError::Hook(declined) = error else {
        panic!("{error}");
    };
    assert_eq!(
        (declined.status.as_u16(), &*declined.message),
        (422, "a virus")
    );
    harness.assert_nothing_of(&record).await;
    let job = harness.job(&record).await;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(
        job.reason.as_deref(),
        Some("denied or stopped by a hook: 422 a virus")
    );
    assert_eq!(harness.emitted(&record), [CREATED, TERMINATED]);
    assert!(is_gone(
        &harness.complete(&record, &parts).await.unwrap_err()
    ));
    assert_eq!(harness.hook.asked().len(), 2, "it isn't asked again");
}

async fn an_upload_stays_open_if_a_hook_fails(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.opened(TransferMode::Put, Some(5)).await;
    assert_eq!(harness.put(&record, "hello".into()).await, 200);
    harness.hook.next("finish", Err("nobody at runtime".into()));
    let reply = ClientResponse::text(503, "later");
    harness.hook.next("finish", Ok(Decision::Fail(reply)));
    let thanks = ClientResponse::text(200, "thank you");
    harness
        .hook
        .next("finish", Ok(Decision::Allow(thanks.clone())));
    for _ in 0..2 {
        let error = harness.check(&record).await.unwrap_err();
        let DirectError::Hook(declined) = error else {
            panic!("{error}");
        };
        assert!(declined.cause.is_some());
        assert_eq!(harness.now(&record).await.status, Status::Completing);
        assert_eq!(harness.emitted(&record), [CREATED]);
        assert!(harness.head(&record).await.is_some());
    }
    let done = harness.check(&record).await.unwrap();
    assert_eq!(done.response, thanks);
    assert_eq!(harness.emitted(&record), [CREATED, COMPLETED]);
    let again = harness.check(&record).await.unwrap();
    assert_eq!(again.response, thanks);
    let ids: Vec<_> = harness
        .sink
        .prepared()
        .iter()
        .map(landfall::event::Event::id)
        .collect();
    assert_eq!(ids[1], ids[2], "it is the same event each time");
}

async fn completion_continues_without_the_client(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.opened(TransferMode::Multipart, None).await;
    let parts = [harness.send_part(&record, 1, "hello".into()).await];
    // The client disconnects right after the request.
    let asked = futures_util::poll!(Box::pin(harness.complete(&record, &parts)));
    assert!(asked.is_pending());
    until(async || harness.now(&record).await.status == Status::Completed).await;
    assert_eq!(harness.head(&record).await.unwrap().size, 5);
    harness.complete(&record, &parts).await.unwrap();
    assert_eq!(harness.emitted(&record), [CREATED, COMPLETED]);
}

async fn a_subset_of_the_parts_can_be_completed(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.opened(TransferMode::Multipart, None).await;
    let first = harness.send_part(&record, 1, pattern(1, 5 * MIB)).await;
    harness.send_part(&record, 2, pattern(2, 5 * MIB)).await;
    let third = harness.send_part(&record, 3, "end".into()).await;
    harness.hook.next("finish", Err("not now".into()));
    let parts = [first, third];
    let error = harness.complete(&record, &parts).await.unwrap_err();
    assert!(matches!(error, DirectError::Hook(_)), "{error}");
    assert_eq!(harness.now(&record).await.status, Status::Completing);
    let done = harness.complete(&record, &parts).await.unwrap();
    assert_eq!(done.size, 5 * MIB as u64 + 3);
    assert_eq!(harness.head(&record).await.unwrap().size, done.size);
    assert!(!done.record.upload.storage.contains_key("Parts"));
}

/// A form can be sent again while the hook examines the object.
async fn a_replaced_file_is_checked_again(service: Service) {
    let harness = Arc::new(Harness::on(service).await);
    let record = harness.opened(TransferMode::Post, Some(5)).await;
    let form = harness.direct.sign_post(&record).await.unwrap();
    assert_eq!(post(&form, b"clean").await.0, 201);
    let pause = harness.hook.pause();
    let check = {
        let (harness, record) = (harness.clone(), record.clone());
        tokio::spawn(async move { harness.check(&record).await })
    };
    pause.called.notified().await;
    assert_eq!(post(&form, b"virus").await.0, 201);
    pause.answer.notify_one();
    let error = check.await.unwrap().unwrap_err();
    assert!(is_conflict(&error), "{error}");
    assert_eq!(harness.now(&record).await.status, Status::Completing);
    assert_eq!(harness.emitted(&record), [CREATED]);
    // The hook is called for the new object, too.
    harness.hook.next("finish", refuse("a virus"));
    let error = harness.check(&record).await.unwrap_err();
    assert!(matches!(error, DirectError::Hook(_)), "{error}");
    harness.assert_nothing_of(&record).await;
    assert_eq!(harness.emitted(&record), [CREATED, TERMINATED]);
    assert_eq!(harness.hook.asked().len(), 3);
}

/// A PUT without a condition can be sent again, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_replaced_by_an_unconditional_put_is_checked_again() {
    let honors = |settings: &mut DirectSettings| settings.objects.conditional_writes = true;
    let harness = Arc::new(Harness::with(Service::Ceph, honors).await);
    let mut asked = OpenRequest::new(TransferMode::Put, "a.txt");
    asked.headers = SentHeaders::ContentType;
    let record = harness.of_alice(asked).await;
    let lifetime = Duration::from_secs(60);
    let put = harness
        .direct
        .presign_upload(&record, lifetime, SentHeaders::ContentType);
    let put = put.await.unwrap();
    let send_file = async |body: &'static str| {
        assert_eq!(send(Method::PUT, &put.url, &put.headers, body).await.0, 200);
    };
    send_file("clean").await;
    let pause = harness.hook.pause();
    let check = {
        let (harness, record) = (harness.clone(), record.clone());
        tokio::spawn(async move { harness.check(&record).await })
    };
    pause.called.notified().await;
    send_file("virus").await;
    pause.answer.notify_one();
    let error = check.await.unwrap().unwrap_err();
    assert!(is_conflict(&error), "{error}");
    assert_eq!(harness.emitted(&record), [CREATED]);
    let etag = harness.head(&record).await.unwrap().etag;
    assert_eq!(harness.check(&record).await.unwrap().etag, etag);
    assert_eq!(harness.emitted(&record), [CREATED, COMPLETED]);
}

/// A signed PUT writes once if the service honors conditions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_put_does_not_replace_a_file() {
    let honors = |settings: &mut DirectSettings| settings.objects.conditional_writes = true;
    let harness = Harness::with(Service::Moto, honors).await;
    let record = harness.opened(TransferMode::Put, Some(5)).await;
    let lifetime = Duration::from_secs(60);
    let put = harness
        .direct
        .presign_upload(&record, lifetime, SentHeaders::All)
        .await
        .unwrap();
    assert_eq!(put.headers[header::IF_NONE_MATCH], "*");
    assert!(put.url.contains("if-none-match"), "{}", put.url);
    let sent = send(Method::PUT, &put.url, &put.headers, "clean").await;
    assert_eq!(sent.0, 200);
    let done = harness.check(&record).await.unwrap();
    let sent = send(Method::PUT, &put.url, &put.headers, "virus").await;
    assert_eq!(sent.0, 412);
    assert_eq!(harness.head(&record).await.unwrap().etag, done.etag);

    // A client that does not know the type may not send the headers.
    let record = harness.opened(TransferMode::Put, Some(5)).await;
    let put = harness
        .direct
        .presign_upload(&record, lifetime, SentHeaders::Unknown)
        .await
        .unwrap();
    assert!(put.headers.is_empty(), "{:?}", put.headers);
    // If it is unknown whether the service honors it, it is not used: it would lock out clients.
    let harness = Harness::on(Service::Moto).await;
    let record = harness.opened(TransferMode::Put, Some(5)).await;
    let put = harness
        .direct
        .presign_upload(&record, lifetime, SentHeaders::All)
        .await
        .unwrap();
    assert!(!put.headers.contains_key(header::IF_NONE_MATCH));
}

/// A service that verifies signatures accepts a PUT only with the signed condition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_condition_is_signed() {
    let honors = |settings: &mut DirectSettings| settings.objects.conditional_writes = true;
    let harness = Harness::with(Service::Garage, honors).await;
    let record = harness.opened(TransferMode::Put, Some(5)).await;
    let put = harness
        .direct
        .presign_upload(&record, Duration::from_secs(60), SentHeaders::All)
        .await;
    let put = put.unwrap();
    let mut without = put.headers.clone();
    without.remove(header::IF_NONE_MATCH);
    let sent = send(Method::PUT, &put.url, &without, "hello").await;
    assert!(sent.0.is_client_error(), "{sent:?}");
    assert_eq!(
        send(Method::PUT, &put.url, &put.headers, "hello").await.0,
        200
    );
    assert_eq!(harness.check(&record).await.unwrap().size, 5);
}
