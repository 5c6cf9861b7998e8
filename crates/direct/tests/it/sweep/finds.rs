//! What has arrived, and how far the rest is.

use std::time::Duration;

use http::{HeaderMap, Method};
use landfall::{
    event::EventKind::{self, Completed, Created},
    hook::Decision,
};
use landfall_direct::{Record, Standing, Way};
use landfall_grants::{JobState, queue::Scope};
use landfall_test_services::Proxy;
use tokio::sync::watch;

use super::site::{A_WHILE, Node, World, sweep};
use crate::{
    books::site::{Place, until},
    uploads::site::{Service, on_both, post, send},
};

const NOTHING: [EventKind; 0] = [];

on_both!(
    what_nobody_tells_is_found,
    the_bucket_may_tell_it,
    progress_is_seen,
    a_hook_that_is_down_is_asked_again,
);

async fn put(node: &Node, record: &Record) {
    let put = node
        .direct
        .put(record, Duration::from_secs(600), true)
        .await;
    let put = put.unwrap();
    let sent = send(Method::PUT, &put.url, &put.headers, &b"hello"[..]).await;
    assert_eq!(sent.0, 200);
}

async fn part(node: &Node, record: &Record, number: u32, bytes: Vec<u8>) -> (u32, String) {
    let url = node.direct.part(record, number).await.unwrap();
    let (status, headers, _) = send(Method::PUT, &url, &HeaderMap::new(), bytes).await;
    assert_eq!(status, 200);
    (number, headers["etag"].to_str().unwrap().to_owned())
}

async fn what_nobody_tells_is_found(service: Service) {
    let world = World::new(service, Place::sqlite());
    let node = world.node().await;
    let records = [
        node.open(Way::Put, Some(5)).await,
        node.open(Way::Post, None).await,
        node.open(Way::Multipart, None).await,
    ];
    put(&node, &records[0]).await;
    let form = node.direct.form(&records[1]).await.unwrap();
    assert_eq!(post(&form, b"hello").await.0, 201);
    // Completed past this server, or by one that died right after it.
    let parts = [part(&node, &records[2], 1, b"hello".to_vec()).await];
    let multipart = records[2].multipart.as_deref().unwrap();
    let completed = node
        .client
        .complete_multipart(&records[2].place, multipart, &parts);
    completed.await.unwrap();

    let swept = world.sweep_after(&node, A_WHILE).await;
    assert_eq!((swept.completed, swept.failed, swept.unknown), (3, 0, 0));
    for record in &records {
        let now = node.now(record).await;
        assert_eq!(now.standing, Standing::Finished);
        assert!(now.upload.completion.is_done());
        let job = node.job(record).await;
        assert_eq!((job.state, job.offset), (JobState::Completed, 5));
        assert_eq!(world.told(record), [Created, Completed]);
        assert!(node.has_object(record).await);
        // Whoever says so now hears the same, and nobody else hears anything.
        assert_eq!(node.direct.check(record, None).await.unwrap().size, 5);
    }
    let swept = world.sweep_after(&node, A_WHILE).await;
    assert_eq!(swept.seen, 0);
    for record in &records {
        assert_eq!(world.told(record), [Created, Completed]);
    }
    world.assert_settled().await;
}

