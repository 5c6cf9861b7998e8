//! Leases between processes of one machine that share a directory: a local lease, then a lock on a byte.
//!
//! The local lease is acquired first and released last. So one request of a process at a time needs the lock, and the
//! others wait in memory. `acquire_now` makes no system call for the lock. All versions must lock the same byte for an
//! id, so `lock_byte` must not change.

pub(crate) mod lock;
mod requests;
#[cfg(test)]
mod tests;
mod watcher;

use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use nix::libc;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use self::{
    lock::LockFile,
    requests::{RequestDir, RequestFile},
    watcher::RequestWatcher,
};
use super::{Fence, Lease, LeaseError, Locker, MemoryLocker, YieldReason, memory::LocalLease};
use crate::{
    store::{
        StoreError,
        file::{
            io_pool::{IoPool, StepKind},
            sys::{inodes_are_scarce, open_files_are_scarce},
        },
    },
    upload::UploadId,
};

/// The kernel searches all locks of a file.
const LOCK_FILES: usize = 64;
/// Milliseconds after which the lock files are checked again.
const CHECK_INTERVAL: u64 = 1000;
/// Of the times of directories.
const CLOCK_GRANULARITY: Duration = Duration::from_millis(50);
/// In which a process that was alone notices another one, on a busy machine.
const SHARING_TIME: Duration = Duration::from_secs(2);

/// Polling intervals. Together they bound the duration of a takeover between two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// The interval at which a holder checks for requests of other processes.
    pub holder: Duration,
    /// The interval at which a waiter tries to acquire the lease.
    pub waiter: Duration,
}

impl Default for Intervals {
    /// Returns 100 ms and 10 ms.
    fn default() -> Self {
        Self {
            holder: Duration::from_millis(100),
            waiter: Duration::from_millis(10),
        }
    }
}

/// A locker for processes of one machine that share a directory.
///
/// Within the process it is a [`MemoryLocker`]. Between processes each lease is a lock on one byte
/// of a file in `DIR/.landfall/` (an open file description lock, where the system has them). So
/// leases end with their process and leave nothing behind. A process that finds a lease taken by
/// another one creates a request file in `DIR/.landfall/requests/`. Holders check that directory
/// every 100 ms ([`Intervals::holder`]), so a takeover between processes takes about that long.
///
/// A process that is alone locks all bytes at once and keeps them, so its leases cost no system call. Once it
/// sees another process, which it checks as often, it keeps only those of its leases, and a lease costs two
/// system calls. So the first lease of another process may take about 100 ms. While a process that was alone is
/// stopped (SIGSTOP), one that starts then gets no lease. A process without leases for some seconds locks
/// nothing. A thread that runs until then does this.
///
/// System calls run in the calling task while they are fast, otherwise on tokio's blocking pool.
/// The locker of a [`FileStore`](crate::store::file::FileStore) follows
/// [`always_on_threads`](crate::store::file::FileOptions::always_on_threads) and shares the store's
/// latency tracker. A dropped lease is free for this process at once.
///
/// `DIR` must exist. `.landfall` is created when it is needed, and again if it is removed: a lease
/// that another process has acquired meanwhile is [lost](YieldReason::LeaseLost) within a second.
///
/// Clones share the leases. Needs a tokio runtime with timers enabled.
///
/// # Network file systems
/// NFS version 4 forwards these locks to the server, so two machines exclude each other unless one mounts
/// with `nolock` or `local_lock`. But each lease then costs round trips. A machine that vanishes keeps its
/// leases until the server's lease time is over (usually 90 seconds), and one that is disconnected for
/// longer loses its locks without notice. Use another locker for several machines. A file system without
/// such locks returns [`LeaseError::Unavailable`] with an explanation.
///
/// # Fences
/// Fences come from [`Fence::next`]. They grow within a process even if the clock is set back, and
/// between processes as long as their clocks agree. A [`FileStore`](crate::store::file::FileStore)
/// checks them only within a process, so a clock that is set back does no harm there.
///
/// ```
/// # use std::time::Duration;
/// use landfall::{lease::{FileLocker, Locker}, upload::UploadId};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let dir = tempfile::tempdir().unwrap();
/// let one = FileLocker::new(dir.path());
/// let other = FileLocker::new(dir.path()); // as another process would have it
/// let id = UploadId::random();
/// let lease = one.acquire(&id, Duration::from_secs(1)).await?;
/// assert!(other.try_acquire(&id).await.is_err());
/// drop(lease);
/// assert!(other.try_acquire(&id).await.is_ok());
/// # Ok::<(), landfall::lease::LeaseError>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct FileLocker(Arc<Inner>);

