//! Opens a bucket of Google Cloud Storage or a container of Azure as storage, which differ only in their clients.
//!
//! One that cannot be used ends the start. It must not know how a cloud works: that is in its client.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use landfall::{
    Composer,
    store::{BoxError, StoreError},
};
use landfall_direct::DirectBucket;
use landfall_objects::{
    CallLimits, Cloud, Error, ErrorKind, ObjectRef, ObjectStore, StoreOptions, StoreStats,
    UploadIds,
};

use super::{
    bucket::{REDIRECT_LIFETIME, key_prefixes},
    cached_probe::CachedProbe,
    leases::{LeasedCloud, SharedLeases},
};
use crate::{
    clouds::{azure_client, diagnose_azure, diagnose_gcs, gcs_client, probe_limits},
    diagnosis::Diagnosis,
    settings::{CLOUD_MAX_PARTS, CLOUD_PART_SIZE, LeaseKind, Leases, Settings},
};

/// Nothing uses the URL that is signed at the start.
const PROBE_LIFETIME: Duration = Duration::from_secs(10);

/// The longest block of Azure, in bytes.
const MAX_BLOCK: u64 = 4000 << 20;

/// Storage in a cloud.
#[derive(Debug)]
pub(super) struct CloudStorage {
    /// The bucket or container.
    pub(super) name: String,
    pub(super) description: String,
    pub(super) opened: Box<dyn CloudBackend>,
    /// For direct uploads.
    pub(super) direct: Arc<dyn DirectBucket>,
    pub(super) prefix: String,
    reachable: CachedProbe<Option<String>>,
}

/// The client and the store of a cloud.
#[async_trait]
pub(super) trait CloudBackend: fmt::Debug + Send + Sync {
    fn stats(&self) -> StoreStats;
    async fn probe(&self) -> Result<(), BoxError>;
    async fn flush_due_times(&self) -> Result<(), StoreError>;
    fn leases(&self, settings: &Leases) -> anyhow::Result<SharedLeases>;
}

impl CloudStorage {
    /// Returns the storage that the settings name, unless it is a directory or S3.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<Option<(Self, Composer)>> {
        if let Some(name) = &settings.gcs.bucket {
            return Self::google(settings, name).await.map(Some);
        }
        match &settings.azure.container {
            Some(name) => Self::azure(settings, name).await.map(Some),
            None => Ok(None),
        }
    }

    async fn google(settings: &Settings, name: &str) -> anyhow::Result<(Self, Composer)> {
        let gcs = &settings.gcs;
        let prober = gcs_client(gcs, probe_limits()).context("--gcs-bucket")?;
        let probe = prober.list_objects(name, &gcs.object_prefix, None, 1);
        if let Err(error) = probe.await {
            refuse(error, |error| diagnose_gcs(error, settings, name))?;
        }
        require_signatures(settings, &prober, name, ("--gcs-download", gcs.redirects)).await?;
        let client = gcs_client(gcs, CallLimits::default())?;
        let mut of_clients = gcs.clone();
        of_clients.endpoint.clone_from(&settings.direct.endpoint);
        let signer = || gcs_client(&of_clients, CallLimits::default());
        let direct = direct_bucket(settings, &client, signer)?;
        let options = gcs_options(settings, name);
        let description = format!("Using 'gcs://{name}' as GCS bucket for storage.");
        Self::new(client, prober, options, Arc::new(direct), description)
    }

    async fn azure(settings: &Settings, name: &str) -> anyhow::Result<(Self, Composer)> {
        let azure = &settings.azure;
        let prober = azure_client(azure, probe_limits()).context("--azure-storage")?;
        if let Err(error) = prober.ensure_container(name, azure.access).await {
            refuse(error, |error| diagnose_azure(error, settings, name))?;
        }
        let redirects = ("--azure-download", azure.redirects);
        require_signatures(settings, &prober, name, redirects).await?;
        let client = azure_client(azure, CallLimits::default())?;
        let mut of_clients = azure.clone();
        of_clients.endpoint.clone_from(&settings.direct.endpoint);
        let signer = || azure_client(&of_clients, CallLimits::default());
        let direct = direct_bucket(settings, &client, signer)?;
        let options = azure_options(settings, name);
        let description = format!(
            "Azure BlockBlob Storage authentication using {}\nUsing Azure endpoint {}.",
            client.authorization(),
            client.endpoint()
        );
        Self::new(client, prober, options, Arc::new(direct), description)
    }

    fn new<C: LeasedCloud>(
        client: C,
        prober: C,
        options: StoreOptions,
        direct: Arc<dyn DirectBucket>,
        description: String,
    ) -> anyhow::Result<(Self, Composer)> {
        let (name, prefix) = (options.bucket.clone(), options.object_prefix.clone());
        let store = ObjectStore::new(client, options).context("cannot open the store")?;
        let composer = Composer::join(store.clone());
        let storage = Self {
            name,
            description,
            opened: Box::new(Bucket { prober, store }),
            direct,
            prefix,
            reachable: CachedProbe::default(),
        };
        Ok((storage, composer))
    }

    pub(super) async fn health_error(&self) -> Option<String> {
        let probe = async || self.opened.probe().await;
        self.reachable.error(probe).await
    }
}

