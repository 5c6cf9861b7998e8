//! What a [`RedisLocker`](crate::RedisLocker) can be told.

use std::{io, time::Duration};

/// Settings of a [`RedisLocker`](crate::RedisLocker). All nodes must have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisSettings {
    /// What the names of all keys, and of the channel, begin with: `landfall:`. Stores that don't
    /// share their uploads need different prefixes.
    pub prefix: String,
    /// How long a lease lasts if it isn't renewed: 5 seconds. That long, the uploads of a node that
    /// was killed are out of reach. Renewed at a third of it; at four fifths without a renewal the
    /// holder is told that the lease is lost.
    pub ttl: Duration,
    /// How long a call waits for Redis before it gives up: 2 seconds.
    pub patience: Duration,
    /// How often a waiter looks whether the lease is free, if it hears nothing: every 250 ms.
    pub poll: Duration,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            prefix: "landfall:".into(),
            ttl: Duration::from_secs(5),
            patience: Duration::from_secs(2),
            poll: Duration::from_millis(250),
        }
    }
}

impl RedisSettings {
    /// The shortest lifetime of a lease.
    pub const LEAST_TTL: Duration = Duration::from_millis(500);

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        if self.ttl < Self::LEAST_TTL || self.ttl > Duration::from_secs(3600) {
            return Err(SettingsError::Ttl(self.ttl));
        }
        if self.patience.is_zero() || self.poll.is_zero() {
            return Err(SettingsError::Zero);
        }
        Ok(())
    }
}

/// Why there can't be a locker with these settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The address can't be understood, or needs a feature that was not built in.
    #[error("the address of Redis is not usable: {0}")]
    Address(#[source] redis::RedisError),
    /// A lease would be too short to be renewed in time, or too long to be waited for.
    #[error("a lease must last from half a second to an hour, not {0:?}")]
    Ttl(Duration),
    /// A time that can't be zero.
    #[error("neither patience nor the poll interval can be zero")]
    Zero,
    /// The thread that renews leases can't be started.
    #[error("can't start the thread that renews leases: {0}")]
    Thread(#[source] io::Error),
}
