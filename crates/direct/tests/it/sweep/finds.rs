//! Detection of completed uploads and of progress.

use landfall_objects::{Cloud as _, ObjectHeaders};
use std::time::Duration;

use http::{HeaderMap, Method};
use landfall::{
    event::EventKind::{self, Completed, Created},
    hook::Decision,
};
use landfall_direct::{Record, SentHeaders, Status, TransferMode};
use landfall_state::queue::{JobState, Scope};
use landfall_test_services::Proxy;
use tokio::sync::watch;

use super::harness::{MAX_CHECK_DELAY, Node, World, sweep};
use crate::{
    repository::harness::{TestDatabase, until},
    uploads::harness::{Service, on_each, post, send},
};

const NOTHING: [EventKind; 0] = [];

on_each!(
    unreported_completions_are_found,
    notifications_trigger_completion,
    progress_is_emitted,
    a_failed_hook_is_called_again,
);

async fn put(node: &Node, record: &Record) {
    let put = node
        .direct
        .presign_upload(record, Duration::from_secs(600), SentHeaders::All)
        .await;
    let put = put.unwrap();
    let sent = send(Method::PUT, &put.url, &put.headers, &b"hello"[..]).await;
    assert_eq!(sent.0, 200);
}

async fn part(node: &Node, record: &Record, number: u32, bytes: Vec<u8>) -> (u32, String) {
    let url = node.direct.presign_part(record, number).await.unwrap();
    let (status, headers, _) = send(Method::PUT, &url, &HeaderMap::new(), bytes).await;
    assert_eq!(status, 200);
    (number, headers["etag"].to_str().unwrap().to_owned())
}

async fn unreported_completions_are_found(service: Service) {
    let world = World::new(service, TestDatabase::sqlite());
    let node = world.node().await;
    let records = [
        node.open(TransferMode::Put, Some(5)).await,
        node.open(TransferMode::Post, None).await,
        node.open(TransferMode::Multipart, None).await,
    ];
    put(&node, &records[0]).await;
    let form = node.direct.sign_post(&records[1]).await.unwrap();
    assert_eq!(post(&form, b"hello").await.0, 201);
    // Completed without this server, or by a process that died right after it.
    let parts = [part(&node, &records[2], 1, b"hello".to_vec()).await];
    let multipart = records[2].multipart.as_deref().unwrap();
    let (client, none) = (&node.client, ObjectHeaders::default());
    let completed = client.complete_multipart(&records[2].object, multipart, &parts, &none);
    completed.await.unwrap();

    let report = world.sweep_after(&node, MAX_CHECK_DELAY).await;
    assert_eq!(
        (report.completed, report.failed, report.check_failures),
        (3, 0, 0)
    );
    for record in &records {
        let now = node.now(record).await;
        assert_eq!(now.status, Status::Completed);
        assert!(now.upload.completion.is_done());
        let job = node.job(record).await;
        assert_eq!((job.state, job.offset), (JobState::Completed, 5));
        assert_eq!(world.emitted(record), [Created, Completed]);
        assert!(node.has_object(record).await);
        // A later completion request gets the same response, and no event is emitted.
        assert_eq!(node.direct.check(record, None).await.unwrap().size, 5);
    }
    let report = world.sweep_after(&node, MAX_CHECK_DELAY).await;
    assert_eq!(report.examined, 0);
    for record in &records {
        assert_eq!(world.emitted(record), [Created, Completed]);
    }
    world.assert_settled().await;
}

async fn notifications_trigger_completion(service: Service) {
    let world = World::new(service, TestDatabase::sqlite());
    let node = world.node().await;
    let record = node.open(TransferMode::Put, Some(5)).await;
    let (bucket, key) = (&record.object.bucket, &record.object.key);
    assert!(node.direct.on_notification(bucket, key).await.unwrap());
    assert_eq!(node.now(&record).await.status, Status::Open);
    put(&node, &record).await;
    assert!(
        !node
            .direct
            .on_notification(bucket, "another")
            .await
            .unwrap()
    );
    assert!(!node.direct.on_notification("another", key).await.unwrap());
    assert_eq!(world.emitted(&record), [Created]);
    // Notifications are delivered at least once, maybe concurrently with the sweeper.
    world.hands.go(MAX_CHECK_DELAY);
    let (one, two, _) = tokio::join!(
        node.direct.on_notification(bucket, key),
        node.direct.on_notification(bucket, key),
        sweep(&node),
    );
    assert!(one.unwrap() && two.unwrap());
    assert!(node.direct.on_notification(bucket, key).await.unwrap());
    assert_eq!(world.emitted(&record), [Created, Completed]);
    assert_eq!(
        world
            .hook
            .asked()
            .iter()
            .filter(|asked| asked.starts_with("finish"))
            .count(),
        1
    );
}

