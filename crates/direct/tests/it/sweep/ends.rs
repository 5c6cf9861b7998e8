//! What nobody goes on with, and what isn't right.

use std::time::Duration;

use landfall::event::EventKind::{self, Created, Expired, Terminated};
use landfall::upload::{Upload, UploadId};
use landfall_database::DatabaseError;
use landfall_direct::{Asked, Record, Standing, Way, Who};
use landfall_grants::{
    JobState, Principal,
    queue::{GrantOutcome, NewJob, StartOutcome, StartRequest},
};
use landfall_s3::client::{ObjectHeaders, ObjectRef as Object};

use super::site::{A_WHILE, Node, TOO_LONG, World};
use crate::{
    books::site::Place,
    uploads::site::{Service, on_both, send},
};

on_both!(
    one_whose_client_vanishes_expires,
    what_comes_too_late_is_removed,
    too_many_bytes_end_it,
    a_multipart_upload_that_is_gone_has_failed,
    one_left_over_while_it_was_opened_goes,
    what_is_alive_is_left_alone_by_the_queue,
);

async fn part(node: &Node, record: &Record, number: u32, bytes: &'static [u8]) -> (u32, String) {
    let url = node.direct.part(record, number).await.unwrap();
    let none = http::HeaderMap::new();
    let (status, headers, body) = send(http::Method::PUT, &url, &none, bytes).await;
    assert_eq!(status, 200, "{body:?}");
    (number, headers["etag"].to_str().unwrap().to_owned())
}

async fn one_whose_client_vanishes_expires(service: Service) {
    let world = World::new(service, Place::sqlite());
    let node = world.node().await;
    let mut records = Vec::new();
    for way in [Way::Put, Way::Post, Way::Multipart, Way::SignedMultipart] {
        records.push(node.open(way, Some(50)).await);
    }
    part(&node, &records[2], 1, b"hello").await;
    let swept = world.sweep_after(&node, A_WHILE).await;
    assert_eq!((swept.seen, swept.expired, swept.unknown), (4, 0, 0));
    for record in &records {
        assert_eq!(node.now(record).await.standing, Standing::Open);
    }
    // What came at the first look counts as life: it has still its time.
    let swept = world.sweep_after(&node, TOO_LONG - A_WHILE).await;
    assert_eq!((swept.expired, swept.unknown), (3, 0));
    assert_eq!(node.now(&records[2]).await.standing, Standing::Open);
    let swept = world.sweep_after(&node, A_WHILE).await;
    assert_eq!((swept.expired, swept.unknown), (1, 0));
    for record in &records {
        assert_eq!(node.now(record).await.standing, Standing::Gone);
        assert_eq!(node.job(record).await.state, JobState::Expired);
        assert_eq!(world.told(record), [Created, Expired]);
        node.assert_nothing_of(record).await;
    }
    world.assert_settled().await;
    // Nothing is left to be looked at.
    world.sweep_after(&node, TOO_LONG).await;
    let left = "SELECT COUNT(*) FROM direct_uploads WHERE check_at IS NOT NULL";
    assert_eq!(world.number(left).await, 0);
}

async fn what_comes_too_late_is_removed(service: Service) {
    let world = World::new(service, Place::sqlite());
    let patience = Duration::from_secs(600);
    let node = world
        .node_by(&world.access, |settings| settings.patience = patience)
        .await;
    let records = [
        node.open(Way::Put, Some(5)).await,
        node.open(Way::Put, Some(5)).await,
    ];
    let mut signed = Vec::new();
    for record in &records {
        let put = node
            .direct
            .put(record, Duration::from_secs(3600), true)
            .await;
        signed.push(put.unwrap());
    }
    assert_eq!(world.sweep_after(&node, patience * 2).await.expired, 2);
    for put in &signed {
        let sent = send(http::Method::PUT, &put.url, &put.headers, &b"hello"[..]).await;
        assert_eq!(sent.0, 200);
    }
    // One is told of, the other is found.
    let place = &records[0].place;
    assert!(
        node.direct
            .on_notification(&place.bucket, &place.key)
            .await
            .unwrap()
    );
    assert!(!node.has_object(&records[0]).await);
    assert!(node.has_object(&records[1]).await);
    let swept = world
        .sweep_after(&node, Duration::from_secs(4 * 3600))
        .await;
    assert_eq!((swept.completed, swept.unknown), (0, 0));
    for record in &records {
        assert!(!node.has_object(record).await);
        assert_eq!(world.told(record), [Created, Expired]);
        assert_eq!(node.now(record).await.check_at, None);
    }
}