/// Returns the bucket of direct uploads, whose clients may need another endpoint.
fn direct_bucket<C: Clone, E: Into<anyhow::Error>>(
    settings: &Settings,
    client: &C,
    signer: impl FnOnce() -> Result<C, E>,
) -> anyhow::Result<landfall_direct::Bucket<C>> {
    let mut direct = landfall_direct::Bucket::new(client.clone());
    if settings.direct.endpoint.is_some() {
        let signer = signer().map_err(Into::into);
        direct.signer = signer.context("--direct-endpoint")?;
    }
    Ok(direct)
}

/// Ends the start, unless only a right is missing that uploads do not need.
fn refuse(error: Error, diagnose: impl FnOnce(Error) -> Diagnosis) -> anyhow::Result<()> {
    let is_denied = *error.kind() == ErrorKind::AccessDenied;
    let error = diagnose(error);
    if is_denied {
        tracing::warn!(
            %error,
            "listing is not permitted: uploads may work, but expired ones are not removed; permit it, or set \
             --sweep-interval 0"
        );
        return Ok(());
    }
    bail!("{error}")
}

pub(crate) fn gcs_options(settings: &Settings, bucket: &str) -> StoreOptions {
    let mut options = options(settings, bucket, &settings.gcs.object_prefix);
    options.redirect = settings.gcs.redirects.then_some(REDIRECT_LIFETIME);
    options
}

pub(crate) fn azure_options(settings: &Settings, container: &str) -> StoreOptions {
    let mut options = options(settings, container, &settings.azure.object_prefix);
    options.max_part = MAX_BLOCK;
    options.redirect = settings.azure.redirects.then_some(REDIRECT_LIFETIME);
    options
}

/// Ends the start if these credentials cannot sign URLs for clients, and the settings need them.
async fn require_signatures(
    settings: &Settings,
    client: &impl Cloud,
    name: &str,
    (flag, redirects): (&str, bool),
) -> anyhow::Result<()> {
    if !settings.direct.enabled && !redirects {
        return Ok(());
    }
    let object = ObjectRef::new(name, "landfall");
    let signed = client.presign_download(&object, "", "", PROBE_LIFETIME);
    signed.await.map(drop).with_context(|| {
        let needs = match settings.direct.enabled {
            true => "--direct",
            false => flag,
        };
        format!("{needs} needs credentials that can sign URLs for clients")
    })
}

fn options(settings: &Settings, name: &str, prefix: &str) -> StoreOptions {
    let mut options = StoreOptions::new(name);
    prefix.clone_into(&mut options.object_prefix);
    options.min_part = 1;
    options.min_copy = 1;
    options.part_size = CLOUD_PART_SIZE;
    options.max_parts = CLOUD_MAX_PARTS;
    options.memory = usize::try_from(settings.limits.max_buffered_bytes).unwrap_or(usize::MAX);
    options.content_hashes = false;
    options.ids = UploadIds::Plain;
    options.conditional_writes = true;
    let is_alone = matches!(settings.leases.kind, LeaseKind::Auto | LeaseKind::Memory);
    options.shared = !is_alone;
    options.orphan_age = options.orphan_age.min(settings.expiry.orphan_age());
    options.excluded_prefixes = key_prefixes(settings, prefix);
    options
}

#[derive(Debug)]
struct Bucket<C> {
    /// Has fewer attempts.
    prober: C,
    store: ObjectStore<C>,
}

#[async_trait]
impl<C: LeasedCloud> CloudBackend for Bucket<C> {
    fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    async fn probe(&self) -> Result<(), BoxError> {
        let options = self.store.options();
        let (bucket, prefix) = (&options.bucket, &options.object_prefix);
        match self.prober.list_objects(bucket, prefix, None, 1).await {
            // Without the permission to list, there is no better answer.
            Err(error) if *error.kind() != ErrorKind::AccessDenied => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn flush_due_times(&self) -> Result<(), StoreError> {
        self.store.flush_due_times().await
    }

    fn leases(&self, settings: &Leases) -> anyhow::Result<SharedLeases> {
        let (client, options) = (self.store.client(), self.store.options());
        SharedLeases::objects(client, &options.bucket, &options.object_prefix, settings)
    }
}
