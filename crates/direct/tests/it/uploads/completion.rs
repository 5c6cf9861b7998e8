//! Cancelled and terminated uploads, and resolution of events.

use landfall::{
    Resolution,
    event::{EventKind, TerminationReason},
};
use landfall_direct::{DirectError, Record, Status, TransferMode};
use landfall_objects::Cloud as _;
use landfall_s3::client::{Condition, Payload};
use landfall_state::queue::{JobState, tracking};

use super::harness::{Harness, Service, long_ago, on_each, refuse};

on_each!(
    clients_can_cancel_uploads,
    applications_can_remove_uploads,
    prepared_events_are_resolved,
    objects_of_the_application_are_not_removed,
    an_interrupted_creation_can_be_repeated,
);

const CREATED: EventKind = EventKind::Created;
const TERMINATED: EventKind = EventKind::Terminated;

fn removal(harness: &Harness) -> Option<TerminationReason> {
    let events = harness.sink.events();
    let mut ends = events.iter().filter(|event| event.kind == TERMINATED);
    ends.next_back()?.reason
}

async fn clients_can_cancel_uploads(service: Service) {
    let harness = Harness::on(service).await;
    for mode in [TransferMode::Put, TransferMode::Multipart] {
        let record = harness.opened(mode, Some(5)).await;
        if mode == TransferMode::Multipart {
            harness.send_part(&record, 1, "hello".into()).await;
        } else {
            assert_eq!(harness.put(&record, "hello".into()).await, 200);
        }
        harness.hook.next("terminate", refuse("it is mine"));
        let error = harness.cancel(&record).await.unwrap_err();
        assert!(matches!(error, DirectError::Hook(_)), "{error}");
        assert_eq!(harness.now(&record).await.status, Status::Open);
        harness.cancel(&record).await.unwrap();
        harness.assert_nothing_of(&record).await;
        let job = harness.job(&record).await;
        assert_eq!(job.state, JobState::Cancelled);
        assert_eq!(job.reason.as_deref(), Some("by the client"));
        assert_eq!(harness.emitted(&record), [CREATED, TERMINATED]);
        assert_eq!(removal(&harness), Some(TerminationReason::Client));
        assert!(harness.handler.get(record.id()).await.unwrap().is_none());
        // Repeating it has no effect.
        harness.cancel(&record).await.unwrap();
        assert_eq!(harness.emitted(&record), [CREATED, TERMINATED]);
    }
}

async fn applications_can_remove_uploads(service: Service) {
    let harness = Harness::on(service).await;
    for mode in [TransferMode::Post, TransferMode::Multipart] {
        let record = harness.opened(mode, Some(5)).await;
        let job = harness.job(&record).await;
        let ended = tracking::cancel(&harness.queue, &harness.handler, &job, "no permit").await;
        assert!(ended.unwrap());
        harness.assert_nothing_of(&record).await;
        let job = harness.job(&record).await;
        assert_eq!(
            (job.state, job.reason.as_deref()),
            (JobState::Cancelled, Some("no permit"))
        );
        assert_eq!(harness.emitted(&record), [CREATED, TERMINATED]);
        assert_eq!(removal(&harness), Some(TerminationReason::Application));
        assert!(!harness.handler.remove(record.id()).await.unwrap());
    }
    // A completed upload can be removed as well.
    let record = harness.opened(TransferMode::Put, Some(5)).await;
    assert_eq!(harness.put(&record, "hello".into()).await, 200);
    harness.check(&record).await.unwrap();
    assert!(harness.handler.remove(record.id()).await.unwrap());
    harness.assert_nothing_of(&record).await;
    assert_eq!(harness.job(&record).await.state, JobState::Removed);
}

