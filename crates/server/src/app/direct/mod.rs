//! Direct uploads: what goes straight to the bucket, and who makes sure of it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::{Context as _, bail};
use axum::Router;
use landfall::{Config, Handler, service::Cors};
use landfall_direct::{
    CLIENT_KEY_PREFIX, DirectSettings, DirectStats, Repository, SmallFiles, StsSettings,
    SweepReport,
    api::{self, ApiSettings},
};
use landfall_grants::{Queue, auth::Authenticator, enforce::ClientAddress, policy::Policy};
use landfall_s3::{S3Options, lease::supports_conditional_writes};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    state::Opened,
    storage::{Kept, Storage},
};
use crate::{
    log, s3,
    settings::{self, LeaseKind, Secret, Settings},
};

/// Direct uploads, and what stands around them.
#[derive(Debug)]
pub(super) struct Direct {
    uploads: landfall_direct::Direct,
    stats: Arc<DirectStats>,
    /// What the bucket's notifications are known by.
    secret: Option<Secret>,
    stop: watch::Sender<bool>,
    sweeper: Mutex<Option<JoinHandle<()>>>,
}

impl Direct {
    /// Opens the books, if there are such uploads; their jobs are in `queue`, and the bucket's
    /// notifications are known by `secret`.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(super) async fn open(
        settings: &Settings,
        database: &Opened,
        storage: &Storage,
        queue: &Queue,
        policies: Vec<Arc<dyn Policy>>,
        secret: Option<Secret>,
    ) -> anyhow::Result<Option<Self>> {
        if !settings.direct.enabled {
            return Ok(None);
        }
        let Kept::Bucket(bucket) = &storage.kept else {
            bail!("-direct needs a bucket: write --s3-bucket NAME");
        };
        let mut wanted = wanted(settings, bucket)?;
        wanted.has_notifications = secret.is_some();
        wanted.policies = policies;
        wanted.objects.conditional_writes =
            !settings.direct.overwrite && honors_conditions(settings, bucket).await;
        let stats = wanted.stats.clone();
        let connections = database.lend(settings, "direct uploads").await?;
        let repository = Repository::open(connections)
            .await
            .context("the tables of direct uploads can't be used")?;
        Ok(Some(Self {
            uploads: landfall_direct::Direct::new(wanted, queue.clone(), repository),
            stats,
            secret,
            stop: watch::Sender::new(false),
            sweeper: Mutex::default(),
        }))
    }

    /// Lets a handler look at them and remove them.
    pub(super) fn join(&self, config: &mut Config) {
        config.external_uploads = Some(Arc::new(self.uploads.clone()));
    }

    /// Has the handler's hooks asked and its sinks told.
    pub(super) fn follow(&self, handler: &Handler) {
        self.uploads.set_handler(handler);
    }

    /// Looks after them from now on, in a task of this runtime.
    pub(super) fn run(&self) {
        let uploads = self.uploads.clone();
        let stop = self.stop.subscribe();
        let task = tokio::spawn(async move { uploads.sweep_forever(stop).await });
        *self.sweeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Looks after them once.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn sweep(&self) -> anyhow::Result<SweepReport> {
        let swept = self.uploads.sweep().await;
        swept.context("direct uploads can't be looked at")
    }

    /// At the end of the program: lets what is under way come to an end.
    pub(super) async fn close(&self) {
        self.stop.send_replace(true);
        let task = {
            let mut sweeper = self.sweeper.lock().unwrap_or_else(PoisonError::into_inner);
            sweeper.take()
        };
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the sweeper of direct uploads broke off");
        }
    }

    /// The API.
    pub(super) fn router(
        &self,
        settings: &Settings,
        callers: Authenticator,
        cors: Option<Cors>,
        client: Arc<ClientAddress>,
    ) -> Router {
        let mut wanted = ApiSettings::new(self.uploads.clone(), callers);
        wanted.path.clone_from(&settings.direct.path);
        wanted.cors = cors;
        wanted.client = Some(client);
        wanted.notifications_secret = self
            .secret
            .as_ref()
            .map(|secret| secret.reveal().to_owned());
        api::service(wanted)
    }

    /// Prints the start-up lines.
    pub(super) fn announce(&self, settings: &Settings) {
        let paths = paths(settings).join(", ");
        log::say(format_args!(
            "Using {paths} as the paths for direct uploads."
        ));
        if let Some(endpoint) = &settings.direct.endpoint {
            log::say(format_args!("Clients send them to '{endpoint}'."));
        }
    }

    /// The counters, for the page of metrics.
    pub(super) fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Relaxed);
        let stats = &self.stats;
        Counts {
            opened: of(&stats.opened),
            rejected: of(&stats.rejected),
            completed: of(&stats.completed),
            failed: of(&stats.failed),
            cancelled: of(&stats.cancelled),
            expired: of(&stats.expired),
            parts: of(&stats.parts),
            sweeps: of(&stats.sweeps),
            checks: of(&stats.checks),
            check_failures: of(&stats.check_failures),
        }
    }
}

