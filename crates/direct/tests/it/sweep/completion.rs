//! Abandoned, invalid and late uploads.

use std::time::Duration;

use landfall::{
    event::EventKind::{self, Created, Expired, Terminated},
    upload::{Upload, UploadId},
};
use landfall_direct::{OpenRequest, Record, Requester, SentHeaders, Status, TransferMode};
use landfall_objects::Cloud as _;
use landfall_s3::client::{ObjectHeaders, ObjectRef as Object};
use landfall_state::queue::{
    GrantOutcome, JobState, NewJob, Principal, StartOutcome, StartRequest,
};
use landfall_state::sql::DatabaseError;

use super::harness::{AFTER_IDLE_TIMEOUT, MAX_CHECK_DELAY, Node, World};
use crate::{
    repository::harness::TestDatabase,
    uploads::harness::{Service, on_each, send},
};

on_each!(
    inactive_uploads_expire,
    late_objects_are_removed,
    too_large_uploads_are_removed,
    an_upload_fails_if_its_multipart_upload_is_missing,
    uploads_in_creation_are_removed_after_a_crash,
    the_queue_does_not_expire_active_uploads,
);

async fn part(node: &Node, record: &Record, number: u32, bytes: &'static [u8]) -> (u32, String) {
    let url = node.direct.presign_part(record, number).await.unwrap();
    let none = http::HeaderMap::new();
    let (status, headers, body) = send(http::Method::PUT, &url, &none, bytes).await;
    assert_eq!(status, 200, "{body:?}");
    (number, headers["etag"].to_str().unwrap().to_owned())
}

async fn inactive_uploads_expire(service: Service) {
    let world = World::new(service, TestDatabase::sqlite());
    let node = world.node().await;
    let mut records = Vec::new();
    for mode in [
        TransferMode::Put,
        TransferMode::Post,
        TransferMode::Multipart,
        TransferMode::SignedMultipart,
    ] {
        records.push(node.open(mode, Some(50)).await);
    }
    part(&node, &records[2], 1, b"hello").await;
    let report = world.sweep_after(&node, MAX_CHECK_DELAY).await;
    assert_eq!(
        (report.examined, report.expired, report.check_failures),
        (4, 0, 0)
    );
    for record in &records {
        assert_eq!(node.now(record).await.status, Status::Open);
    }
    // Bytes found by the first check count as activity: the timeout starts again.
    let report = world
        .sweep_after(&node, AFTER_IDLE_TIMEOUT - MAX_CHECK_DELAY)
        .await;
    assert_eq!((report.expired, report.check_failures), (3, 0));
    assert_eq!(node.now(&records[2]).await.status, Status::Open);
    let report = world.sweep_after(&node, MAX_CHECK_DELAY).await;
    assert_eq!((report.expired, report.check_failures), (1, 0));
    for record in &records {
        assert_eq!(node.now(record).await.status, Status::Removed);
        assert_eq!(node.job(record).await.state, JobState::Expired);
        assert_eq!(world.emitted(record), [Created, Expired]);
        node.assert_nothing_of(record).await;
    }
    world.assert_settled().await;
    // No check is due any more.
    world.sweep_after(&node, AFTER_IDLE_TIMEOUT).await;
    let left = "SELECT COUNT(*) FROM direct_uploads WHERE next_check_at IS NOT NULL";
    assert_eq!(world.number(left).await, 0);
}

async fn late_objects_are_removed(service: Service) {
    let world = World::new(service, TestDatabase::sqlite());
    let idle_timeout = Duration::from_secs(600);
    let node = world
        .node_by(&world.access, |settings| {
            settings.idle_timeout = idle_timeout
        })
        .await;
    let records = [
        node.open(TransferMode::Put, Some(5)).await,
        node.open(TransferMode::Put, Some(5)).await,
    ];
    let mut signed = Vec::new();
    for record in &records {
        let put = node
            .direct
            .presign_upload(record, Duration::from_secs(3600), SentHeaders::All)
            .await;
        signed.push(put.unwrap());
    }
    assert_eq!(world.sweep_after(&node, idle_timeout * 2).await.expired, 2);
    for put in &signed {
        let sent = send(http::Method::PUT, &put.url, &put.headers, &b"hello"[..]).await;
        assert_eq!(sent.0, 200);
    }
    // One is reported, the other is found.
    let object = &records[0].object;
    assert!(
        node.direct
            .on_notification(&object.bucket, &object.key)
            .await
            .unwrap()
    );
    assert!(!node.has_object(&records[0]).await);
    assert!(node.has_object(&records[1]).await);
    let report = world
        .sweep_after(&node, Duration::from_secs(4 * 3600))
        .await;
    assert_eq!((report.completed, report.check_failures), (0, 0));
    for record in &records {
        assert!(!node.has_object(record).await);
        assert_eq!(world.emitted(record), [Created, Expired]);
        assert_eq!(node.now(record).await.next_check_at, None);
    }
}