async fn the_bucket_may_tell_it(service: Service) {
    let world = World::new(service, Place::sqlite());
    let node = world.node().await;
    let record = node.open(Way::Put, Some(5)).await;
    let (bucket, key) = (&record.place.bucket, &record.place.key);
    assert!(node.direct.on_notification(bucket, key).await.unwrap());
    assert_eq!(node.now(&record).await.standing, Standing::Open);
    put(&node, &record).await;
    assert!(
        !node
            .direct
            .on_notification(bucket, "another")
            .await
            .unwrap()
    );
    assert!(!node.direct.on_notification("another", key).await.unwrap());
    assert_eq!(world.told(&record), [Created]);
    // It is told at least once, and maybe at once with the sweeper.
    world.hands.go(A_WHILE);
    let (one, two, _) = tokio::join!(
        node.direct.on_notification(bucket, key),
        node.direct.on_notification(bucket, key),
        sweep(&node),
    );
    assert!(one.unwrap() && two.unwrap());
    assert!(node.direct.on_notification(bucket, key).await.unwrap());
    assert_eq!(world.told(&record), [Created, Completed]);
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

async fn progress_is_seen(service: Service) {
    const PART: usize = 5 << 20;
    let world = World::new(service, Place::sqlite());
    let node = world.node().await;
    let length = 2 * PART as u64;
    let mut events = node.queue.read_events(Scope::All, 0);
    let record = node.open(Way::Multipart, Some(length)).await;
    let first = part(&node, &record, 1, vec![1; PART]).await;
    world.sweep_after(&node, A_WHILE).await;
    until(async || node.job(&record).await.offset == length / 2).await;
    assert_eq!(node.job(&record).await.state, JobState::Progress);
    let now = node.now(&record).await;
    assert_eq!((now.standing, now.stored), (Standing::Open, length / 2));
    for kind in ["UploadStarted", "UploadProgress"] {
        assert_eq!(events.next().await.unwrap().event.kind.as_str(), kind);
    }
    // All of it is there, but only its client can say that this is all.
    let second = part(&node, &record, 2, vec![2; PART]).await;
    let swept = world.sweep_after(&node, A_WHILE).await;
    assert_eq!((swept.seen, swept.completed), (1, 0));
    until(async || node.job(&record).await.offset == length).await;
    let mut request = crate::uploads::site::parts();
    let done = node
        .direct
        .complete(&record, &[first, second], &mut request)
        .await;
    assert_eq!(done.unwrap().size, length);
    assert_eq!(node.job(&record).await.state, JobState::Completed);
    assert_eq!(world.told(&record), [Created, Completed]);
}

async fn a_hook_that_is_down_is_asked_again(service: Service) {
    let world = World::new(service, Place::sqlite());
    let node = world.node().await;
    let down = node.open(Way::Put, Some(5)).await;
    put(&node, &down).await;
    world.hook.next("finish", Err("nobody answers".into()));
    let swept = world.sweep_after(&node, Duration::from_secs(6)).await;
    assert_eq!((swept.completed, swept.unknown), (0, 1));
    assert_eq!(node.now(&down).await.standing, Standing::Finishing);
    assert!(!node.job(&down).await.state.is_terminal());
    let refused = node.open(Way::Put, Some(5)).await;
    put(&node, &refused).await;
    // Whichever is asked first of these two; the other one is allowed.
    let swept = world.sweep_after(&node, Duration::from_secs(61)).await;
    assert_eq!((swept.completed, swept.unknown), (2, 0));
    assert_eq!(world.told(&down), [Created, Completed]);
    // One that is refused is no more.
    let refused = node.open(Way::Put, Some(5)).await;
    put(&node, &refused).await;
    let answer = Decision::Deny(landfall::hook::ClientResponse::text(422, "a virus"));
    world.hook.next("finish", Ok(answer));
    let swept = world.sweep_after(&node, Duration::from_secs(61)).await;
    assert_eq!((swept.failed, swept.unknown), (1, 0));
    assert_eq!(node.job(&refused).await.state, JobState::Failed);
    node.assert_nothing_of(&refused).await;
    assert_ne!(world.told(&refused), NOTHING);
    world.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_s3_is_down_nothing_ends() {
    let world = World::new(Service::Garage, Place::sqlite());
    let proxy = Proxy::start(&world.access);
    let (node, straight) = (
        world.node_by(&world.access.via(&proxy), |_| {}).await,
        world.node().await,
    );
    let mut records = Vec::new();
    for _ in 0..5 {
        records.push(straight.open(Way::Put, Some(5)).await);
    }
    records.push(straight.open(Way::Multipart, Some(5)).await);
    for record in &records[..5] {
        put(&straight, record).await;
    }
    proxy.kill();
    world.hands.go(super::site::TOO_LONG);
    let swept = node.direct.sweep().await.unwrap();
    assert_eq!((swept.seen, swept.unknown), (6, 6));
    for record in &records {
        assert_eq!(node.now(record).await.standing, Standing::Open);
    }
    proxy.revive();
    let swept = world.sweep_after(&node, A_WHILE).await;
    assert_eq!((swept.completed, swept.expired, swept.unknown), (5, 1, 0));
}

async fn two_nodes(place: Place) {
    let world = World::new(Service::Garage, place);
    let nodes = [world.node().await, world.node().await];
    let mut records = Vec::new();
    for n in 0..24 {
        let record = nodes[n % 2].open(Way::Put, Some(5)).await;
        put(&nodes[0], &record).await;
        records.push(record);
    }
    world.hands.go(A_WHILE);
    let (one, two) = tokio::join!(sweep(&nodes[0]), sweep(&nodes[1]));
    println!("{one:?} {two:?}");
    assert_eq!(one.completed + two.completed, 24);
    assert_eq!(one.unknown + two.unknown, 0);
    for record in &records {
        assert_eq!(world.told(record), [Created, Completed]);
    }
    let asked = world.hook.asked();
    let finishes = asked.iter().filter(|asked| asked.starts_with("finish"));
    assert_eq!(finishes.count(), 24);
    world.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_sweep_at_once_complete_once() {
    two_nodes(Place::sqlite()).await;
    #[cfg(feature = "postgres")]
    two_nodes(Place::postgres()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_until_it_is_told_to_stop() {
    let world = World::new(Service::Garage, Place::sqlite());
    let interval = Duration::from_millis(50);
    let node = world
        .node_by(&world.access, |settings| settings.interval = interval)
        .await;
    let (stop, stopped) = watch::channel(false);
    let direct = node.direct.clone();
    let sweeper = tokio::spawn(async move { direct.sweep_forever(stopped).await });
    for _ in 0..3 {
        let record = node.open(Way::Put, Some(5)).await;
        put(&node, &record).await;
        until(async || node.now(&record).await.standing == Standing::Finished).await;
    }
    stop.send(true).unwrap();
    sweeper.await.unwrap();
}
