//! Leases that several servers share, as a part of the server.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall::Composer;
#[cfg(feature = "postgres")]
use landfall_postgres::{PostgresLocker, PostgresSettings};
#[cfg(feature = "redis")]
use landfall_redis::{RedisLocker, RedisSettings};
#[cfg(feature = "s3")]
use landfall_s3::{
    client::Client,
    lease::{BucketLocker, BucketSettings, supports_conditional_writes},
};

#[cfg(any(feature = "redis", feature = "postgres"))]
use super::freshness::Fresh;
use crate::settings::Leases;

/// How long a lease that nobody has stays known: taken again before that, its numbers go on.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);

/// Leases kept outside of this process.
#[derive(Debug)]
pub(super) struct SharedLeases {
    locker: Locker,
    #[cfg(any(feature = "redis", feature = "postgres"))]
    reachable: Fresh,
}

#[derive(Debug, Clone)]
enum Locker {
    #[cfg(feature = "redis")]
    Redis(RedisLocker),
    #[cfg(feature = "postgres")]
    Postgres(PostgresLocker),
    #[cfg(feature = "s3")]
    Bucket(BucketLocker),
}

/// What was done with leases so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseStats {
    /// Leases held now.
    pub(super) held: usize,
    /// Leases granted.
    pub(super) granted: u64,
    /// Leases that another server gave up first.
    pub(super) taken_over: u64,
    /// Leases lost.
    pub(super) lost: u64,
    /// Requests for a lease that failed because what keeps them was away.
    pub(super) unavailable: u64,
}

impl SharedLeases {
    /// In Redis; sees that the server does what leases need.
    #[cfg(feature = "redis")]
    pub(super) async fn redis(url: &str, settings: &Leases) -> anyhow::Result<Self> {
        let mut options = RedisSettings::default();
        if let Some(ttl) = settings.ttl {
            options.ttl = ttl;
        }
        let locker = RedisLocker::new(url, options).context("-lease")?;
        let server = locker
            .check()
            .await
            .context("leases can't be kept in Redis: correct --lease, or start the server")?;
        if let Some(policy) = server.eviction_policy {
            tracing::warn!(
                policy,
                "Redis may throw leases out when its memory is full: set maxmemory-policy \
                 noeviction"
            );
        }
        Ok(Self::new(Locker::Redis(locker)))
    }

    /// Opens leases in PostgreSQL, and checks that the server does what they need.
    #[cfg(feature = "postgres")]
    pub(super) async fn postgres(url: &str, settings: &Leases) -> anyhow::Result<Self> {
        let mut options = PostgresSettings::default();
        if let Some(ttl) = settings.ttl {
            options.ttl = ttl;
        }
        let locker = PostgresLocker::new(url, options).context("--lease")?;
        locker
            .check()
            .await
            .context("cannot store leases in PostgreSQL; correct --lease, or start the server")?;
        Ok(Self::new(Locker::Postgres(locker)))
    }

    /// In the bucket; sees that the service keeps the conditions that they rest on.
    #[cfg(feature = "s3")]
    pub(super) async fn bucket(
        client: &Client,
        bucket: &str,
        prefix: &str,
        settings: &Leases,
    ) -> anyhow::Result<Self> {
        let works = supports_conditional_writes(client, bucket, prefix)
            .await
            .context("leases can't be kept in the bucket")?;
        anyhow::ensure!(
            works,
            "leases can't be kept in this bucket, whose service ignores conditions on writes: use \
             --lease redis://… or --lease postgres://…, or a single server with --lease memory"
        );
        let mut options = BucketSettings::default();
        if let Some(ttl) = settings.ttl {
            options.ttl = ttl;
            options.renew = options.renew.min(ttl / 4);
            options.poll = options.poll.min(ttl / 4);
        }
        let locker = BucketLocker::new(client.clone(), bucket, prefix, options)?;
        Ok(Self::new(Locker::Bucket(locker)))
    }

    fn new(locker: Locker) -> Self {
        Self {
            locker,
            #[cfg(any(feature = "redis", feature = "postgres"))]
            reachable: Fresh::default(),
        }
    }