struct Inner {
    local: MemoryLocker,
    intervals: Intervals,
    files: [LockFile; LOCK_FILES],
    requests: RequestDir,
    io: IoPool,
    leases: AtomicUsize,
    monitored: AtomicBool,
    lock_dir: LockDir,
}

impl FileLocker {
    /// Creates a locker for all processes that write uploads in `dir`. Opens no file before the
    /// first lease.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with_intervals(dir, Intervals::default())
    }

    /// Creates a locker with other polling intervals, of at least a millisecond.
    #[must_use]
    pub fn with_intervals(dir: impl Into<PathBuf>, intervals: Intervals) -> Self {
        Self::with_io_pool(dir, intervals, IoPool::new(false))
    }

    pub(crate) fn with_io_pool(dir: impl Into<PathBuf>, intervals: Intervals, io: IoPool) -> Self {
        let min_interval = Duration::from_millis(1);
        let dir = dir.into().join(".landfall");
        Self(Arc::new(Inner {
            local: MemoryLocker::new(),
            intervals: Intervals {
                holder: intervals.holder.max(min_interval),
                waiter: intervals.waiter.max(min_interval),
            },
            files: std::array::from_fn(|n| LockFile::new(dir.join(format!("leases-{n:02}")))),
            requests: RequestDir::new(dir.join("requests"), rand::random()),
            io,
            leases: AtomicUsize::new(0),
            monitored: AtomicBool::new(false),
            lock_dir: LockDir::new(dir),
        }))
    }

    /// Shows other processes that this one will acquire leases, so that none is alone. Otherwise the first lease
    /// does.
    pub(crate) fn enter(&self) {
        self.0.enter();
    }

    /// Returns the local lease if another process has the file lock.
    ///
    /// # Cancel safety
    /// A lock that is acquired after the cancellation is released again.
    async fn lock(
        &self,
        byte: u64,
        local: LocalLease,
    ) -> Result<Result<Lease, LocalLease>, LeaseError> {
        let locked = self.run(move |locker| locker.lock(byte, local)).await?;
        if locked.is_ok() {
            RequestWatcher::start(&self.0);
        }
        match locked {
            Ok(locked) => Ok(locked.map(HeldFileLease::into_lease)),
            Err(error) => Err(unavailable("locking", self.0.file(byte).path(), error)),
        }
    }

    async fn request(&self, byte: u64) -> Result<PendingRequest, LeaseError> {
        let request = move |locker: Arc<Inner>| {
            let file = Some(locker.requests.request(byte)?);
            let io = locker.io.clone();
            Ok(PendingRequest { io, file })
        };
        let requested = self.run(request).await?;
        requested
            .map_err(|error| unavailable("requesting a lease in", self.0.requests.dir(), error))
    }

    async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce(Arc<Inner>) -> T + Send + 'static,
    ) -> Result<T, LeaseError> {
        let locker = Arc::clone(&self.0);
        let step = move || Ok(step(locker));
        let done = self.0.io.run(StepKind::Short(0), step).await;
        // The runtime ended before the step ran.
        done.map_err(|error| LeaseError::Unavailable(error.into()))
    }
}

