//! Settings of the lockers for both services, and the time limits that follow from them.
//!
//! A locker must call `check` before it starts. A renewal has to end before its holder must stop, hence
//! `renewal_timeout`.

use std::{io, time::Duration};

/// Settings of a [`RemoteLocker`](crate::RemoteLocker). They must be equal on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseSettings {
    /// Lifetime of a lease that is not renewed: 5 seconds, in a bucket 15 seconds.
    ///
    /// The uploads of a killed node are unavailable for that long. Leases are renewed at a quarter of
    /// it; after four fifths without a renewal the holder has to stop.
    pub ttl: Duration,
    /// Time limit of a call to the service: 2 seconds, in a bucket 5 seconds.
    pub timeout: Duration,
    /// Interval at which a waiter repeats its request, in case a message was lost: 1 second in
    /// PostgreSQL, 250 ms in Redis; 500 ms in a bucket, which has no messages.
    pub poll_interval: Duration,
    /// Interval of the heartbeats of a node with leases in a bucket, and at which it reads the requests of
    /// other nodes for them: 2 seconds, at most a third of `ttl`.
    pub heartbeat: Duration,
    /// Whether the locker may migrate its table in PostgreSQL: true.
    pub can_migrate: bool,
    /// Prefix of all keys and of the channel in Redis: `landfall:`. Each store needs its own prefix.
    pub prefix: String,
}

impl LeaseSettings {
    /// Minimum lifetime of a lease.
    pub const MIN_TTL: Duration = Duration::from_millis(500);
    /// Maximum lifetime of a lease.
    pub const MAX_TTL: Duration = Duration::from_secs(3600);

    /// Returns the defaults for PostgreSQL.
    #[must_use]
    pub fn postgres() -> Self {
        Self {
            ttl: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            poll_interval: Duration::from_secs(1),
            heartbeat: Duration::from_secs(2),
            can_migrate: true,
            prefix: "landfall:".into(),
        }
    }

    /// Returns the defaults for Redis.
    #[must_use]
    pub fn redis() -> Self {
        Self {
            poll_interval: Duration::from_millis(250),
            ..Self::postgres()
        }
    }

    /// Returns the defaults for a bucket.
    #[must_use]
    pub fn bucket() -> Self {
        Self {
            ttl: Duration::from_secs(15),
            timeout: Duration::from_secs(5),
            poll_interval: Duration::from_millis(500),
            ..Self::postgres()
        }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        if self.ttl < Self::MIN_TTL || self.ttl > Self::MAX_TTL {
            return Err(SettingsError::Ttl(self.ttl));
        }
        if self.timeout.is_zero() || self.poll_interval.is_zero() {
            return Err(SettingsError::Zero);
        }
        Ok(())
    }

    /// Returns the time limit of one of several attempts of a call.
    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.timeout / 2
    }

    /// Returns the time limit of a renewal, which must end before the holder has to stop.
    pub(crate) fn renewal_timeout(&self) -> Duration {
        self.attempt_timeout().min(self.ttl / 5)
    }
}

/// An error that prevents the creation of a locker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The URL of PostgreSQL cannot be parsed.
    #[cfg(feature = "postgres")]
    #[error("invalid PostgreSQL URL: {0}")]
    Url(#[source] landfall_state::sql::DatabaseError),
    /// The address of Redis cannot be parsed.
    #[cfg(feature = "redis")]
    #[error("invalid Redis address: {0}")]
    Address(#[source] redis::RedisError),
    /// The lifetime is outside of the allowed range.
    #[error("invalid lease lifetime {0:?}; set it from 500 ms to 1 h")]
    Ttl(Duration),
    /// A time limit or interval is zero.
    #[error("the timeout and the poll interval of leases cannot be zero")]
    Zero,
    /// The interval of heartbeats is not a third of the lifetime at most.
    #[error("invalid heartbeat interval {0:?}; set it to at most a third of the lease lifetime")]
    Heartbeat(Duration),
    /// The lease thread cannot be started.
    #[error("failed to start the thread that renews leases: {0}")]
    Thread(#[source] io::Error),
}
