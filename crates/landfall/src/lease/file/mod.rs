mod lock;
mod requests;
#[cfg(test)]
mod tests;
mod watcher;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nix::libc;
use tokio::time::{Instant, sleep};

use self::{
    lock::LockFile,
    requests::{RequestDir, RequestFile},
    watcher::RequestWatcher,
};
use super::{
    Fence, Lease, LeaseError, LeaseGuard, Locker, MemoryLocker, YieldReason, memory::LocalLease,
};
use crate::{
    store::file::io_pool::{IoPool, StepKind},
    upload::UploadId,
};

/// The kernel searches all locks of a file.
const LOCK_FILES: usize = 64;

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
/// every 100 ms ([`Intervals::holder`]), so a takeover between processes takes about that long. An
/// uncontended lease costs two system calls.
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
    monitored: Arc<AtomicBool>,
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
            monitored: Arc::default(),
        }))
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
        let lock = move |locker: Arc<Inner>| locker.lock(byte, local);
        match self.run(lock).await? {
            Ok(Ok(held)) => {
                if !self.0.monitored.load(Ordering::SeqCst) {
                    RequestWatcher::start(&self.0);
                }
                let signal = held.local.signal().clone();
                Ok(Ok(Lease::new(Fence::next(), signal, Box::new(held))))
            }
            Ok(Err(local)) => Ok(Err(local)),
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
        let local = self.0.local.try_acquire_local(id);
        let local = local.ok_or(LeaseError::Locked)?;
        let locked = self.lock(lock_byte(id), local).await?;
        locked.map_err(|_| LeaseError::Locked)
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
        if !self.file(byte).acquire(byte, local.signal())? {
            return Ok(Err(local));
        }
        self.leases.fetch_add(1, Ordering::SeqCst);
        Ok(Ok(HeldFileLease {
            locker: self,
            byte,
            local,
        }))
    }

    /// Errors are only logged: at worst a waiter times out.
    fn poll_requests(&self) {
        let polled = self.requests.poll_requests(
            |byte| self.file(byte).holds(byte),
            |byte| self.file(byte).raise(byte, YieldReason::Requested),
        );
        if let Err(error) = polled {
            tracing::warn!(
                dir = %self.requests.dir().display(), %error, "failed to read lease requests"
            );
        }
    }

    fn check(&self) {
        for file in &self.files {
            if let Err(error) = file.check() {
                tracing::warn!(path = %file.path().display(), %error, "failed to check a lock file");
            }
        }
    }
}

/// The local lease is dropped last, so the next holder finds the byte released.
struct HeldFileLease {
    locker: Arc<Inner>,
    byte: u64,
    local: LocalLease,
}

impl LeaseGuard for HeldFileLease {}

impl fmt::Debug for HeldFileLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldFileLease")
            .field("byte", &self.byte)
            .finish_non_exhaustive()
    }
}

impl Drop for HeldFileLease {
    fn drop(&mut self) {
        self.locker.file(self.byte).release(self.byte);
        self.locker.leases.fetch_sub(1, Ordering::SeqCst);
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

#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "the file system of {path} has no file locks ({source}): mount it with locks, keep the \
         uploads elsewhere, or use a locker that does not need them"
    )]
    NoLocks { path: PathBuf, source: io::Error },
}

fn unavailable(action: &'static str, path: &Path, source: io::Error) -> LeaseError {
    let path = path.to_owned();
    LeaseError::Unavailable(Box::new(match source.raw_os_error() {
        Some(libc::EINVAL | libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP) => {
            FileError::NoLocks { path, source }
        }
        _ => FileError::Io {
            action,
            path,
            source,
        },
    }))
}