    /// Lets these leases decide who writes.
    pub(super) fn join(&self, composer: Composer) -> Composer {
        match self.locker.clone() {
            #[cfg(feature = "redis")]
            Locker::Redis(locker) => composer.with_locker(locker),
            #[cfg(feature = "postgres")]
            Locker::Postgres(locker) => composer.with_locker(locker),
            #[cfg(feature = "s3")]
            Locker::Bucket(locker) => composer.with_locker(locker),
        }
    }

    /// What people call it.
    #[cfg(feature = "grants")]
    pub(super) const fn name(&self) -> &'static str {
        match &self.locker {
            #[cfg(feature = "redis")]
            Locker::Redis(_) => "Redis",
            #[cfg(feature = "postgres")]
            Locker::Postgres(_) => "PostgreSQL",
            #[cfg(feature = "s3")]
            Locker::Bucket(_) => "the bucket",
        }
    }

    /// Returns statistics.
    pub(super) fn stats(&self) -> LeaseStats {
        macro_rules! stats {
            ($locker:ident) => {{
                let stats = $locker.stats();
                LeaseStats {
                    held: stats.held,
                    granted: stats.granted,
                    taken_over: stats.waited,
                    lost: stats.lost,
                    unavailable: stats.unavailable,
                }
            }};
        }
        match &self.locker {
            #[cfg(feature = "redis")]
            Locker::Redis(locker) => stats!(locker),
            #[cfg(feature = "postgres")]
            Locker::Postgres(locker) => stats!(locker),
            #[cfg(feature = "s3")]
            Locker::Bucket(locker) => stats!(locker),
        }
    }

    /// What keeps leases from being had now, if anything does and nothing else shows it.
    pub(super) async fn trouble(&self) -> Option<&'static str> {
        match &self.locker {
            #[cfg(feature = "redis")]
            Locker::Redis(locker) => {
                let check = async || match locker.check().await {
                    Ok(_) => true,
                    Err(error) => {
                        tracing::warn!(%error, "Redis can't be reached");
                        false
                    }
                };
                let reachable = self.reachable.ask(check).await;
                (!reachable).then_some("the leases in Redis can't be reached\n")
            }
            #[cfg(feature = "postgres")]
            Locker::Postgres(locker) => {
                let check = async || match locker.check().await {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::warn!(%error, "failed to acquire a lease in PostgreSQL");
                        false
                    }
                };
                let is_available = self.reachable.ask(check).await;
                (!is_available).then_some("leases in PostgreSQL are not available\n")
            }
            #[cfg(feature = "s3")]
            Locker::Bucket(_) => None,
        }
    }

    /// Forgets leases that nobody has had for [`KNOWN_FOR`], where nothing else does.
    pub(super) async fn sweep(&self) -> anyhow::Result<()> {
        match &self.locker {
            #[cfg(feature = "redis")]
            Locker::Redis(_) => {}
            // The locker purges the table.
            #[cfg(feature = "postgres")]
            Locker::Postgres(_) => {}
            #[cfg(feature = "s3")]
            Locker::Bucket(locker) => {
                let swept = locker.sweep(KNOWN_FOR).await?;
                tracing::info!(leases = swept.leases, servers = swept.nodes, "LeasesSwept");
            }
        }
        Ok(())
    }

    /// The same for ever, beside a server.
    pub(super) async fn sweep_forever(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(KNOWN_FOR / 4);
        loop {
            ticks.tick().await;
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "old leases can't be removed");
            }
        }
    }

    /// Gives up what is held, so that nobody has to wait for it to lapse.
    pub(super) async fn close(&self) {
        match &self.locker {
            #[cfg(feature = "redis")]
            Locker::Redis(locker) => locker.close().await,
            #[cfg(feature = "postgres")]
            Locker::Postgres(locker) => locker.close().await,
            #[cfg(feature = "s3")]
            Locker::Bucket(locker) => locker.close().await,
        }
    }
}
