//! Tests on a file system with slow system calls.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Runs `work` while system calls on all lock files take `stall`; returns how often another task of
/// the same thread ran meanwhile.
async fn count_other_tasks<T>(
    locker: &FileLocker,
    stall: Duration,
    work: impl Future<Output = T>,
) -> (T, u32) {
    let (turns, inner) = (Arc::new(AtomicU32::new(0)), Arc::clone(&locker.0));
    let (stalled, is_stalled) = std::sync::mpsc::channel();
    let other = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                sleep(Duration::from_millis(1)).await;
                turns.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let stalling = thread::spawn({
        let turns = Arc::clone(&turns);
        move || {
            let guards: Vec<_> = inner.files.iter().map(LockFile::stall).collect();
            stalled.send(()).unwrap();
            thread::sleep(stall);
            let counted = turns.load(Ordering::Relaxed);
            drop(guards);
            counted
        }
    });
    is_stalled.recv().unwrap();
    let done = work.await;
    // Waits, so that the other task runs until the end of the stall.
    let counted = tokio::task::spawn_blocking(move || stalling.join().unwrap())
        .await
        .unwrap();
    other.abort();
    (done, counted)
}

fn on_threads(dir: &Path) -> FileLocker {
    FileLocker::with_io_pool(dir, Intervals::default(), IoPool::new(true))
}

#[tokio::test]
async fn acquire_on_a_slow_disk_does_not_block_other_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    let id = UploadId::random();
    let stall = Duration::from_millis(300);
    let (lease, turns) = count_other_tasks(&locker, stall, locker.acquire(&id, LONG)).await;
    lease.unwrap();
    assert!(turns > 0, "the thread was blocked");
}

#[tokio::test]
async fn drop_on_a_slow_disk_does_not_block_and_frees_the_lease_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    let other = FileLocker::new(dir.path());
    let id = UploadId::random();
    let lease = locker.acquire(&id, LONG).await.unwrap();
    let dropped = async {
        drop(lease);
        assert!(
            locker.0.local.try_acquire_local(&id).is_some(),
            "still held"
        );
    };
    let stall = Duration::from_millis(300);
    let ((), turns) = count_other_tasks(&locker, stall, dropped).await;
    assert!(turns > 0, "the thread was blocked");
    other.acquire(&id, LONG).await.unwrap();
}

#[tokio::test]
async fn lease_acquired_again_before_unlock_stays_locked() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    let other = FileLocker::new(dir.path());
    let id = UploadId::random();
    for _ in 0..50 {
        drop(locker.acquire(&id, LONG).await.unwrap());
        let again = locker.try_acquire(&id).await.unwrap();
        // Lets background steps run.
        tokio::task::yield_now().await;
        assert!(matches!(
            other.try_acquire(&id).await,
            Err(LeaseError::Locked)
        ));
        drop(again);
    }
    other.acquire(&id, LONG).await.unwrap();
}

#[tokio::test]
async fn cancelled_acquire_leaves_no_lease() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    let other = FileLocker::new(dir.path());
    let id = UploadId::random();
    let dropped = async {
        let wait = Duration::from_millis(50);
        let acquire = tokio::time::timeout(wait, locker.acquire(&id, LONG));
        assert!(acquire.await.is_err(), "it did not wait for the disk");
    };
    count_other_tasks(&locker, Duration::from_millis(300), dropped).await;
    other.acquire(&id, LONG).await.unwrap();
}

#[test]
fn lease_dropped_at_the_end_of_its_runtime_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    let other = FileLocker::new(dir.path());
    let id = UploadId::random();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let ending = runtime();
    let lease = ending.block_on(locker.acquire(&id, LONG)).unwrap();
    // The task that unlocks is spawned and never polled.
    ending.block_on(async move { drop(lease) });
    drop(ending);
    let another = runtime();
    another.block_on(other.acquire(&id, LONG)).unwrap();
}

#[tokio::test]
async fn locker_of_a_store_follows_always_on_threads() {
    let dir = tempfile::tempdir().unwrap();
    let options = crate::store::file::FileOptions {
        always_on_threads: true,
        ..Default::default()
    };
    let store = crate::store::file::FileStore::open(dir.path(), options).unwrap();
    assert!(!store.file_locker().0.io.runs_inline());
}