async fn prepared_events_are_resolved(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.opened(TransferMode::Put, Some(5)).await;
    let settle = async |kind| {
        let created = record.upload.created;
        harness
            .handler
            .resolve(kind, record.id(), created)
            .await
            .unwrap()
    };
    let happened = |outcome: &Resolution| matches!(outcome, Resolution::Happened(_));
    assert!(happened(&settle(EventKind::Created).await));
    assert!(matches!(
        settle(EventKind::Completed).await,
        Resolution::DidNotHappen
    ));
    assert!(matches!(settle(TERMINATED).await, Resolution::DidNotHappen));
    let other = harness
        .handler
        .resolve(EventKind::Created, record.id(), Some(long_ago()));
    assert!(
        matches!(other.await.unwrap(), Resolution::DidNotHappen),
        "it is another one of this name"
    );

    // Simulate a process that died before the completion was recorded.
    assert_eq!(harness.put(&record, "hello".into()).await, 200);
    harness.hook.next("finish", Err("the process dies".into()));
    harness.check(&record).await.unwrap_err();
    assert_eq!(harness.now(&record).await.status, Status::Completing);
    let Resolution::Happened(Some(found)) = settle(EventKind::Completed).await else {
        panic!("it is complete");
    };
    assert!(found.upload.completion.is_done() && found.is_complete());
    assert_eq!(harness.emitted(&record), [CREATED, EventKind::Completed]);
    assert!(happened(&settle(EventKind::Completed).await));
    assert_eq!(harness.emitted(&record), [CREATED, EventKind::Completed]);
    assert!(matches!(
        settle(EventKind::Expired).await,
        Resolution::DidNotHappen
    ));
    let none = landfall::upload::UploadId::new("direct-0f8fad5b-d9cb-469f-a165-70867728950e");
    let none = harness
        .handler
        .resolve(TERMINATED, &none.unwrap(), None)
        .await;
    assert!(matches!(none.unwrap(), Resolution::Happened(None)));
}

async fn an_interrupted_creation_can_be_repeated(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.opened(TransferMode::Multipart, None).await;
    // The client's earlier request got no response.
    let id = landfall::upload::UploadId::new("direct-0f8fad5b-d9cb-469f-a165-70867728950e");
    let upload = landfall::upload::Upload::new(id.unwrap(), None);
    let mut object = record.object.clone();
    object
        .key
        .push_str("-before-0f8fad5b-d9cb-469f-a165-70867728950e");
    let mut draft = Record::new(
        upload,
        record.job,
        "alice",
        TransferMode::Multipart,
        object,
        long_ago(),
    );
    draft.next_check_at = Some(long_ago());
    harness.repository.insert(&draft).await.unwrap();
    let object = landfall_s3::client::ObjectHeaders::default();
    harness
        .client
        .create_multipart(&draft.object, &object)
        .await
        .unwrap();
    let page = harness
        .client
        .list_multiparts(&harness.bucket, "", None, 10);
    assert_eq!(page.await.unwrap().uploads.len(), 2);
    harness.direct.sweep().await.unwrap();
    assert_eq!(harness.now(&draft).await.status, Status::Removed);
    harness.assert_nothing_of(&draft).await;
    assert_eq!(harness.job(&record).await.state, JobState::Started);
    let parts = [harness.send_part(&record, 1, "hello".into()).await];
    harness.complete(&record, &parts).await.unwrap();
}

/// A hook may have chosen a key that the application also uses.
async fn objects_of_the_application_are_not_removed(service: Service) {
    let harness = Harness::on(service).await;
    let record = harness.opened(TransferMode::Put, None).await;
    let id = landfall::upload::UploadId::new("direct-1f8fad5b-d9cb-469f-a165-70867728950e");
    let upload = landfall::upload::Upload::new(id.unwrap(), None);
    let mut object = record.object.clone();
    object.key = "avatar.png".into();
    // It ended, and its signatures expired, before the application wrote there.
    let mut ended = Record::new(
        upload,
        record.job,
        "alice",
        TransferMode::Put,
        object,
        long_ago(),
    );
    ended.status = Status::Removed;
    ended.next_check_at = Some(long_ago());
    harness.repository.insert(&ended).await.unwrap();
    let payload = Payload::new(vec!["of the application".into()], None);
    let headers = landfall_s3::client::ObjectHeaders::default();
    let put = harness
        .client
        .put_object(&ended.object, payload, &headers, Condition::None);
    put.await.unwrap();
    harness.direct.sweep().await.unwrap();
    harness.client.head_object(&ended.object).await.unwrap();
}
