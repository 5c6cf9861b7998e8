//! A file system on which a system call takes long.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Runs `work` while system calls on all lock files take `stall`, and returns how often another task
/// of the same thread could run meanwhile.
async fn turns_of_others<T>(
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
    // Lets the other task go on until the end of the stall.
    let counted = tokio::task::spawn_blocking(move || stalling.join().unwrap())
        .await
        .unwrap();
    other.abort();
    (done, counted)
}

fn on_threads(dir: &Path) -> FileLocker {
    FileLocker::with_steps(dir, Intervals::default(), Steps::new(true))
}

#[tokio::test]
async fn taking_a_lease_on_a_slow_disk_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    let id = UploadId::random();
    let stall = Duration::from_millis(300);
    let (lease, turns) = turns_of_others(&locker, stall, locker.acquire(&id, LONG)).await;
    lease.unwrap();
    assert!(turns > 0, "the thread stood still");
}

#[tokio::test]
async fn dropping_a_lease_on_a_slow_disk_holds_up_nobody_and_frees_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    let other = FileLocker::new(dir.path());
    let id = UploadId::random();
    let lease = locker.acquire(&id, LONG).await.unwrap();
    let dropped = async {
        drop(lease);
        assert!(locker.0.seats.try_sit(&id).is_some(), "still taken");
    };
    let stall = Duration::from_millis(300);
    let ((), turns) = turns_of_others(&locker, stall, dropped).await;
    assert!(turns > 0, "the thread stood still");
    other.acquire(&id, LONG).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_is_taken_again_before_it_is_unlocked_stays_locked() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    let other = FileLocker::new(dir.path());
    let id = UploadId::random();
    for _ in 0..50 {
        drop(locker.acquire(&id, LONG).await.unwrap());
        let again = locker.try_acquire(&id).await.unwrap();
        // Time for whatever was left to be done.
        tokio::task::yield_now().await;
        assert!(matches!(
            other.try_acquire(&id).await,
            Err(LeaseError::Held)
        ));
        drop(again);
    }
    other.acquire(&id, LONG).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_for_the_disk_leaves_no_lease() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    let other = FileLocker::new(dir.path());
    let id = UploadId::random();
    let dropped = async {
        let wait = Duration::from_millis(50);
        let acquire = tokio::time::timeout(wait, locker.acquire(&id, LONG));
        assert!(acquire.await.is_err(), "it did not wait for the disk");
    };
    turns_of_others(&locker, Duration::from_millis(300), dropped).await;
    other.acquire(&id, LONG).await.unwrap();
}

#[test]
fn a_lease_that_is_dropped_as_its_runtime_ends_is_free() {
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
    // The task that unlocks is made and never polled.
    ending.block_on(async move { drop(lease) });
    drop(ending);
    let another = runtime();
    another.block_on(other.acquire(&id, LONG)).unwrap();
}

#[tokio::test]
async fn the_locker_of_a_store_follows_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let options = crate::store::file::FileOptions {
        always_on_threads: true,
        ..Default::default()
    };
    let store = crate::store::file::FileStore::open(dir.path(), options).unwrap();
    assert!(!store.file_locker().0.steps.in_task());
}
