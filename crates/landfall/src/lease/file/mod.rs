//! Leases between processes that share a directory.

mod lock;
mod request;
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
    request::{RequestDir, RequestFile},
    watcher::RequestWatcher,
};
use super::{
    Fence, Lease, LeaseError, LeaseGuard, Locker, MemoryLocker, YieldReason, memory::Seat,
};
use crate::{
    store::{StoreError, file::steps::Steps},
    upload::UploadId,
};

/// How many lock files share the load: the kernel searches all the locks of a file.
const LOCK_FILES: usize = 64;

/// How often processes look at what the others want. Together they bound how long a takeover between
/// two processes takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Between two looks of a holder whether another process asks for one of its leases.
    pub holder: Duration,
    /// Between two looks of a waiter whether the lease is free.
    pub waiter: Duration,
}

impl Default for Intervals {
    /// 100 ms and 10 ms.
    fn default() -> Self {
        Self {
            holder: Duration::from_millis(100),
            waiter: Duration::from_millis(10),
        }
    }
}

/// Leases for processes of one machine that share a directory.
///
/// Within the process it is a [`MemoryLocker`]. Towards other processes each lease is a lock on one
/// byte of a file in `DIR/.landfall/` (an open file description lock, where the system has them), so
/// that leases end with their process, however it ends, and leave nothing behind. A process that
/// finds a lease taken by another leaves a request in `DIR/.landfall/asks/`; who holds leases checks
/// there every 100 ms, unless [`Intervals`] say otherwise, so a takeover between processes takes
/// about that long. A lease that nobody else wants costs two system calls.
///
/// System calls run in the calling task as long as they prove fast, otherwise on tokio's blocking
/// pool; the locker of a [`FileStore`](crate::store::file::FileStore) follows
/// [`always_on_threads`](crate::store::file::FileOptions::always_on_threads) and shares what the store
/// has measured. A lease that is dropped is free for this process at once.
///
/// `DIR` must exist; `.landfall` is made when it is needed, and made again if it is removed (then a
/// lease that another process has taken meanwhile is [lost](Asked::Lost), within a second).
///
/// Clones share the leases. It must be used within a tokio runtime with its timer on.
///
/// # Network file systems
/// NFS version 4 carries these locks to the server, so two machines do keep each other out, as long
/// as neither mounts with `nolock` or `local_lock`. But each lease then costs round trips, a machine that vanishes keeps its leases until the server's lease time is over (90
/// seconds, commonly), and one cut off for longer loses its locks without being told. Several
/// machines are better served by a locker made for them. A file system without such locks gives
/// [`LeaseError::Unavailable`] with a message that says so.
///
/// # Fences
/// They come from [`Fence::next`]: they grow within a process whatever the clock does, and between
/// processes as long as their clocks agree. A [`FileStore`](crate::store::file::FileStore) checks them
/// within each process only, so a clock that is set back does no harm there.
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
    seats: MemoryLocker,
    intervals: Intervals,
    files: [LockFile; LOCK_FILES],
    requests: RequestDir,
    steps: Steps,
    /// How many locks are held.
    leases: AtomicUsize,
    /// Whether the watcher runs.
    monitored: Arc<AtomicBool>,
}

