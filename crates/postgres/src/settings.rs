use std::{io, time::Duration};

use landfall_state::sql::DatabaseError;

/// Settings of a [`PostgresLocker`](crate::PostgresLocker). They must be equal on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresSettings {
    /// Lifetime of a lease that is not renewed: 5 seconds.
    /// The uploads of a killed node are unavailable for that long. Leases are renewed at a quarter of it; after
    /// four fifths without a renewal the holder has to stop.
    pub ttl: Duration,
    /// Time limit of a call to PostgreSQL: 2 seconds.
    pub timeout: Duration,
    /// Interval at which a waiter repeats its request, in case a notification was lost: 1 second.
    pub poll_interval: Duration,
    /// Whether the locker may migrate its table: true.
    pub can_migrate: bool,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            poll_interval: Duration::from_secs(1),
            can_migrate: true,
        }
    }
}

impl PostgresSettings {
    /// Minimum lifetime of a lease.
    pub const MIN_TTL: Duration = Duration::from_millis(500);
    /// Maximum lifetime of a lease.
    pub const MAX_TTL: Duration = Duration::from_secs(3600);

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        if self.ttl < Self::MIN_TTL || self.ttl > Self::MAX_TTL {
            return Err(SettingsError::Ttl(self.ttl));
        }
        if self.timeout.is_zero() || self.poll_interval.is_zero() {
            return Err(SettingsError::Zero);
        }
        Ok(())
    }
}

/// An error that prevents the creation of a locker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The URL cannot be parsed.
    #[error("invalid PostgreSQL URL: {0}")]
    Url(#[source] DatabaseError),
    /// The lifetime is outside of the allowed range.
    #[error("invalid lease lifetime {0:?}; set it from 500 ms to 1 h")]
    Ttl(Duration),
    /// A time limit or interval is zero.
    #[error("the timeout and the poll interval of leases cannot be zero")]
    Zero,
    /// The lease thread cannot be started.
    #[error("failed to start the thread that renews leases: {0}")]
    Thread(#[source] io::Error),
}
