//! Progress: once per interval, however the bytes come.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use landfall::{
    Composer, Config,
    event::{Event, EventKind, EventKinds, EventStream, TerminationReason, channel},
    hook::ClientResponse,
    store::MemoryStore,
};
use tokio::time::{sleep, timeout};

use crate::harness::Site;

const INTERVAL: Duration = Duration::from_millis(100);

async fn site() -> (Site, EventStream) {
    let (sink, events) = channel(EventKinds::ALL, 1000);
    let mut config = Config::new(Composer::join(MemoryStore::new()));
    config.sinks.push(Arc::new(sink));
    config.progress_interval = INTERVAL;
    (Site::start(config, None).await, events)
}

#[tokio::test]
async fn progress_of_many_short_requests_comes_once_per_interval() {
    let (site, mut events) = site().await;
    let path = site.create(300).await;
    let started = Instant::now();
    for n in 0..30 {
        site.patch(&path, n * 10, "0123456789").await.expect(204);
        sleep(Duration::from_millis(20)).await;
    }
    let took = started.elapsed();
    let mut offsets = Vec::new();
    loop {
        let event = timeout(Duration::from_secs(5), events.next()).await;
        let event = event.expect("no event comes").unwrap();
        match event.kind {
            EventKind::Progress => offsets.push(event.offset),
            EventKind::Completed => break,
            _ => {}
        }
    }
    let most = took.as_millis() / INTERVAL.as_millis() + 2;
    assert!(offsets.len() >= 3, "{offsets:?}");
    assert!(offsets.len() as u128 <= most, "{offsets:?} in {took:?}");
    assert!(offsets.is_sorted_by(|one, next| one < next), "{offsets:?}");
    assert_eq!(offsets.last(), Some(&300), "the last comes before the end");
}

#[tokio::test]
async fn a_request_that_went_silent_is_stopped() {
    let (site, mut events) = site().await;
    let path = site.create(10).await;
    let ask = site.patching(&path, 0).with("Content-Length", "10");
    let mut open = ask.open().await;
    open.write("hello").await;
    loop {
        let event = timeout(Duration::from_secs(5), events.next()).await;
        let event = event.expect("no progress comes").unwrap();
        if event.kind == EventKind::Progress {
            assert_eq!(event.offset, 5);
            event.stop(ClientResponse::default());
            break;
        }
    }
    let reply = timeout(Duration::from_secs(5), open.reply()).await;
    reply
        .expect("it isn't stopped")
        .refused(400, "ERR_UPLOAD_STOPPED");
    site.request("HEAD", &path).send().await.expect(404);
}

#[tokio::test]
async fn an_upload_between_two_requests_is_stopped() {
    let (site, mut events) = site().await;
    let path = site.create(10).await;
    site.patch(&path, 0, "hello").await.expect(204);
    while let Some(event) = next(&mut events).await {
        if event.kind == EventKind::Progress {
            event.stop(ClientResponse::default());
            break;
        }
    }
    let removed = next(&mut events).await.unwrap();
    assert_eq!(
        (removed.kind, removed.offset, removed.reason),
        (EventKind::Terminated, 5, Some(TerminationReason::Hook))
    );
    site.patch(&path, 5, "world").await.expect(404);
}

#[tokio::test]
async fn a_stop_after_the_last_byte_changes_nothing() {
    let (site, mut events) = site().await;
    let path = site.create(5).await;
    site.patch(&path, 0, "hello").await.expect(204);
    while let Some(event) = next(&mut events).await {
        if event.kind == EventKind::Progress {
            event.stop(ClientResponse::default());
            break;
        }
    }
    assert_eq!(next(&mut events).await.unwrap().kind, EventKind::Completed);
    sleep(INTERVAL).await;
    assert_eq!(site.bytes(&path).await, "hello");
}

/// Within one interval, whether it was answered or cut.
#[tokio::test]
async fn a_request_that_ends_without_completing_has_its_progress() {
    for is_cut in [false, true] {
        let (site, mut events) = site().await;
        let path = site.create(10).await;
        if is_cut {
            let mut open = site.open_patch(&path, 0, 10).await;
            open.write("hello").await;
        } else {
            site.patch(&path, 0, "hello").await.expect(204);
        }
        while let Some(event) = next(&mut events).await {
            if event.kind == EventKind::Progress {
                assert_eq!(event.offset, 5);
                break;
            }
        }
    }
}

async fn next(events: &mut EventStream) -> Option<Event> {
    let event = timeout(Duration::from_secs(5), events.next()).await;
    event.expect("no event comes")
}
