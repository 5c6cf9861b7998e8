//! The memory of a request, transfers that wait for memory, and offsets that memory does not have yet.

use std::{mem::size_of_val, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use landfall::{Composer, Config, Handler, store::MemoryStore};
use landfall_test_services::until;
use landfall_testkit::fault::{Fault, FaultStore, Faults, StoreCall};
use tokio::time::{Instant, sleep};
use tower_service::Service as _;

use crate::harness::{Open, Site};

/// A disk that hangs for this long keeps all memory.
const HANG: Duration = Duration::from_secs(30);

async fn begin(site: &Site, path: &str) -> Open {
    let patch = site.patching(path, 0).with("Content-Length", "10");
    let mut open = patch.open().await;
    open.write("hello").await;
    open
}

/// A slow client occupies the future of its request for a long time.
#[test]
fn the_future_of_a_request_is_small() {
    let mut handler = Handler::new(Config::new(MemoryStore::new())).unwrap();
    let request = Request::patch("/files/a").body(Full::new(Bytes::new()));
    let future = handler.call(request.unwrap());
    let size = size_of_val(&*future);
    // A size class of most allocators.
    assert!(size <= 5120, "{size} bytes");
}

/// Another node may have read it there, and acknowledged it to the client.
#[tokio::test]
async fn an_offset_in_the_store_counts_before_the_store_answers() {
    let faults = Faults::none();
    let store = FaultStore::new(MemoryStore::new(), faults.clone());
    let site = Site::start(Config::new(Composer::join(store)), None).await;
    let path = site.create(10).await;

    faults.plan(StoreCall::Write, Fault::Late(HANG));
    let _open = begin(&site, &path).await;
    until(async || faults.happened() == 1).await;
    assert_eq!(site.offset(&path).await, 5);

    // HEAD does not wait for a store that hangs, and reports no lower offset: clients wait after 423.
    faults.plan(StoreCall::Load, Fault::Slow(HANG));
    let begun = Instant::now();
    site.head(&path).await.expect(423);
    assert!(begun.elapsed() < HANG / 2);
}

#[tokio::test]
async fn transfer_waiting_for_memory_yields() {
    let faults = Faults::none();
    let store = FaultStore::new(MemoryStore::new(), faults.clone());
    let mut config = Config::new(Composer::join(store));
    // Memory for the bytes of one write.
    config.limits.max_buffered_bytes = 256 << 10;
    let site = Site::start(config, None).await;
    let (hanging, waiting) = (site.create(10).await, site.create(10).await);

    faults.plan(StoreCall::Write, Fault::Slow(HANG));
    let begun = Instant::now();
    let _hanging = begin(&site, &hanging).await;
    until(async || faults.happened() == 1).await;
    let mut first = begin(&site, &waiting).await;
    until(async || site.handler.stats().live_uploads == 2).await;
    // Wait until its bytes have arrived.
    sleep(Duration::from_millis(100)).await;

    // Another request continues the upload.
    let mut second = begin(&site, &waiting).await;
    first.reply().await.refused(423, "ERR_UPLOAD_INTERRUPTED");
    until(async || site.handler.stats().live_uploads == 2).await;
    sleep(Duration::from_millis(100)).await;
    // Another one removes it.
    site.delete(&waiting).await.expect(204);
    second.reply().await.refused(423, "ERR_UPLOAD_INTERRUPTED");
    assert!(begun.elapsed() < HANG, "they waited for the disk");
}
