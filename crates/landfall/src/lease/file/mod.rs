//! Leases between processes that share a directory.

mod ask;
mod lock;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nix::libc;
use tokio::time::{Instant, sleep};

use self::{ask::Asks, lock::LockFile};
use super::{Asked, Held, Lease, LeaseError, Locker, MemoryLocker, fence, memory::Seat};
use crate::upload::UploadId;

/// How many lock files share the load: the kernel searches all the locks of a file.
const LOCK_FILES: usize = 64;
/// At every how many looks the lock files are checked.
const CHECK_EVERY: u32 = 10;
/// How many looks the watcher stays when there is no lease any more.
const IDLE_LOOKS: u32 = 50;

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
/// finds a lease taken by another leaves an ask in `DIR/.landfall/asks/`; who holds leases looks
/// there every 100 ms, unless [`Intervals`] say otherwise, so a takeover between processes takes
/// about that long. A lease that nobody else wants costs two system calls.
///
/// `DIR` must exist; `.landfall` is made when it is needed, and made again if it is removed (then a
/// lease that another process has taken meanwhile is [lost](Asked::Lost), within a second).
///
/// Clones share the leases. It must be used within a tokio runtime with its timer on.
///
/// # Network file systems
/// NFS version 4 carries these locks to the server, so two machines do keep each other out, as long
/// as neither mounts with `nolock` or `local_lock`. But each lease then costs round trips that block
/// a thread, a machine that vanishes keeps its leases until the server's lease time is over (90
/// seconds, commonly), and one cut off for longer loses its locks without being told. Several
/// machines are better served by a locker made for them. A file system without such locks gives
/// [`LeaseError::Unavailable`] with a message that says so.
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
    asks: Asks,
    /// How many locks are held.
    leases: AtomicUsize,
    /// Whether the watcher runs.
    watched: Arc<AtomicBool>,
}

impl FileLocker {
    /// A locker for everybody who writes uploads in `dir`. Nothing is opened before the first lease.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with_intervals(dir, Intervals::default())
    }

    /// A locker that looks as often as it is told; an interval below a millisecond counts as one.
    #[must_use]
    pub fn with_intervals(dir: impl Into<PathBuf>, intervals: Intervals) -> Self {
        let least = Duration::from_millis(1);
        let own = dir.into().join(".landfall");
        Self(Arc::new(Inner {
            seats: MemoryLocker::new(),
            intervals: Intervals {
                holder: intervals.holder.max(least),
                waiter: intervals.waiter.max(least),
            },
            files: std::array::from_fn(|n| LockFile::new(own.join(format!("leases-{n:02}")))),
            asks: Asks::new(own.join("asks"), rand::random()),
            leases: AtomicUsize::new(0),
            watched: Arc::default(),
        }))
    }

    /// Completes a seat with the lock, unless another process has it.
    fn lock(&self, place: u64, seat: &Seat) -> Result<bool, LeaseError> {
        let file = self.0.file(place);
        let taken = file
            .take(place, seat.signal())
            .map_err(|error| unavailable("locking", file.path(), error))?;
        if taken {
            self.0.leases.fetch_add(1, Ordering::SeqCst);
            if !self.0.watched.load(Ordering::SeqCst) {
                Watcher::start(&self.0);
            }
        }
        Ok(taken)
    }

    fn lease(&self, place: u64, seat: Seat) -> Lease {
        let signal = seat.signal().clone();
        let held = Holding {
            locker: Arc::clone(&self.0),
            place,
            _seat: seat,
        };
        Lease::new(fence::next(), signal, Box::new(held))
    }
}

impl fmt::Debug for FileLocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLocker")
            .field("asks", &self.0.asks.dir())
            .field("leases", &self.0.leases.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Locker for FileLocker {
    async fn acquire(&self, id: &UploadId, wait: Duration) -> Result<Lease, LeaseError> {
        let begun = Instant::now();
        let seat = self.0.seats.sit(id, wait).await.ok_or(LeaseError::Held)?;
        let place = place_of(id);
        if self.lock(place, &seat)? {
            return Ok(self.lease(place, seat));
        }
        let _ask = self
            .0
            .asks
            .ask(place)
            .map_err(|error| unavailable("asking in", self.0.asks.dir(), error))?;
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(LeaseError::Held);
            }
            sleep(self.0.intervals.waiter.min(left)).await;
            if self.lock(place, &seat)? {
                return Ok(self.lease(place, seat));
            }
        }
    }

    async fn try_acquire(&self, id: &UploadId) -> Result<Lease, LeaseError> {
        let seat = self.0.seats.try_sit(id).ok_or(LeaseError::Held)?;
        let place = place_of(id);
        if self.lock(place, &seat)? {
            Ok(self.lease(place, seat))
        } else {
            Err(LeaseError::Held)
        }
    }
}