/// What the page of metrics shows; as in [`DirectStats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) opened: u64,
    pub(super) rejected: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) expired: u64,
    pub(super) parts: u64,
    pub(super) sweeps: u64,
    pub(super) checks: u64,
    pub(super) check_failures: u64,
}

/// Whether the service honors conditional writes, without which a signed PUT may replace its object.
async fn honors_conditions(settings: &Settings, bucket: &super::bucket::Bucket) -> bool {
    if matches!(settings.leases.kind, LeaseKind::Store) {
        return true;
    }
    let detected =
        supports_conditional_writes(&bucket.client, &bucket.name, &settings.s3.object_prefix).await;
    detected.unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "failed to detect conditional writes, signed PUTs may replace their objects; \
             landfall doctor s3 tells more"
        );
        false
    })
}

/// The paths that belong to them, with all that is below.
pub(super) fn paths(settings: &Settings) -> Vec<String> {
    let path = &settings.direct.path;
    api::PATH_PREFIXES
        .map(|area| format!("{path}{area}"))
        .to_vec()
}

/// What keys of direct uploads begin with: the store leaves such keys alone.
pub(super) fn beginnings(settings: &Settings) -> Vec<String> {
    if !settings.direct.enabled {
        return Vec::new();
    }
    let prefix = &settings.s3.object_prefix;
    [settings.direct.key_prefix(), CLIENT_KEY_PREFIX]
        .map(|beginning| format!("{prefix}{beginning}"))
        .to_vec()
}

fn wanted(settings: &Settings, bucket: &super::bucket::Bucket) -> anyhow::Result<DirectSettings> {
    let direct = &settings.direct;
    let mut wanted = DirectSettings::new(bucket.client.clone(), &bucket.name);
    if let Some(endpoint) = &direct.endpoint {
        wanted.signer = s3::signer(&settings.s3, endpoint).context("--direct-endpoint")?;
    }
    let mut objects = S3Options::new(&bucket.name);
    objects.object_prefix.clone_from(&settings.s3.object_prefix);
    objects.key_template = Some(direct.key.clone());
    objects.headers = s3::object_headers(&settings.s3.headers);
    objects.headers.acl = direct.acl.clone().or(objects.headers.acl);
    wanted.objects = objects;
    wanted.public_url.clone_from(&direct.public_url);
    wanted.small_files = match direct.small_files {
        settings::SmallFiles::Post => SmallFiles::Post,
        settings::SmallFiles::Put => SmallFiles::Put,
    };
    wanted.put_lifetime = direct.put_lifetime;
    wanted.url_lifetime = direct.url_lifetime;
    wanted.idle_timeout = settings.direct_idle_timeout();
    wanted.check_interval = direct.poll_interval;
    wanted.sts = direct.sts.enabled.then(|| StsSettings {
        endpoint: direct.sts.endpoint.clone(),
        role: direct.sts.role.clone(),
        lifetime: direct.sts.lifetime,
    });
    wanted.sign_requests = direct.sign_requests;
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Invocation, direct::API_PATHS, read};

    #[test]
    fn other_pages_are_kept_from_these_paths() {
        assert_eq!(api::PATH_PREFIXES, API_PATHS);
    }

    #[test]
    fn the_store_leaves_their_keys_alone() {
        let said = |words: &[&str]| match read(words.iter().map(Into::into), []) {
            Ok(Invocation::Serve(loaded)) => beginnings(&loaded.settings),
            other => panic!("{other:?}"),
        };
        let usual = ["-s3-bucket=b", "-direct"];
        assert_eq!(said(&usual), ["uploads/", "own/"]);
        let elsewhere = ["-s3-object-prefix=in", "-direct-key=d-{id}"];
        assert_eq!(
            said(&[&usual[..], &elsewhere].concat()),
            ["in/d-", "in/own/"]
        );
        assert_eq!(said(&usual[..1]), Vec::<String>::new());
    }
}
