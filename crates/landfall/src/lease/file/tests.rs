//! Tests on a file system with slow system calls, and of the lock of all bytes.

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

async fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < LONG, "{what} did not happen");
        sleep(Duration::from_millis(1)).await;
    }
}

fn is_alone(locker: &FileLocker) -> bool {
    locker.0.files.iter().all(LockFile::covers_all)
}

/// Waits until the locker has locked all bytes of all files.
async fn lock_all(locker: &FileLocker) {
    drop(locker.acquire(&UploadId::random(), LONG).await.unwrap());
    eventually("the process is alone", || is_alone(locker)).await;
}

#[tokio::test]
async fn lease_of_a_process_that_is_alone_makes_no_system_call() {
    let dir = tempfile::tempdir().unwrap();
    let locker = on_threads(dir.path());
    lock_all(&locker).await;
    let _stalled: Vec<_> = locker.0.files.iter().map(LockFile::stall).collect();
    for _ in 0..200 {
        let id = UploadId::random();
        let acquiring = locker.acquire(&id, LONG);
        drop(
            tokio::time::timeout(LONG, acquiring)
                .await
                .unwrap()
                .unwrap(),
        );
    }
}

#[tokio::test]
async fn process_that_was_alone_keeps_its_leases_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (FileLocker::new(dir.path()), FileLocker::new(dir.path()));
    lock_all(&one).await;
    let ids: Vec<_> = (0..200).map(|_| UploadId::random()).collect();
    let mut leases = Vec::new();
    for id in &ids {
        leases.push(one.acquire(id, LONG).await.unwrap());
    }
    for id in &ids {
        let taken = other.try_acquire(id).await;
        assert!(matches!(taken, Err(LeaseError::Locked)), "{taken:?}");
        let free = UploadId::random();
        let _lease = other.try_acquire(&free).await.unwrap();
        let taken = one.try_acquire(&free).await;
        assert!(matches!(taken, Err(LeaseError::Locked)), "{taken:?}");
    }
    assert!(leases.iter().all(|lease| lease.signal().reason().is_none()));
    drop(leases);
    for id in &ids {
        other.try_acquire(id).await.unwrap();
    }
}

/// The other process ends between the failed attempt and the check for its cause.
#[tokio::test]
async fn lease_is_free_when_the_process_that_was_alone_ends_meanwhile() {
    for _ in 0..200 {
        let dir = tempfile::tempdir().unwrap();
        let one = FileLocker::new(dir.path());
        lock_all(&one).await;
        let other = FileLocker::new(dir.path());
        let ending = std::thread::spawn(move || drop(one));
        let id = UploadId::random();
        other.try_acquire(&id).await.expect("a free lease");
        ending.join().unwrap();
    }
}

#[tokio::test]
async fn process_is_alone_again_after_the_other_one() {
    let dir = tempfile::tempdir().unwrap();
    let intervals = Intervals {
        holder: Duration::from_millis(1),
        waiter: Duration::from_millis(1),
    };
    let one = FileLocker::with_intervals(dir.path(), intervals);
    lock_all(&one).await;
    let other = FileLocker::with_intervals(dir.path(), intervals);
    let lease = other.acquire(&UploadId::random(), LONG).await.unwrap();
    let kept = one.acquire(&UploadId::random(), LONG).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert!(!is_alone(&one), "the other one is there");
    drop((lease, other));
    eventually("it is alone", || is_alone(&one)).await;
    drop(kept);
}

#[tokio::test]
async fn idle_process_locks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let intervals = Intervals {
        holder: Duration::from_millis(1),
        waiter: Duration::from_millis(1),
    };
    let locker = FileLocker::with_intervals(dir.path(), intervals);
    lock_all(&locker).await;
    let stopped = || !locker.0.monitored.load(Ordering::SeqCst);
    eventually("the thread stops", stopped).await;
    let other = FileLocker::new(dir.path());
    for byte in 0..64 {
        assert!(!other.0.file(byte).is_covered_by_another(byte).unwrap());
    }
    drop(other);
    // It starts again.
    lock_all(&locker).await;
}

#[tokio::test]
async fn process_is_not_alone_once_another_has_entered() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (FileLocker::new(dir.path()), FileLocker::new(dir.path()));
    other.enter();
    let _lease = one.acquire(&UploadId::random(), LONG).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    let covered = one.0.files.iter().any(LockFile::covers_all);
    assert!(!covered, "it could be stopped now");
}

/// A version that knows only bytes, and requests for them.
struct Older {
    file: LockFile,
    byte: u64,
}

impl Older {
    fn new(dir: &Path, id: &UploadId) -> Self {
        let byte = lock_byte(id);
        let name = format!(".landfall/leases-{:02}", byte % LOCK_FILES as u64);
        Self {
            file: LockFile::new(dir.join(name)),
            byte,
        }
    }

    fn try_lock(&self) -> bool {
        let signal = crate::lease::YieldSignal::new();
        self.file.acquire(self.byte, &signal).unwrap()
    }

    fn unlock(&self) {
        self.file.release(self.byte);
        self.file.unlock_released(self.byte);
    }
}

#[tokio::test]
async fn older_version_gets_a_lease_by_its_request() {
    let dir = tempfile::tempdir().unwrap();
    let locker = FileLocker::new(dir.path());
    lock_all(&locker).await;
    let (id, free) = (UploadId::random(), UploadId::random());
    let lease = locker.acquire(&id, LONG).await.unwrap();
    let (older, of_free) = (Older::new(dir.path(), &id), Older::new(dir.path(), &free));
    assert!(!older.try_lock() && !of_free.try_lock());
    let requests = RequestDir::new(dir.path().join(".landfall/requests"), 7);
    let request = requests.request(of_free.byte).unwrap();
    eventually("the older one gets the lease", || of_free.try_lock()).await;
    drop(request);
    assert!(!older.try_lock(), "one that is held was given away");
    assert_eq!(lease.signal().reason(), None);
    let taken = locker.try_acquire(&free).await;
    assert!(matches!(taken, Err(LeaseError::Locked)), "{taken:?}");

    let request = requests.request(older.byte).unwrap();
    let asked = tokio::time::timeout(LONG, lease.signal().wait()).await;
    assert_eq!(asked, Ok(YieldReason::Requested));
    assert!(!older.try_lock());
    drop(lease);
    eventually("it gets that one, too", || older.try_lock()).await;
    drop(request);
    older.unlock();
    locker.try_acquire(&id).await.unwrap();
}

#[tokio::test]
async fn lease_of_an_older_version_is_respected() {
    let dir = tempfile::tempdir().unwrap();
    let locker = FileLocker::new(dir.path());
    std::fs::create_dir(dir.path().join(".landfall")).unwrap();
    let ids: Vec<_> = (0..200).map(|_| UploadId::random()).collect();
    let olders: Vec<_> = ids.iter().map(|id| Older::new(dir.path(), id)).collect();
    assert!(olders.iter().all(Older::try_lock));
    drop(locker.acquire(&UploadId::random(), LONG).await.unwrap());
    sleep(Duration::from_millis(300)).await;
    assert!(!is_alone(&locker), "an older version is there");
    for (id, older) in ids.iter().zip(&olders) {
        let taken = locker.try_acquire(id).await;
        assert!(matches!(taken, Err(LeaseError::Locked)), "{taken:?}");
        drop(locker.try_acquire(&UploadId::random()).await.unwrap());
        older.unlock();
        drop(locker.try_acquire(id).await.unwrap());
    }
}
