//! Leases that several nodes share, in Redis, PostgreSQL or the bucket, with their check and their sweep.
//!
//! The backend is checked before the first lease, so that a wrong one ends the start. A bucket must honor conditional
//! writes. Only leases in a bucket are swept, and `storage` checks whether the bucket is reachable.

use std::{pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall::{Composer, store::BoxError};
use landfall_leases::{LeaseSettings, LeaseStats, PostgresLocker, RedisLocker};
use landfall_s3::{
    client::Client,
    lease::{BucketLocker, S3Leases, probe_conditional_writes},
};

use super::cached_probe::CachedProbe;
use crate::settings::Leases;

/// Within this time, a new lease continues the fencing tokens of a released one.
pub(super) const LEASE_RETENTION: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct SharedLeases {
    locker: Locker,
    reachable: CachedProbe<Option<String>>,
}

#[derive(Debug, Clone)]
enum Locker {
    Redis(RedisLocker),
    Postgres(PostgresLocker),
    Bucket(BucketLocker),
}

macro_rules! with_locker {
    ($leases:ident, $locker:ident => $value:expr) => {
        match $leases.locker {
            Locker::Redis(ref $locker) => $value,
            Locker::Postgres(ref $locker) => $value,
            Locker::Bucket(ref $locker) => $value,
        }
    };
}

impl SharedLeases {
    pub(super) async fn redis(url: &str, settings: &Leases) -> anyhow::Result<Self> {
        let mut options = LeaseSettings::redis();
        options.ttl = settings.ttl.unwrap_or(options.ttl);
        let locker = RedisLocker::new(url, options).context("--lease")?;
        let failure = "cannot store leases in Redis; correct --lease, or start the server";
        let server = locker.check().await.context(failure)?;
        if let Some(policy) = server.eviction_policy {
            tracing::warn!(
                policy,
                "Redis may evict leases when its memory is full: set maxmemory-policy noeviction"
            );
        }
        Ok(Self::new(Locker::Redis(locker)))
    }

    pub(super) async fn postgres(url: &str, settings: &Leases) -> anyhow::Result<Self> {
        let mut options = LeaseSettings::postgres();
        options.ttl = settings.ttl.unwrap_or(options.ttl);
        let locker = PostgresLocker::new(url, options).context("--lease")?;
        let failure = "cannot store leases in PostgreSQL; correct --lease, or start the server";
        locker.check().await.context(failure)?;
        Ok(Self::new(Locker::Postgres(locker)))
    }

    pub(super) async fn bucket(
        client: &Client,
        bucket: &str,
        prefix: &str,
        settings: &Leases,
    ) -> anyhow::Result<Self> {
        let honored = probe_conditional_writes(client, bucket, prefix).await;
        let honored = honored.context("cannot store leases in the bucket")?;
        anyhow::ensure!(
            honored.all(),
            "cannot store leases in this bucket, because its service ignores conditional writes: use \
             --lease redis://… or --lease postgres://…, or a single node with --lease memory"
        );
        let mut options = LeaseSettings::bucket();
        if let Some(ttl) = settings.ttl {
            options.ttl = ttl;
            options.heartbeat = options.heartbeat.min(ttl / 4);
            options.poll_interval = options.poll_interval.min(ttl / 4);
        }
        let leases = S3Leases::new(client.clone(), bucket, prefix);
        let locker = BucketLocker::new(leases, options).context("--lease")?;
        Ok(Self::new(Locker::Bucket(locker)))
    }

    fn new(locker: Locker) -> Self {
        Self {
            locker,
            reachable: CachedProbe::default(),
        }
    }

    pub(super) fn configure(&self, composer: Composer) -> Composer {
        with_locker!(self, locker => composer.with_locker(locker.clone()))
    }

    pub(super) const fn name(&self) -> &'static str {
        match self.locker {
            Locker::Redis(_) => "Redis",
            Locker::Postgres(_) => "PostgreSQL",
            Locker::Bucket(_) => "the bucket",
        }
    }

    pub(super) fn stats(&self) -> LeaseStats {
        with_locker!(self, locker => locker.stats())
    }

    pub(super) async fn health_error(&self) -> Option<String> {
        type Probe<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;
        let probe: Probe<'_> = match self.locker {
            Locker::Redis(ref locker) => Box::pin(async { Ok(locker.check().await.map(drop)?) }),
            Locker::Postgres(ref locker) => Box::pin(async { Ok(locker.check().await?) }),
            Locker::Bucket(_) => return None,
        };
        self.reachable.error(async || probe.await).await
    }

    pub(super) async fn sweep(&self) -> anyhow::Result<()> {
        if let Locker::Bucket(locker) = &self.locker {
            let summary = locker.sweep(LEASE_RETENTION).await?;
            let (leases, servers) = (summary.leases, summary.nodes);
            tracing::info!(leases, servers, "LeasesSwept");
        }
        Ok(())
    }

    /// Before a sweep by a process that ends with it: leases of dead nodes are free then.
    pub(super) async fn find_dead_nodes(&self) -> anyhow::Result<()> {
        if let Locker::Bucket(locker) = &self.locker {
            locker.find_dead_nodes().await?;
        }
        Ok(())
    }

    pub(super) async fn run_sweeper(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LEASE_RETENTION / 4);
        loop {
            ticks.tick().await;
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "failed to purge old leases");
            }
        }
    }

    pub(super) async fn close(&self) {
        with_locker!(self, locker => locker.close().await)
    }
}
