//! Leases in Redis, as a part of the server.

use anyhow::Context as _;
use landfall_redis::{RedisLocker, RedisSettings};

use super::freshness::Fresh;
use crate::settings::Leases;

/// The locker, and whether its server can be reached.
#[derive(Debug)]
pub(super) struct RedisLeases {
    locker: RedisLocker,
    reachable: Fresh,
}

impl RedisLeases {
    /// Connects, and sees that the server does what leases need.
    pub(super) async fn open(url: &str, settings: &Leases) -> anyhow::Result<Self> {
        let mut options = RedisSettings::default();
        if let Some(ttl) = settings.ttl {
            options.ttl = ttl;
        }
        let locker = RedisLocker::new(url, options).context("-lease")?;
        let server = locker
            .check()
            .await
            .context("leases can't be kept in Redis: correct -lease, or start the server")?;
        if let Some(policy) = server.evicts {
            tracing::warn!(
                policy,
                "Redis may throw leases out when its memory is full: set maxmemory-policy \
                 noeviction"
            );
        }
        Ok(Self {
            locker,
            reachable: Fresh::default(),
        })
    }

    pub(super) fn locker(&self) -> RedisLocker {
        self.locker.clone()
    }

    /// What was done so far.
    pub(super) fn stats(&self) -> landfall_redis::Stats {
        self.locker.stats()
    }

    /// Whether leases can be had now.
    pub(super) async fn is_reachable(&self) -> bool {
        let check = async || match self.locker.check().await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "Redis can't be reached");
                false
            }
        };
        self.reachable.ask(check).await
    }

    /// Gives up what is held, so that nobody has to wait for it to lapse.
    pub(super) async fn close(&self) {
        self.locker.close().await;
    }
}
