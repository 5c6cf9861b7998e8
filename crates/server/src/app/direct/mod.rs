//! Connects the crate of direct uploads with settings, database, bucket and queue, and runs its sweeper.
//!
//! `open` registers direct uploads in the configuration of the handler, which is created later: `attach` must follow.
//! The rules of uploads and API are those of `landfall_direct`. A failed detection of conditional writes is a warning:
//! signed PUTs may then replace objects.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use axum::Router;
use landfall::{Config, Handler, service::Cors};
use landfall_access::{ClientAddress, auth::Authenticator};
use landfall_direct::{
    DirectBucket, DirectSettings, DirectStats, Repository, S3Bucket, SmallFiles, StsSettings,
    SweepReport,
    api::{self, ApiSettings},
};
use landfall_state::queue::TokenHash;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    grants::Grants,
    state::SharedDatabase,
    storage::{Storage, StorageBackend},
};
use crate::{
    log, s3,
    settings::{Secret, Settings, StsRole},
};

/// AWS allows it for every kind of role and key; clients ask for new ones before.
const STS_LIFETIME: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Direct {
    uploads: landfall_direct::Direct,
    stats: Arc<DirectStats>,
    secret: Option<watch::Sender<TokenHash>>,
    stop: watch::Sender<bool>,
    sweeper: Mutex<Option<JoinHandle<()>>>,
}

impl Direct {
    pub(super) async fn open(
        settings: &Settings,
        database: &SharedDatabase,
        storage: &Storage,
        grants: &Grants,
        secret: Option<Secret>,
        config: &mut Config,
    ) -> anyhow::Result<Self> {
        let mut wanted = match &storage.backend {
            StorageBackend::Bucket(bucket) => {
                let mut wanted = s3_settings(settings, bucket)?;
                // Without them, a signed PUT may overwrite.
                wanted.objects.conditional_writes = bucket.writes_once;
                wanted
            }
            StorageBackend::Cloud(cloud) => {
                let bucket = cloud.direct.clone();
                direct_settings(settings, bucket, &cloud.name, &cloud.prefix)
            }
            StorageBackend::Directory(_) => {
                bail!("--direct needs a bucket: set --s3-bucket, --gcs-bucket or --azure-storage")
            }
        };
        wanted.has_notifications = secret.is_some();
        wanted.policies.clone_from(&grants.policies);
        let stats = wanted.stats.clone();
        let connections = database.connect(settings, "direct uploads").await?;
        let repository = Repository::open(connections).await;
        let repository = repository.context("cannot use the tables of direct uploads")?;
        let uploads = landfall_direct::Direct::new(wanted, grants.queue.clone(), repository);
        config.external_uploads = Some(Arc::new(uploads.clone()));
        Ok(Self {
            uploads,
            stats,
            secret: secret.map(|secret| watch::Sender::new(hash(&secret))),
            stop: watch::Sender::new(false),
            sweeper: Mutex::default(),
        })
    }

    pub(super) fn attach(&self, handler: &Handler) {
        self.uploads.set_handler(handler);
    }

    pub(super) fn run(&self) {
        let uploads = self.uploads.clone();
        let stop = self.stop.subscribe();
        let task = tokio::spawn(async move { uploads.sweep_forever(stop).await });
        *self.sweeper.lock() = Some(task);
    }

    pub(super) async fn sweep(&self) -> anyhow::Result<SweepReport> {
        let swept = self.uploads.sweep().await;
        swept.context("cannot check direct uploads")
    }

    pub(super) async fn close(&self) {
        self.stop.send_replace(true);
        let task = self.sweeper.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the sweeper of direct uploads panicked");
        }
    }

    pub(super) fn router(
        &self,
        settings: &Settings,
        callers: Authenticator,
        cors: Option<Cors>,
        client: ClientAddress,
    ) -> Router {
        let mut wanted = ApiSettings::new(self.uploads.clone(), callers);
        wanted.path.clone_from(&settings.direct.path);
        wanted.cors = cors;
        wanted.client = client;
        wanted.notifications_secret = self.secret.as_ref().map(watch::Sender::subscribe);
        api::service(wanted)
    }

    pub(super) fn has_notifications(&self) -> bool {
        self.secret.is_some()
    }

    pub(super) fn set_notifications_secret(&self, secret: &Secret) {
        if let Some(current) = &self.secret {
            current.send_replace(hash(secret));
        }
    }

    pub(super) fn log_startup(&self, settings: &Settings) {
        let paths = api_paths(settings).join(", ");
        log::say(format!("Using {paths} as the paths for direct uploads."));
        if let Some(endpoint) = &settings.direct.endpoint {
            log::say(format_args!("Clients upload to '{endpoint}'."));
        }
    }

    pub(super) fn stats(&self) -> &DirectStats {
        &self.stats
    }
}

/// As in AWS's tools; an empty variable is none.
fn token_service() -> Option<String> {
    let url = std::env::var("AWS_ENDPOINT_URL_STS").ok();
    url.filter(|url| !url.is_empty())
}

fn hash(secret: &Secret) -> TokenHash {
    TokenHash::from_secret(secret.reveal())
}

pub(super) fn api_paths(settings: &Settings) -> Vec<String> {
    let path = &settings.direct.path;
    let paths = api::PATH_PREFIXES.map(|area| format!("{path}{area}"));
    paths.to_vec()
}

fn s3_settings(
    settings: &Settings,
    bucket: &super::bucket::Bucket,
) -> anyhow::Result<DirectSettings> {
    let mut of_s3 = S3Bucket::new(bucket.client.clone());
    if let Some(endpoint) = &settings.direct.endpoint {
        of_s3.signer = s3::signer(&settings.s3, endpoint).context("--direct-endpoint")?;
    }
    let (name, prefix) = (&bucket.name, &settings.s3.object_prefix);
    let mut wanted = direct_settings(settings, Arc::new(of_s3), name, prefix);
    wanted.objects.headers.clone_from(&settings.s3.headers);
    Ok(wanted)
}

fn direct_settings(
    settings: &Settings,
    bucket: Arc<dyn DirectBucket>,
    name: &str,
    prefix: &str,
) -> DirectSettings {
    let direct = &settings.direct;
    let mut wanted = DirectSettings::new(bucket, name);
    let objects = &mut wanted.objects;
    prefix.clone_into(&mut objects.object_prefix);
    objects.key_template = Some(direct.key.clone());
    wanted.public_url.clone_from(&direct.public_url);
    if direct.puts_small_files {
        wanted.small_files = SmallFiles::Put;
    }
    wanted.url_lifetime = direct.url_lifetime;
    wanted.idle_timeout = settings.direct_idle_timeout();
    wanted.check_interval = direct
        .poll_interval
        .unwrap_or_else(|| settings.expiry.direct_check_interval());
    wanted.sts = direct.sts.as_ref().map(|role| StsSettings {
        endpoint: token_service(),
        role: match role {
            StsRole::User => None,
            StsRole::Role(arn) => Some(arn.clone()),
        },
        lifetime: STS_LIFETIME,
    });
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::direct::API_PATHS;

    #[test]
    fn reserved_paths_are_those_of_the_api() {
        assert_eq!(api::PATH_PREFIXES, API_PATHS);
    }
}