impl fmt::Debug for FileLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLocker")
            .field("requests", &self.0.requests.dir())
            .field("leases", &self.0.leases.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Locker for FileLocker {
    async fn acquire_at(
        &self,
        id: &UploadId,
        _offset: Option<u64>,
        wait: Duration,
    ) -> Result<Lease, LeaseError> {
        if let Some(lease) = self.acquire_now(id) {
            return Ok(lease);
        }
        let started = Instant::now();
        let local = self.0.local.acquire_local(id, None, wait).await;
        let local = local.ok_or(LeaseError::Locked)?;
        let byte = lock_byte(id);
        let mut local = match self.lock(byte, local).await? {
            Ok(lease) => return Ok(lease),
            Err(local) => local,
        };
        let _request = self.request(byte).await?;
        loop {
            let left = wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(LeaseError::Locked);
            }
            sleep(self.0.intervals.waiter.min(left)).await;
            local = match self.lock(byte, local).await? {
                Ok(lease) => return Ok(lease),
                Err(local) => local,
            };
        }
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        if let Some(lease) = self.acquire_now(id) {
            return Ok(lease);
        }
        let local = self.0.local.try_acquire_local(id);
        let mut local = local.ok_or(LeaseError::Locked)?;
        let byte = lock_byte(id);
        let started = Instant::now();
        let mut may_be_free = true;
        loop {
            local = match self.lock(byte, local).await? {
                Ok(lease) => return Ok(lease),
                Err(local) => local,
            };
            if !may_be_free || started.elapsed() > SHARING_TIME {
                return Err(LeaseError::Locked);
            }
            // The other process may hold no lease. If it does not cover the byte any more, one attempt tells.
            let is_covered =
                move |locker: Arc<Inner>| locker.file(byte).is_covered_by_another(byte);
            may_be_free = self.run(is_covered).await?.unwrap_or(false);
            if may_be_free {
                sleep(self.0.intervals.waiter).await;
            }
        }
    }

    fn acquire_now(&self, id: &UploadId) -> Option<Lease> {
        let inner = &self.0;
        if !inner.lock_dir.is_checked() {
            return None;
        }
        let (local, byte) = (inner.local.try_acquire_local(id)?, lock_byte(id));
        let acquired = inner.file(byte).acquire_covered(byte, local.signal())?;
        let held = HeldFileLease::new(inner, byte, local, acquired);
        RequestWatcher::start(inner);
        held.ok().map(HeldFileLease::into_lease)
    }
}

