//! Transfers that wait for memory.

use std::time::Duration;

use landfall::{Composer, Config, store::MemoryStore};
use landfall_testkit::fault::{Fault, FaultStore, Faults, StoreCall};
use tokio::time::{Instant, sleep};

use crate::harness::{Open, Site};

/// A disk that hangs for this long keeps all memory.
const HANG: Duration = Duration::from_secs(30);

async fn until(what: impl Fn() -> bool) {
    while !what() {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn begin(site: &Site, path: &str) -> Open {
    let patch = site.patching(path, 0).with("Content-Length", "10");
    let mut open = patch.open().await;
    open.write("hello").await;
    open
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
    until(|| faults.happened() == 1).await;
    let mut first = begin(&site, &waiting).await;
    until(|| site.handler.stats().live_uploads == 2).await;
    // Wait until its bytes have arrived.
    sleep(Duration::from_millis(100)).await;

    // Another request continues the upload.
    let mut second = begin(&site, &waiting).await;
    first.reply().await.refused(423, "ERR_UPLOAD_INTERRUPTED");
    until(|| site.handler.stats().live_uploads == 2).await;
    sleep(Duration::from_millis(100)).await;
    // Another one removes it.
    site.delete(&waiting).await.expect(204);
    second.reply().await.refused(423, "ERR_UPLOAD_INTERRUPTED");
    assert!(begun.elapsed() < HANG, "they waited for the disk");
}