/// The byte whose lock is the lease of `id`, in any process and any version of this program.
fn place_of(id: &UploadId) -> u64 {
    // A cryptographic hash, so that nobody can make ids that share a place.
    let hash = blake3::hash(id.as_str().as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    // 62 bits: the end of a lock must still be a valid file offset.
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 2
}

impl Inner {
    fn file(&self, place: u64) -> &LockFile {
        &self.files[(place % LOCK_FILES as u64) as usize]
    }

    /// Tells leases that others ask for them. Errors are logged only: the worst is that somebody
    /// waits in vain.
    fn look(&self) {
        let looked = self.asks.look(
            |place| self.file(place).holds(place),
            |place| self.file(place).raise(place, Asked::Yield),
        );
        if let Err(error) = looked {
            tracing::warn!(dir = %self.asks.dir().display(), %error, "can't look for asks");
        }
    }

    /// Makes sure that the locks held are where other processes look for them.
    fn check(&self) {
        for file in &self.files {
            if let Err(error) = file.check() {
                tracing::warn!(path = %file.path().display(), %error, "can't check a lock file");
            }
        }
    }
}

/// A lease's lock and seat; the seat goes last, so that who gets it finds the lock free.
struct Holding {
    locker: Arc<Inner>,
    place: u64,
    _seat: Seat,
}

impl Held for Holding {}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.locker.file(self.place).release(self.place);
        self.locker.leases.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The one task of a locker: it looks for asks while there are leases. It ends some seconds after
/// the last lease, or with the locker; the next lease starts it again.
struct Watcher {
    watched: Arc<AtomicBool>,
}

impl Watcher {
    /// Starts it, if no other thread did.
    fn start(locker: &Arc<Inner>) {
        if !locker.watched.swap(true, Ordering::SeqCst) {
            let watcher = Self {
                watched: Arc::clone(&locker.watched),
            };
            tokio::spawn(watcher.run(Arc::downgrade(locker), locker.intervals.holder));
        }
    }

    async fn run(self, locker: Weak<Inner>, interval: Duration) {
        let mut looks = 0_u32;
        let mut idle = 0;
        while idle < IDLE_LOOKS {
            sleep(interval).await;
            let Some(locker) = locker.upgrade() else {
                return;
            };
            if locker.leases.load(Ordering::SeqCst) == 0 {
                idle += 1;
                continue;
            }
            idle = 0;
            looks = looks.wrapping_add(1);
            // A slow file system must not hold up other tasks. An error means the end of the runtime.
            let looked = tokio::task::spawn_blocking(move || {
                locker.look();
                if looks.is_multiple_of(CHECK_EVERY) {
                    locker.check();
                }
            });
            if looked.await.is_err() {
                return;
            }
        }
        drop(self);
        // A lease taken between the last look and the end has found the watcher still there.
        if let Some(locker) = locker.upgrade()
            && locker.leases.load(Ordering::SeqCst) > 0
        {
            Self::start(&locker);
        }
    }
}

impl Drop for Watcher {
    /// Also when the runtime ends under the watcher: a lease in another runtime then starts anew.
    fn drop(&mut self) {
        self.watched.store(false, Ordering::SeqCst);
    }
}

/// What keeps a lease from being had, for the log.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{doing} {path}: {source}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "the file system of {path} has no file locks ({source}): mount it with locks, keep the \
         uploads elsewhere, or use a locker that doesn't need them"
    )]
    NoLocks { path: PathBuf, source: io::Error },
}

fn unavailable(doing: &'static str, path: &Path, source: io::Error) -> LeaseError {
    let path = path.to_owned();
    LeaseError::Unavailable(Box::new(match source.raw_os_error() {
        Some(libc::EINVAL | libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP) => {
            FileError::NoLocks { path, source }
        }
        _ => FileError::Io {
            doing,
            path,
            source,
        },
    }))
}