async fn too_large_uploads_are_removed(service: Service) {
    let world = World::new(service, TestDatabase::sqlite());
    let node = world.node().await;
    let known = node.open(TransferMode::Multipart, Some(4)).await;
    part(&node, &known, 1, b"hello").await;
    // Without a size, S3 does not limit a PUT.
    let mut caller = Principal::new("bob");
    caller.limits.max_size = Some(4);
    let unknown = node
        .open_for(
            &Requester::Principal(caller),
            OpenRequest::new(TransferMode::Put, "b.bin"),
        )
        .await;
    let put = node
        .direct
        .presign_upload(&unknown, Duration::from_secs(60), SentHeaders::All)
        .await;
    let put = put.unwrap();
    let sent = send(http::Method::PUT, &put.url, &put.headers, &b"hello"[..]).await;
    assert_eq!(sent.0, 200);
    let report = world.sweep_after(&node, MAX_CHECK_DELAY).await;
    assert_eq!(
        (report.failed, report.completed, report.check_failures),
        (2, 0, 0)
    );
    for record in [&known, &unknown] {
        let job = node.job(record).await;
        assert_eq!(job.state, JobState::Failed);
        assert!(job.reason.unwrap().contains("5 bytes"));
        assert_eq!(world.emitted(record), [Created, Terminated]);
        node.assert_nothing_of(record).await;
    }
    world.assert_settled().await;
}

async fn an_upload_fails_if_its_multipart_upload_is_missing(service: Service) {
    let world = World::new(service, TestDatabase::sqlite());
    let node = world.node().await;
    let record = node.open(TransferMode::Multipart, Some(5)).await;
    let multipart = record.multipart.as_deref().unwrap();
    node.client
        .abort_multipart(&record.object, multipart)
        .await
        .unwrap();
    let report = world.sweep_after(&node, MAX_CHECK_DELAY).await;
    assert_eq!((report.failed, report.check_failures), (1, 0));
    let job = node.job(&record).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.reason.unwrap().contains("missing in the bucket"));
    assert_eq!(world.emitted(&record), [Created, Terminated]);
    world.assert_settled().await;
}

/// The process died right after it had created the multipart upload, twice.
async fn uploads_in_creation_are_removed_after_a_crash(service: Service) {
    let world = World::new(service, TestDatabase::sqlite());
    let node = world.node().await;
    let mut new = NewJob::new("alice", "r1", "x");
    new.size = Some(5);
    let GrantOutcome::Created(job, _) = node.queue.grant(new).await.unwrap() else {
        panic!("not granted");
    };
    let id = UploadId::new("direct-0d4d4f3a-6b0e-4c62-9b4e-0f5d1c2b3a49").unwrap();
    let start = StartRequest::new(id.clone(), Some(5), "d");
    assert_eq!(
        node.queue.start(job.id, start).await.unwrap(),
        StartOutcome::Bound
    );
    let mut upload = Upload::new(id, Some(5));
    upload.created = Some(node.queue.now());
    let object = Object::new(&world.bucket, "uploads/left");
    let now = node.queue.now();
    let record = Record::new(
        upload,
        job.id,
        "alice",
        TransferMode::Multipart,
        object.clone(),
        now,
    );
    node.repository.insert(&record).await.unwrap();
    let again = node.repository.insert(&record).await;
    assert!(matches!(again, Err(DatabaseError::InvalidRow(_))));
    let others = Object::new(&world.bucket, "uploads/left-is-not-this");
    for object in [&object, &object, &others] {
        let none = ObjectHeaders::default();
        node.client.create_multipart(object, &none).await.unwrap();
    }
    // It may still be in progress.
    let report = world.sweep_after(&node, Duration::from_secs(2)).await;
    assert_eq!((report.failed, report.check_failures), (0, 0));
    assert_eq!(node.now(&record).await.status, Status::Creating);
    let report = world.sweep_after(&node, Duration::from_secs(61)).await;
    assert_eq!((report.failed, report.check_failures), (1, 0));
    assert_eq!(node.now(&record).await.status, Status::Removed);
    assert_eq!(node.job(&record).await.state, JobState::Failed);
    let left = node.multiparts(&world.bucket, "uploads/left").await;
    assert_eq!(left, [others.key]);
    let none: [EventKind; 0] = [];
    assert_eq!(world.emitted(&record), none);
    world.assert_settled().await;
}

async fn the_queue_does_not_expire_active_uploads(service: Service) {
    let world = World::new(service, TestDatabase::sqlite());
    let node = world.node().await;
    let alive = [
        node.open(TransferMode::Put, Some(5)).await,
        node.open(TransferMode::Multipart, Some(50)).await,
    ];
    part(&node, &alive[1], 1, b"hello").await;
    let gone = node.open(TransferMode::Multipart, Some(50)).await;
    part(&node, &gone, 1, b"hello").await;
    world.sweep_after(&node, MAX_CHECK_DELAY).await;
    // The process died before it recorded the end of the job.
    let mut dead = node.now(&gone).await;
    dead.status = Status::Removed;
    dead.next_check_at = Some(node.queue.now());
    assert!(node.repository.update(&mut dead).await.unwrap());
    crate::repository::harness::until(async || node.job(&gone).await.offset == 5).await;
    let found = node.reconcile().await;
    assert_eq!((found.ended, found.failed), (1, 0));
    assert_eq!(node.job(&gone).await.state, JobState::Failed);
    for record in &alive {
        assert!(!node.job(record).await.state.is_terminal());
    }
    // Its data was not removed then, but now.
    world.sweep_after(&node, MAX_CHECK_DELAY).await;
    node.assert_nothing_of(&gone).await;
    // The sweeper, and not the queue, expires late uploads.
    world.hands.go(Duration::from_secs(2 * 3600));
    assert_eq!(node.reconcile().await.ended, 0);
    world.sweep_after(&node, AFTER_IDLE_TIMEOUT).await;
    for record in &alive {
        assert_eq!(node.job(record).await.state, JobState::Expired);
    }
    world.assert_settled().await;
}
