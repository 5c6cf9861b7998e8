//! The time of the database, so that nodes whose system clocks differ agree on expiries.
//!
//! Stores only an offset to the system clock, which PostgreSQL transactions update: a read calls nothing and takes no
//! lock. The time can step, forward and back.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use super::convert::{from_unix_millis, unix_millis};

/// The clock of a database. Clones share it.
///
/// On PostgreSQL it follows the server's clock, which each write transaction reads. On SQLite it is
/// the system clock.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    /// An offset to the system clock, in milliseconds.
    Database(AtomicI64),
    Custom(Box<dyn Fn() -> SystemTime + Send + Sync>),
}

impl Clock {
    /// Creates a clock that returns `now()`, for tests.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(Source::Custom(Box::new(now))))
    }

    /// Returns the current time.
    pub fn now(&self) -> SystemTime {
        match &*self.0 {
            Source::Custom(now) => now(),
            Source::Database(_) => from_unix_millis(self.millis()),
        }
    }

    /// Returns the current time in milliseconds since 1970.
    pub fn millis(&self) -> i64 {
        match &*self.0 {
            Source::Custom(now) => unix_millis(now()),
            Source::Database(ahead) => {
                let ahead = ahead.load(Ordering::Relaxed);
                unix_millis(SystemTime::now()).saturating_add(ahead)
            }
        }
    }

    /// Returns whether [`new`](Self::new) created this clock.
    pub fn is_custom(&self) -> bool {
        matches!(*self.0, Source::Custom(_))
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn set(&self, now: i64) {
        if let Source::Database(ahead) = &*self.0 {
            let local = unix_millis(SystemTime::now());
            ahead.store(now.saturating_sub(local), Ordering::Relaxed);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Source::Database(AtomicI64::new(0))))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