async fn too_many_bytes_end_it(service: Service) {
    let world = World::new(service, Place::sqlite());
    let node = world.node().await;
    let known = node.open(Way::Multipart, Some(4)).await;
    part(&node, &known, 1, b"hello").await;
    // Without a size beforehand, a PUT isn't bounded by S3.
    let mut caller = Principal::new("bob");
    caller.limits.max_size = Some(4);
    let unknown = node
        .open_for(&Who::Principal(caller), Asked::new(Way::Put, "b.bin"))
        .await;
    let put = node
        .direct
        .put(&unknown, Duration::from_secs(60), true)
        .await;
    let put = put.unwrap();
    let sent = send(http::Method::PUT, &put.url, &put.headers, &b"hello"[..]).await;
    assert_eq!(sent.0, 200);
    let swept = world.sweep_after(&node, A_WHILE).await;
    assert_eq!((swept.failed, swept.completed, swept.unknown), (2, 0, 0));
    for record in [&known, &unknown] {
        let job = node.job(record).await;
        assert_eq!(job.state, JobState::Failed);
        assert!(job.reason.unwrap().contains("5 bytes"));
        assert_eq!(world.told(record), [Created, Terminated]);
        node.assert_nothing_of(record).await;
    }
    world.assert_settled().await;
}

async fn a_multipart_upload_that_is_gone_has_failed(service: Service) {
    let world = World::new(service, Place::sqlite());
    let node = world.node().await;
    let record = node.open(Way::Multipart, Some(5)).await;
    let multipart = record.multipart.as_deref().unwrap();
    node.client
        .abort_multipart(&record.place, multipart)
        .await
        .unwrap();
    let swept = world.sweep_after(&node, A_WHILE).await;
    assert_eq!((swept.failed, swept.unknown), (1, 0));
    let job = node.job(&record).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.reason.unwrap().contains("gone from S3"));
    assert_eq!(world.told(&record), [Created, Terminated]);
    world.assert_settled().await;
}

/// One whose process died right after it had begun the multipart upload, twice.
async fn one_left_over_while_it_was_opened_goes(service: Service) {
    let world = World::new(service, Place::sqlite());
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
    let place = Object::new(&world.bucket, "uploads/left");
    let now = node.queue.now();
    let record = Record::new(upload, job.id, "alice", Way::Multipart, place.clone(), now);
    node.books.add(&record).await.unwrap();
    let again = node.books.add(&record).await;
    assert!(matches!(again, Err(DatabaseError::Row(_))));
    let others = Object::new(&world.bucket, "uploads/left-is-not-this");
    for place in [&place, &place, &others] {
        let none = ObjectHeaders::default();
        node.client.create_multipart(place, &none).await.unwrap();
    }
    // It may be under way.
    let swept = world.sweep_after(&node, Duration::from_secs(2)).await;
    assert_eq!((swept.failed, swept.unknown), (0, 0));
    assert_eq!(node.now(&record).await.standing, Standing::Opening);
    let swept = world.sweep_after(&node, Duration::from_secs(61)).await;
    assert_eq!((swept.failed, swept.unknown), (1, 0));
    assert_eq!(node.now(&record).await.standing, Standing::Gone);
    assert_eq!(node.job(&record).await.state, JobState::Failed);
    let left = node.multiparts(&world.bucket, "uploads/left").await;
    assert_eq!(left, [others.key]);
    let none: [EventKind; 0] = [];
    assert_eq!(world.told(&record), none);
    world.assert_settled().await;
}

async fn what_is_alive_is_left_alone_by_the_queue(service: Service) {
    let world = World::new(service, Place::sqlite());
    let node = world.node().await;
    let alive = [
        node.open(Way::Put, Some(5)).await,
        node.open(Way::Multipart, Some(50)).await,
    ];
    part(&node, &alive[1], 1, b"hello").await;
    let gone = node.open(Way::Multipart, Some(50)).await;
    part(&node, &gone, 1, b"hello").await;
    world.sweep_after(&node, A_WHILE).await;
    // Its process died before the queue heard of its end.
    let mut dead = node.now(&gone).await;
    dead.standing = Standing::Gone;
    dead.check_at = Some(node.queue.now());
    assert!(node.books.update(&mut dead).await.unwrap());
    crate::books::site::until(async || node.job(&gone).await.offset == 5).await;
    let found = node.reconcile().await;
    assert_eq!((found.ended, found.failed), (1, 0));
    assert_eq!(node.job(&gone).await.state, JobState::Failed);
    for record in &alive {
        assert!(!node.job(record).await.state.is_terminal());
    }
    // Nothing of it was removed then, but is now.
    world.sweep_after(&node, A_WHILE).await;
    node.assert_nothing_of(&gone).await;
    // Also when it is late: it is the sweeper who gives up.
    world.hands.go(Duration::from_secs(2 * 3600));
    assert_eq!(node.reconcile().await.ended, 0);
    world.sweep_after(&node, TOO_LONG).await;
    for record in &alive {
        assert_eq!(node.job(record).await.state, JobState::Expired);
    }
    world.assert_settled().await;
}
