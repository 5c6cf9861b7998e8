mod authentication;
mod maintenance;
mod routes;
mod secret_file;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall::{Config, Handler};
use landfall_api::{ClientAddress, auth::FailedAttempts};
use landfall_grants::{
    api::ApiStats,
    enforce::{GrantHook, GrantHookSettings},
};
use landfall_messages::BlockingHooks;
use landfall_outbox::Outbox;
use landfall_queue::{
    GrantLimits, Queue, QueueSettings, QueueStats, RateLimit, Totals, policy::Policy,
    tracking::JobTracker,
};

use self::maintenance::Maintenance;
#[cfg(feature = "direct")]
pub(super) use self::secret_file::notifications_secret;
pub(super) use self::{
    authentication::jwt,
    maintenance::MaintenanceStats,
    routes::{ApiRoutes, ApiRoutesParts},
    secret_file::admin_key,
};
use super::{
    cached_probe::CachedProbe,
    proxies::client_address,
    state::{self, SharedDatabase},
};
use crate::{
    log,
    settings::{self, Secret, Settings},
};

const STATS_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Grants {
    queue: Queue,
    database_name: String,
    enabled: bool,
    required: bool,
    key: Option<Secret>,
    failed_attempts: FailedAttempts,
    client: Arc<ClientAddress>,
    maintenance: Maintenance,
    reachable: CachedProbe<bool>,
    api: Arc<ApiStats>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grants")
            .field("database_name", &self.database_name)
            .finish_non_exhaustive()
    }
}

impl Grants {
    pub(super) async fn open(
        settings: &Settings,
        database: &SharedDatabase,
        outbox: Option<Outbox>,
        key: Option<Secret>,
    ) -> anyhow::Result<Option<Self>> {
        let grants = &settings.grants;
        if !settings.has_queue() {
            return Ok(None);
        }
        let (database_config, database_name) = state::named_database(settings);
        let mut wanted = QueueSettings::new(database_config);
        wanted.connections = Some(database.connect(settings, "grants").await?);
        wanted.valid_for = grants.valid_for;
        wanted.retention = grants.retention;
        wanted.quota_period = grants.quota_period;
        wanted.started_at_grant = grants.laravel;
        wanted.node = state::node_name(settings);
        wanted.outbox = outbox;
        let queue = Queue::open(wanted).await;
        let queue = queue.with_context(|| format!("cannot store grants in {database_name}"))?;
        let urls = settings.urls.clone();
        Ok(Some(Self {
            maintenance: Maintenance::new(queue.clone()),
            queue,
            database_name,
            enabled: grants.enabled,
            required: grants.required,
            key,
            failed_attempts: FailedAttempts::default(),
            client: Arc::new(move |headers, peer| {
                client_address(&urls, headers, peer.map(|peer| peer.ip()))
            }),
            reachable: CachedProbe::default(),
            api: Arc::default(),
        }))
    }

    /// Both come first, so that the queue contains what the application is notified of.
    pub(super) fn configure(&self, settings: &Settings, config: &mut Config) {
        let mut gate = GrantHookSettings::default();
        gate.require_token = self.required;
        gate.enforce_type = settings.grants.enforce_type;
        gate.track_all = settings.admin.is_on();
        gate.failed_attempts = Some(self.failed_attempts.clone());
        gate.client = Some(self.client.clone());
        let gate = GrantHook::new(self.queue.clone(), gate);
        config.hooks.insert(0, Arc::new(gate));
        self.track_jobs(config);
    }

    pub(super) fn track_jobs(&self, config: &mut Config) {
        let tracker = JobTracker::new(self.queue.clone());
        config.sinks.insert(0, Arc::new(tracker));
    }

    /// Begins with the jobs of processes that died.
    pub(super) async fn run(&self, handler: &Handler) -> anyhow::Result<()> {
        let started = self.maintenance.run(handler).await;
        started.with_context(|| format!("cannot read grants from {}", self.database_name))
    }

    pub(super) async fn close(&self) {
        self.maintenance.stop();
        self.queue.close().await;
    }

    #[cfg(feature = "direct")]
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(super) async fn health_error(&self) -> Option<&'static str> {
        let message = "failed to check the database of grants";
        let texts = (message, "the grants database cannot be used\n");
        let probe = async || self.queue.check().await;
        self.reachable.error(texts, probe).await
    }

    pub(super) fn log_startup(&self, settings: &Settings) {
        log::say(format_args!("Using {} for grants.", self.database_name));
        if self.enabled {
            let path = &settings.grants.path;
            log::say(format_args!("Using {path} as the path for grants."));
            let methods = authentication::describe_methods(settings).join(", ");
            log::say(format_args!("Authenticating callers by {methods}."));
        }
        if settings.admin.is_on() {
            let path = &settings.admin.path;
            log::say(format_args!("Using {path} as the path of the dashboard."));
        }
    }

    pub(super) async fn warn(&self, settings: &Settings) {
        let has_other_methods =
            settings.grants.jwt.keys.is_some() || settings.grants.forward_auth.url.is_some();
        if !self.enabled || has_other_methods {
            return;
        }
        if let Ok(keys) = self.queue.keys().await
            && keys.is_empty()
        {
            tracing::warn!(
                "grants cannot be requested yet, because there is no API key: create one with landfall keys \
                 add NAME (and the settings of this server), or set --grants-jwt-keys or \
                 --grants-forward-auth-url"
            );
        }
    }

    pub(super) async fn stats(&self) -> GrantStats {
        let totals = tokio::time::timeout(STATS_TIMEOUT, self.queue.totals()).await;
        GrantStats {
            enabled: self.enabled,
            api: self.api.clone(),
            queue: self.queue.stats(),
            maintenance: self.maintenance.stats(),
            newest_event: *self.queue.watch_latest_event().borrow(),
            totals: totals.ok().and_then(Result::ok),
        }
    }
}

#[derive(Debug)]
pub(super) struct GrantStats {
    pub(super) enabled: bool,
    pub(super) api: Arc<ApiStats>,
    pub(super) queue: QueueStats,
    pub(super) maintenance: Arc<MaintenanceStats>,
    pub(super) newest_event: i64,
    /// The number of jobs; `None` if the database did not respond.
    pub(super) totals: Option<Totals>,
}

pub(super) fn policies(
    settings: &Settings,
    hooks: Vec<Arc<BlockingHooks>>,
) -> Vec<Arc<dyn Policy>> {
    let mut limits = limits(&settings.grants.limits);
    // Do not grant a size that creation would reject.
    limits.max_size = settings.largest_grant();
    let mut policies: Vec<Arc<dyn Policy>> = vec![Arc::new(limits)];
    policies.extend(hooks.into_iter().map(|hook| hook as Arc<dyn Policy>));
    policies
}

pub(super) fn limits(limits: &settings::GrantLimits) -> GrantLimits {
    let rate_limit = limits.rate_limit;
    GrantLimits {
        max_size: limits.max_size,
        allowed_types: limits.allowed_types.clone(),
        max_active: limits.max_active,
        rate_limit: rate_limit.map(|(count, per)| RateLimit { count, per }),
        quota: limits.quota,
        require_size: limits.require_size,
    }
}