impl FileLocker {
    /// A locker for everybody who writes uploads in `dir`. Nothing is opened before the first lease.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with_intervals(dir, Intervals::default())
    }

    /// A locker that polls as often as it is told; an interval below a millisecond counts as one.
    #[must_use]
    pub fn with_intervals(dir: impl Into<PathBuf>, intervals: Intervals) -> Self {
        Self::with_steps(dir, intervals, Steps::new(false))
    }

    /// A locker whose system calls run where those of a store run.
    pub(crate) fn with_steps(dir: impl Into<PathBuf>, intervals: Intervals, steps: Steps) -> Self {
        let least = Duration::from_millis(1);
        let own = dir.into().join(".landfall");
        Self(Arc::new(Inner {
            seats: MemoryLocker::new(),
            intervals: Intervals {
                holder: intervals.holder.max(least),
                waiter: intervals.waiter.max(least),
            },
            files: std::array::from_fn(|n| LockFile::new(own.join(format!("leases-{n:02}")))),
            requests: RequestDir::new(own.join("asks"), rand::random()),
            steps,
            leases: AtomicUsize::new(0),
            monitored: Arc::default(),
        }))
    }

    /// Completes a seat with the lock, or gives the seat back if another process has it.
    ///
    /// # Cancel safety
    /// A lock that is taken after the call was dropped is given up again.
    async fn lock(&self, byte: u64, seat: Seat) -> Result<Result<Lease, Seat>, LeaseError> {
        let locker = Arc::clone(&self.0);
        let step = move || Ok(locker.lock(byte, seat));
        let locked = self.0.steps.quick(0, step).await.map_err(not_run)?;
        match locked {
            Ok(Ok(held)) => {
                if !self.0.monitored.load(Ordering::SeqCst) {
                    RequestWatcher::start(&self.0);
                }
                let signal = held.seat.signal().clone();
                Ok(Ok(Lease::new(Fence::next(), signal, Box::new(held))))
            }
            Ok(Err(seat)) => Ok(Err(seat)),
            Err(error) => Err(unavailable("locking", self.0.file(byte).path(), error)),
        }
    }

    /// Requests the lease of a byte from the process that has it.
    async fn request(&self, byte: u64) -> Result<PendingRequest, LeaseError> {
        let locker = Arc::clone(&self.0);
        let step = move || {
            Ok(locker.requests.request(byte).map(|file| PendingRequest {
                steps: locker.steps.clone(),
                file: Some(file),
            }))
        };
        let requested = self.0.steps.quick(0, step).await.map_err(not_run)?;
        requested
            .map_err(|error| unavailable("requesting a lease in", self.0.requests.dir(), error))
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
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        let started = Instant::now();
        let seat = self
            .0
            .seats
            .sit(id, None, wait)
            .await
            .ok_or(LeaseError::Held)?;
        let byte = lock_byte(id);
        let mut seat = match self.lock(byte, seat).await? {
            Ok(lease) => return Ok(lease),
            Err(seat) => seat,
        };
        let _request = self.request(byte).await?;
        loop {
            let left = wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(LeaseError::Held);
            }
            sleep(self.0.intervals.waiter.min(left)).await;
            seat = match self.lock(byte, seat).await? {
                Ok(lease) => return Ok(lease),
                Err(seat) => seat,
            };
        }
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let seat = self.0.seats.try_sit(id).ok_or(LeaseError::Held)?;
        self.lock(lock_byte(id), seat)
            .await?
            .map_err(|_| LeaseError::Held)
    }
}

/// The byte whose lock is the lease of `id`, in any process and any version of this program.
fn lock_byte(id: &UploadId) -> u64 {
    // A cryptographic hash, so that nobody can make ids that share a byte.
    let hash = blake3::hash(id.as_str().as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    // 62 bits: the end of a lock must still be a valid file offset.
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 2
}

impl Inner {
    fn file(&self, byte: u64) -> &LockFile {
        &self.files[(byte % LOCK_FILES as u64) as usize]
    }

    /// Locks the byte for a seat, or gives the seat back if another process has locked it.
    fn lock(self: Arc<Self>, byte: u64, seat: Seat) -> io::Result<Result<HeldFileLease, Seat>> {
        if !self.file(byte).take(byte, seat.signal())? {
            return Ok(Err(seat));
        }
        self.leases.fetch_add(1, Ordering::SeqCst);
        Ok(Ok(HeldFileLease {
            locker: self,
            byte,
            seat,
        }))
    }

    /// Tells leases that others request them. Errors are logged only: the worst is that somebody
    /// waits in vain.
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

    /// Makes sure that the locks held are where other processes look for them.
    fn check(&self) {
        for file in &self.files {
            if let Err(error) = file.check() {
                tracing::warn!(path = %file.path().display(), %error, "failed to check a lock file");
            }
        }
    }
}

/// A lease's lock and seat. The seat goes last, so that who gets it finds the byte given up.
struct HeldFileLease {
    locker: Arc<Inner>,
    byte: u64,
    seat: Seat,
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
        self.locker.steps.detached(move || drop(unlock));
    }
}

/// Unlocks a byte that was given up when dropped: also when the runtime ends before it comes to that.
struct Unlock {
    locker: Arc<Inner>,
    byte: u64,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        self.locker.file(self.byte).unlock_released(self.byte);
    }
}

/// A request that is withdrawn when dropped.
struct PendingRequest {
    steps: Steps,
    file: Option<RequestFile>,
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let file = self.file.take();
        self.steps.detached(move || drop(file));
    }
}

/// What keeps a lease from being acquired, for the log.
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
         uploads elsewhere, or use a locker that doesn't need them"
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

/// The runtime ended before a step was run.
fn not_run(error: StoreError) -> LeaseError {
    LeaseError::Unavailable(error.into())
}
