//! A locker that begins to count anew with every start, and a store that remembers fences.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use landfall::{
    Composer, Config, Handler, LocationStyle,
    lease::{Fence, Lease, LeaseError, Locker, MemoryLocker},
    store::MemoryStore,
    upload::UploadId,
};
use landfall_testkit::{locker, test_data};

use super::client::{self, Sent};

/// A locker whose fences count from a given number.
#[derive(Debug)]
struct CountingLocker {
    inner: MemoryLocker,
    newest: AtomicU64,
}

impl CountingLocker {
    fn starting_at(first: u64) -> Self {
        Self {
            inner: MemoryLocker::new(),
            newest: AtomicU64::new(first),
        }
    }

    fn number(&self, lease: Lease) -> Lease {
        let fence = Fence(self.newest.fetch_add(1, Ordering::Relaxed));
        let signal = lease.signal().clone();
        Lease::new(fence, signal, lease)
    }
}

#[async_trait]
impl Locker for CountingLocker {
    async fn acquire_at(
        &self,
        id: &UploadId,
        offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        Ok(self.number(self.inner.acquire_at(id, offset, wait).await?))
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        Ok(self.number(self.inner.try_acquire(id).await?))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "1 of 1 checks failed:\n- fences_grow_over_a_restart")]
async fn a_locker_that_counts_from_one_fails_its_suite() {
    locker::conformance(async || CountingLocker::starting_at(1)).await;
}

/// The log output as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn handler(store: &MemoryStore, locker: CountingLocker) -> Handler {
    let mut config = Config::new(Composer::join(store.clone()).with_locker(locker));
    config.location = LocationStyle::Relative;
    Handler::new(config).unwrap()
}

#[tokio::test]
async fn a_stale_fence_is_answered_423_and_named_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let store = MemoryStore::new();
    let bytes = test_data::bytes(1, 100);

    let before = handler(&store, CountingLocker::starting_at(1000));
    let id = client::create(&before, Some(100), None, None)
        .await
        .id()
        .unwrap();
    let reply = client::append(&before, &id, 0, None, &Sent::plain(bytes.slice(..40))).await;
    assert_eq!(reply.status, 204);

    let restarted = handler(&store, CountingLocker::starting_at(1));
    for _ in 0..3 {
        let reply =
            client::append(&restarted, &id, 40, None, &Sent::plain(bytes.slice(40..))).await;
        assert_eq!(reply.status, 423, "{reply:?}");
        assert!(reply.number("retry-after").unwrap() > 0);
    }
    let log = log.text();
    assert!(
        log.contains("stale fence") && log.contains(id.as_str()),
        "{log}"
    );

    // With growing fences the upload can continue.
    let fixed = handler(&store, CountingLocker::starting_at(2000));
    let reply = client::append(&fixed, &id, 40, None, &Sent::plain(bytes.slice(40..))).await;
    assert_eq!(reply.status, 204);
}
