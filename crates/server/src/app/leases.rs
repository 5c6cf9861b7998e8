//! Leases that several nodes share, in Redis, PostgreSQL or the bucket, with their check and their sweep.
//!
//! The backend is checked before the first lease, so that a wrong one ends the start. A bucket must honor conditional
//! writes. Only leases in a bucket are swept, and `storage` checks whether the bucket is reachable.

use std::{pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall::{Composer, store::BoxError};
use landfall_azure::AzureClient;
use landfall_leases::{BucketLocker, LeaseSettings, LeaseStats, PostgresLocker, RedisLocker};
use landfall_objects::{Cloud, ObjectLeases};
use landfall_s3::{client::Client, lease::probe_conditional_writes};
use landfall_state::sql::Connections;

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
pub(super) enum Locker {
    Redis(RedisLocker),
    Postgres(PostgresLocker),
    S3(BucketLocker<ObjectLeases<Client>>),
    Gcs(BucketLocker<ObjectLeases<landfall_gcs::Client>>),
    Azure(BucketLocker<ObjectLeases<AzureClient>>),
}

/// A cloud whose buckets may have leases.
pub(super) trait LeasedCloud: Cloud + Clone {
    fn locker(locker: BucketLocker<ObjectLeases<Self>>) -> Locker;
}

impl LeasedCloud for Client {
    fn locker(locker: BucketLocker<ObjectLeases<Self>>) -> Locker {
        Locker::S3(locker)
    }
}

impl LeasedCloud for landfall_gcs::Client {
    fn locker(locker: BucketLocker<ObjectLeases<Self>>) -> Locker {
        Locker::Gcs(locker)
    }
}

impl LeasedCloud for AzureClient {
    fn locker(locker: BucketLocker<ObjectLeases<Self>>) -> Locker {
        Locker::Azure(locker)
    }
}

macro_rules! with_locker {
    ($leases:ident, $locker:ident => $value:expr) => {
        match $leases.locker {
            Locker::Redis(ref $locker) => $value,
            Locker::Postgres(ref $locker) => $value,
            Locker::S3(ref $locker) => $value,
            Locker::Gcs(ref $locker) => $value,
            Locker::Azure(ref $locker) => $value,
        }
    };
}

/// Only leases in a bucket have records that must be swept.
macro_rules! with_bucket_locker {
    ($leases:ident, $locker:ident => $value:expr) => {
        match $leases.locker {
            Locker::Redis(_) | Locker::Postgres(_) => {}
            Locker::S3(ref $locker) => $value,
            Locker::Gcs(ref $locker) => $value,
            Locker::Azure(ref $locker) => $value,
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

    pub(super) async fn postgres(
        connections: Connections,
        settings: &Leases,
    ) -> anyhow::Result<Self> {
        let mut options = LeaseSettings::postgres();
        options.ttl = settings.ttl.unwrap_or(options.ttl);
        let locker = PostgresLocker::shared(&connections, options).context("--lease")?;
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
        Self::objects(client, bucket, prefix, settings)
    }

    /// In a bucket of a service that honors conditional writes.
    pub(super) fn objects<C: LeasedCloud>(
        client: &C,
        bucket: &str,
        prefix: &str,
        settings: &Leases,
    ) -> anyhow::Result<Self> {
        let mut options = LeaseSettings::bucket();
        if let Some(ttl) = settings.ttl {
            options.ttl = ttl;
            options.heartbeat = options.heartbeat.min(ttl / 4);
            options.poll_interval = options.poll_interval.min(ttl / 4);
        }
        // A cloud may limit the writes of one object.
        options.heartbeat = options.heartbeat.max(client.rules().write_interval * 2);
        let leases = ObjectLeases::new(client.clone(), bucket, prefix);
        let locker = BucketLocker::new(leases, options).context("--lease")?;
        Ok(Self::new(C::locker(locker)))
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
            Locker::S3(_) | Locker::Gcs(_) | Locker::Azure(_) => "the bucket",
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
            Locker::S3(_) | Locker::Gcs(_) | Locker::Azure(_) => return None,
        };
        self.reachable.error(async || probe.await).await
    }

    pub(super) async fn sweep(&self) -> anyhow::Result<()> {
        with_bucket_locker!(self, locker => {
            let summary = locker.sweep(LEASE_RETENTION).await?;
            let (leases, servers) = (summary.leases, summary.nodes);
            tracing::info!(leases, servers, "LeasesSwept");
        });
        Ok(())
    }

    /// Before a sweep by a process that ends with it: leases of dead nodes are free then.
    pub(super) async fn find_dead_nodes(&self) -> anyhow::Result<()> {
        with_bucket_locker!(self, locker => locker.find_dead_nodes().await?);
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
