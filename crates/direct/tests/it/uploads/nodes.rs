//! Two nodes on one database and one bucket.

use std::sync::Arc;

use http::Method;
use landfall::event::EventKind;
use landfall_direct::{OpenRequest, SentHeaders, Status, TransferMode};
use landfall_state::queue::JobState;
use landfall_state::sql::Database;
use landfall_test_services::Postgres;

use super::harness::{Harness, LONG, MIB, Service, alice, is_gone, pattern, send};

/// Creates both nodes.
async fn nodes() -> (Arc<Harness>, Arc<Harness>) {
    let database = Database::Postgres(Postgres::shared().database("direct"));
    let folder = || tempfile::tempdir().unwrap();
    let one = Harness::at(Service::Garage, database.clone(), folder(), |_| {}).await;
    let bucket = one.bucket.clone();
    let change = |settings: &mut landfall_direct::DirectSettings| settings.objects.bucket = bucket;
    let other = Harness::at(Service::Garage, database, folder(), change).await;
    (Arc::new(one), Arc::new(other))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_can_be_completed_on_another_node() {
    let (one, other) = nodes().await;
    let bytes = pattern(1, 6 * MIB);
    let mut asked = OpenRequest::new(TransferMode::Multipart, "a.bin");
    asked.request_id = Some("7".into());
    let record = one.open(&alice(), asked.clone()).await.unwrap();
    let first = one.send_part(&record, 1, bytes.slice(..5 * MIB)).await;
    let there = other.open(&alice(), asked).await.unwrap();
    assert_eq!(
        (there.id(), &there.multipart),
        (record.id(), &record.multipart)
    );
    let second = other.send_part(&there, 2, bytes.slice(5 * MIB..)).await;
    let parts = [first, second];
    let (here, there) = tokio::join!(
        one.complete(&record, &parts),
        other.complete(&record, &parts)
    );
    assert_eq!(here.unwrap().etag, there.unwrap().etag);
    assert_eq!(one.job(&record).await.state, JobState::Completed);
    let completed = EventKind::Completed;
    let emitted = [&one, &other].map(|harness| harness.sink.kinds(record.id()));
    let emitted = emitted.iter().flatten().filter(|kind| **kind == completed);
    assert_eq!(emitted.count(), 1);
    let asked = one.hook.asked().len() + other.hook.asked().len();
    assert_eq!(asked, 2, "once at the beginning, once at the end");
}

/// Or on the same one after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_can_be_requested_again_on_another_node() {
    let (one, other) = nodes().await;
    let mut asked = OpenRequest::new(TransferMode::Put, "a");
    asked.headers = SentHeaders::ContentType;
    asked.request_id = Some("7".into());
    let record = one.open(&alice(), asked.clone()).await.unwrap();
    let there = other.open(&alice(), asked.clone()).await.unwrap();
    assert_eq!(
        (there.id(), &there.object, &there.upload),
        (record.id(), &record.object, &record.upload)
    );
    let sign = async |node: &Harness, record| {
        let put = node
            .direct
            .presign_upload(record, LONG, SentHeaders::ContentType);
        put.await.unwrap()
    };
    let signed = [sign(&one, &record).await, sign(&other, &there).await];
    for put in &signed {
        // Nobody has stated a type.
        assert!(put.headers.is_empty(), "{put:?}");
        let sent = send(Method::PUT, &put.url, &put.headers, "hello").await;
        assert_eq!(sent.0, 200);
    }
    let done = other.check(&there).await.unwrap();
    assert_eq!(one.check(&record).await.unwrap().etag, done.etag);
    let again = one.open(&alice(), asked).await.unwrap();
    assert_eq!((again.id(), again.status), (record.id(), Status::Completed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completion_and_cancellation_exclude_each_other() {
    let (one, other) = nodes().await;
    for _ in 0..4 {
        let record = one.opened(TransferMode::Multipart, None).await;
        let parts = [one.send_part(&record, 1, "hello".into()).await];
        let (done, cancelled) = tokio::join!(one.complete(&record, &parts), other.cancel(&record));
        let now = one.now(&record).await;
        match done {
            Ok(_) => {
                cancelled.unwrap_err();
                assert_eq!(now.status, Status::Completed);
                assert!(one.head(&record).await.is_some());
            }
            Err(error) => {
                cancelled.unwrap();
                assert!(is_gone(&error), "{error}");
                assert_eq!(now.status, Status::Removed);
                one.assert_nothing_of(&record).await;
            }
        }
        let job = one.job(&record).await.state;
        let is_done = now.status == Status::Completed;
        assert_eq!(job == JobState::Completed, is_done);
    }
}
