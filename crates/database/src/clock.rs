//! The clock of everything that is compared: the database's.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The clock that all users of a database agree on. Cheap to clone; all clones are one clock.
///
/// On PostgreSQL each transaction that writes reads the server's clock, and this one follows it; on
/// SQLite it is the system's.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    /// The system's clock, and by how many milliseconds the database's is ahead of it.
    Database(AtomicI64),
    Custom(Box<dyn Fn() -> SystemTime + Send + Sync>),
}

impl Clock {
    /// Makes a clock that shows what `now` returns, for tests.
    #[must_use]
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(Source::Custom(Box::new(now))))
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        match &*self.0 {
            Source::Custom(now) => now(),
            Source::Database(_) => {
                let millis = u64::try_from(self.millis()).unwrap_or_default();
                UNIX_EPOCH + Duration::from_millis(millis)
            }
        }
    }

    /// Returns the time in milliseconds since 1970.
    #[must_use]
    pub fn millis(&self) -> i64 {
        match &*self.0 {
            Source::Custom(now) => since_epoch(now()),
            Source::Database(ahead) => {
                let ahead = ahead.load(Ordering::Relaxed);
                since_epoch(SystemTime::now()).saturating_add(ahead)
            }
        }
    }

    /// Whether this was made by [`new`](Self::new).
    #[must_use]
    pub fn is_custom(&self) -> bool {
        matches!(*self.0, Source::Custom(_))
    }

    /// Sets the clock to the time that the database shows.
    #[cfg(feature = "postgres")]
    pub(crate) fn set(&self, now: i64) {
        if let Source::Database(ahead) = &*self.0 {
            let local = since_epoch(SystemTime::now());
            ahead.store(now.saturating_sub(local), Ordering::Relaxed);
        }
    }
}

impl Default for Clock {
    /// The system's clock.
    fn default() -> Self {
        Self(Arc::new(Source::Database(AtomicI64::new(0))))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

fn since_epoch(at: SystemTime) -> i64 {
    millis(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Returns a span in milliseconds, as the databases store it.
#[must_use]
pub fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