/// Returns the byte whose lock is the lease of `id`. All processes and versions must agree on it.
fn lock_byte(id: &UploadId) -> u64 {
    // A cryptographic hash, so that clients cannot construct ids that share a byte.
    let hash = blake3::hash(id.as_str().as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    // 62 bits, so that the end of a lock is a valid file offset.
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 2
}

impl Inner {
    fn file(&self, byte: u64) -> &LockFile {
        &self.files[(byte % LOCK_FILES as u64) as usize]
    }

    /// Returns the local lease if another process has the lock.
    fn lock(
        self: Arc<Self>,
        byte: u64,
        local: LocalLease,
    ) -> io::Result<Result<HeldFileLease, LocalLease>> {
        if !self.lock_dir.is_checked() {
            self.check()?;
        }
        let file = self.file(byte);
        let acquired = file.acquire(byte, local.signal())?;
        Ok(HeldFileLease::new(&self, byte, local, acquired))
    }

    /// Returns whether another process wants a lease. Errors are only logged: at worst a waiter times out.
    fn poll_requests(&self, alone: bool) -> bool {
        let mut is_wanted = false;
        let polled = self.requests.poll_requests(
            |byte| alone || self.file(byte).holds(byte),
            |byte| {
                is_wanted = true;
                self.file(byte).raise(byte, YieldReason::Requested);
            },
        );
        if let Err(error) = polled {
            tracing::warn!(
                dir = %self.requests.dir().display(), %error, "failed to read lease requests"
            );
        }
        is_wanted
    }

    /// Returns whether another process uses the directory.
    fn enter(&self) -> bool {
        let entered = self.files[0].enter();
        entered.unwrap_or_else(|error| {
            tracing::debug!(path = %self.files[0].path().display(), %error, "failed to enter");
            true
        })
    }

    /// Locks all bytes of all files; false if another process has one. It creates and opens all of them.
    fn cover(&self) -> bool {
        if open_files_are_scarce() || inodes_are_scarce(&self.lock_dir.dir) {
            return false;
        }
        self.files.iter().all(|file| {
            file.cover().unwrap_or_else(|error| {
                tracing::debug!(path = %file.path().display(), %error, "failed to lock all bytes");
                false
            })
        })
    }

    /// Keeps only the locks of leases.
    fn share(&self) {
        for file in &self.files {
            if let Err(error) = file.share() {
                tracing::warn!(path = %file.path().display(), %error, "failed to share a lock file");
            }
        }
    }

    /// Reopens lock files that were removed.
    fn check(&self) -> io::Result<()> {
        self.lock_dir
            .check(|| self.files.iter().try_for_each(LockFile::check))
    }
}

/// When the lock files were last found in their place. One look at their directory tells that none was removed.
struct LockDir {
    dir: PathBuf,
    start: Instant,
    /// Milliseconds after `start`.
    checked: AtomicU64,
    /// Not yet, 0.
    version: Mutex<Option<DirVersion>>,
}

type DirVersion = (u64, u64, SystemTime);

impl LockDir {
    fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            start: Instant::now(),
            checked: AtomicU64::new(0),
            version: Mutex::default(),
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_checked(&self) -> bool {
        self.elapsed() < self.checked.load(Ordering::Relaxed) + CHECK_INTERVAL
    }

    fn check(&self, check_files: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let checked = self.elapsed();
        let version = dir_version(&self.dir);
        if version.is_none() || *self.version.lock() != version {
            check_files()?;
            *self.version.lock() = version;
        }
        self.checked.fetch_max(checked, Ordering::Relaxed);
        Ok(())
    }
}

/// `None` if it may change again without a change of its time.
fn dir_version(dir: &Path) -> Option<DirVersion> {
    let data = dir.metadata().ok()?;
    let modified = data.modified().ok()?;
    let age = SystemTime::now().duration_since(modified).ok()?;
    (age > CLOCK_GRANULARITY).then(|| (data.dev(), data.ino(), modified))
}

/// The local lease is dropped last, so the next holder finds the byte released.
struct HeldFileLease {
    locker: Arc<Inner>,
    byte: u64,
    local: LocalLease,
}

impl HeldFileLease {
    /// Returns the local lease if the byte was not acquired.
    fn new(
        locker: &Arc<Inner>,
        byte: u64,
        local: LocalLease,
        acquired: bool,
    ) -> Result<Self, LocalLease> {
        if !acquired {
            return Err(local);
        }
        locker.leases.fetch_add(1, Ordering::SeqCst);
        let locker = Arc::clone(locker);
        Ok(Self {
            locker,
            byte,
            local,
        })
    }

    fn into_lease(self) -> Lease {
        let signal = self.local.signal().clone();
        Lease::new(Fence::next(), signal, self)
    }
}

impl Drop for HeldFileLease {
    fn drop(&mut self) {
        let is_locked = self.locker.file(self.byte).release(self.byte);
        self.locker.leases.fetch_sub(1, Ordering::SeqCst);
        if !is_locked {
            return;
        }
        let unlock = Unlock {
            locker: Arc::clone(&self.locker),
            byte: self.byte,
        };
        self.locker.io.spawn_detached(move || drop(unlock));
    }
}

/// Unlocks on drop, even if the runtime ends before.
struct Unlock {
    locker: Arc<Inner>,
    byte: u64,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        self.locker.file(self.byte).unlock_released(self.byte);
    }
}

struct PendingRequest {
    io: IoPool,
    file: Option<RequestFile>,
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let file = self.file.take();
        self.io.spawn_detached(move || drop(file));
    }
}

fn unavailable(action: &str, path: &Path, error: io::Error) -> LeaseError {
    let path = path.display();
    let message = match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP) => format!(
            "the file system of {path} has no file locks ({error}): mount it with locks, keep the \
             uploads elsewhere, or use a locker that does not need them"
        ),
        _ => format!("{action} {path}: {error}"),
    };
    LeaseError::Unavailable(match StoreError::io(action, error) {
        // Clients get the response to a full disk.
        StoreError::Full(_) => StoreError::Full(message.into()).into(),
        _ => message.into(),
    })
}