async fn progress_is_emitted(service: Service) {
    const PART: usize = 5 << 20;
    let world = World::new(service, TestDatabase::sqlite());
    let node = world.node().await;
    let length = 2 * PART as u64;
    let mut events = node.queue.read_events(Scope::All, 0);
    let record = node.open(TransferMode::Multipart, Some(length)).await;
    let first = part(&node, &record, 1, vec![1; PART]).await;
    world.sweep_after(&node, MAX_CHECK_DELAY).await;
    until(async || node.job(&record).await.offset == length / 2).await;
    assert_eq!(node.job(&record).await.state, JobState::Progress);
    let now = node.now(&record).await;
    assert_eq!((now.status, now.stored), (Status::Open, length / 2));
    for kind in ["UploadStarted", "UploadProgress"] {
        assert_eq!(events.next().await.unwrap().event.kind.as_str(), kind);
    }
    // All parts arrived, but only the client can complete the upload.
    let second = part(&node, &record, 2, vec![2; PART]).await;
    let report = world.sweep_after(&node, MAX_CHECK_DELAY).await;
    assert_eq!((report.examined, report.completed), (1, 0));
    until(async || node.job(&record).await.offset == length).await;
    let mut request = crate::uploads::harness::parts();
    let done = node
        .direct
        .complete(&record, &[first, second], &mut request)
        .await;
    assert_eq!(done.unwrap().size, length);
    assert_eq!(node.job(&record).await.state, JobState::Completed);
    assert_eq!(world.emitted(&record), [Created, Completed]);
}

async fn a_failed_hook_is_called_again(service: Service) {
    let world = World::new(service, TestDatabase::sqlite());
    let node = world.node().await;
    let down = node.open(TransferMode::Put, Some(5)).await;
    put(&node, &down).await;
    world.hook.next("finish", Err("nobody answers".into()));
    let report = world.sweep_after(&node, Duration::from_secs(6)).await;
    assert_eq!((report.completed, report.check_failures), (0, 1));
    assert_eq!(node.now(&down).await.status, Status::Completing);
    assert!(!node.job(&down).await.state.is_terminal());
    let refused = node.open(TransferMode::Put, Some(5)).await;
    put(&node, &refused).await;
    // The hook fails for the first upload and allows the second.
    let report = world.sweep_after(&node, Duration::from_secs(61)).await;
    assert_eq!((report.completed, report.check_failures), (2, 0));
    assert_eq!(world.emitted(&down), [Created, Completed]);
    // A denied upload is removed.
    let refused = node.open(TransferMode::Put, Some(5)).await;
    put(&node, &refused).await;
    let answer = Decision::Deny(landfall::hook::ClientResponse::text(422, "a virus"));
    world.hook.next("finish", Ok(answer));
    let report = world.sweep_after(&node, Duration::from_secs(61)).await;
    assert_eq!((report.failed, report.check_failures), (1, 0));
    assert_eq!(node.job(&refused).await.state, JobState::Failed);
    node.assert_nothing_of(&refused).await;
    assert_ne!(world.emitted(&refused), NOTHING);
    world.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_do_not_end_while_s3_is_unavailable() {
    let world = World::new(Service::Garage, TestDatabase::sqlite());
    let proxy = Proxy::start(&world.access);
    let (node, straight) = (
        world
            .node_by(&world.access.through_proxy(&proxy), |_| {})
            .await,
        world.node().await,
    );
    let mut records = Vec::new();
    for _ in 0..5 {
        records.push(straight.open(TransferMode::Put, Some(5)).await);
    }
    records.push(straight.open(TransferMode::Multipart, Some(5)).await);
    for record in &records[..5] {
        put(&straight, record).await;
    }
    proxy.kill();
    world.hands.go(super::harness::AFTER_IDLE_TIMEOUT);
    let report = node.direct.sweep().await.unwrap();
    assert_eq!((report.examined, report.check_failures), (6, 6));
    for record in &records {
        assert_eq!(node.now(record).await.status, Status::Open);
    }
    proxy.revive();
    let report = world.sweep_after(&node, MAX_CHECK_DELAY).await;
    assert_eq!(
        (report.completed, report.expired, report.check_failures),
        (5, 1, 0)
    );
}

async fn two_nodes(object: TestDatabase) {
    let world = World::new(Service::Garage, object);
    let nodes = [world.node().await, world.node().await];
    let mut records = Vec::new();
    for n in 0..24 {
        let record = nodes[n % 2].open(TransferMode::Put, Some(5)).await;
        put(&nodes[0], &record).await;
        records.push(record);
    }
    world.hands.go(MAX_CHECK_DELAY);
    let (one, two) = tokio::join!(sweep(&nodes[0]), sweep(&nodes[1]));
    println!("{one:?} {two:?}");
    assert_eq!(one.completed + two.completed, 24);
    assert_eq!(one.check_failures + two.check_failures, 0);
    for record in &records {
        assert_eq!(world.emitted(record), [Created, Completed]);
    }
    let asked = world.hook.asked();
    let finishes = asked.iter().filter(|asked| asked.starts_with("finish"));
    assert_eq!(finishes.count(), 24);
    world.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_sweeps_complete_an_upload_once() {
    two_nodes(TestDatabase::sqlite()).await;
    #[cfg(feature = "postgres")]
    two_nodes(TestDatabase::postgres()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweeper_runs_until_it_is_stopped() {
    let world = World::new(Service::Garage, TestDatabase::sqlite());
    let interval = Duration::from_millis(50);
    let node = world
        .node_by(&world.access, |settings| settings.check_interval = interval)
        .await;
    let (stop, stopped) = watch::channel(false);
    let direct = node.direct.clone();
    let sweeper = tokio::spawn(async move { direct.sweep_forever(stopped).await });
    for _ in 0..3 {
        let record = node.open(TransferMode::Put, Some(5)).await;
        put(&node, &record).await;
        until(async || node.now(&record).await.status == Status::Completed).await;
    }
    stop.send(true).unwrap();
    sweeper.await.unwrap();
}
