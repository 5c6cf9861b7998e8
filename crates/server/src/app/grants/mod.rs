//! Opens the upload queue for grants and the dashboard, and connects it with the handler.
//!
//! Its hook and its event sink come before those of the application, so `open` must follow `Hooks::configure`.
//! Background maintenance starts with `run`. Without `--grants` the queue only tracks uploads for the dashboard.

mod authentication;
mod maintenance;
mod routes;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall::{Config, Handler, service::Cors};
use landfall_access::{
    ClientAddress,
    auth::{FailedAttempts, Jwt},
    grants::{
        api::ApiStats,
        enforce::{GrantHook, GrantHookSettings},
    },
};
use landfall_state::queue::{
    Queue, QueueSettings, QueueStats, Totals, policy::Policy, tracking::JobTracker,
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use self::maintenance::{Maintenance, MaintenanceStats};
pub(super) use self::{authentication::jwt, routes::ApiRoutes};
use super::{
    cached_probe::CachedProbe,
    hooks::Hooks,
    proxies,
    state::{self, SharedDatabase},
};
use crate::{
    admin::AdminKey,
    condition::{ConditionKind, Conditions},
    settings::{Secret, Settings},
};

const STATS_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Grants {
    pub(super) queue: Queue,
    pub(super) database_name: String,
    pub(super) policies: Vec<Arc<dyn Policy>>,
    enabled: bool,
    admin_key: Option<AdminKey>,
    jwt: Option<Arc<Jwt>>,
    cors: Option<Cors>,
    failed_attempts: FailedAttempts,
    client: ClientAddress,
    maintenance: Mutex<JoinSet<()>>,
    maintenance_stats: Arc<MaintenanceStats>,
    reachable: CachedProbe<Option<String>>,
    api: Arc<ApiStats>,
}

impl Grants {
    pub(super) async fn open(
        settings: &Settings,
        database: &SharedDatabase,
        hooks: &Hooks,
        (key, jwt): (Option<Secret>, Option<Jwt>),
        config: &mut Config,
    ) -> anyhow::Result<Self> {
        let grants = &settings.grants;
        let (database_config, database_name) = state::named_database(settings);
        let mut wanted = QueueSettings::new(database_config);
        wanted.connections = Some(database.connect(settings, "grants").await?);
        wanted.valid_for = grants.valid_for;
        wanted.retention = settings.state.retention;
        wanted.quota_period = grants.quota.period;
        wanted.started_at_grant = grants.laravel;
        wanted.node = state::node_name(settings);
        wanted.outbox = hooks.outbox().cloned();
        let queue = Queue::open(wanted).await;
        let queue = queue.with_context(|| format!("cannot store grants in {database_name}"))?;
        let failed_attempts = FailedAttempts::default();
        let forwarded = proxies::forwarded(&settings.urls);
        let client = ClientAddress::new(move |headers, peer| {
            forwarded.client(headers, peer.map(|peer| peer.ip()))
        });

        let mut gate = GrantHookSettings::default();
        gate.require_token = grants.required;
        gate.enforce_type = grants.enforce_type;
        gate.track_all = settings.admin.is_on();
        gate.failed_attempts = Some(failed_attempts.clone());
        gate.client = client.clone();
        // Both come first, so that the queue contains what the application is notified of.
        let gate = GrantHook::new(queue.clone(), gate);
        config.hooks.insert(0, Arc::new(gate));
        let tracker = JobTracker::new(queue.clone());
        config.sinks.insert(0, Arc::new(tracker));

        Ok(Self {
            queue,
            database_name,
            policies: policies(settings, hooks),
            enabled: grants.enabled,
            admin_key: key.map(|key| AdminKey::new(key.reveal())),
            jwt: jwt.map(Arc::new),
            cors: config.cors.clone(),
            failed_attempts,
            client,
            maintenance: Mutex::default(),
            maintenance_stats: Arc::default(),
            reachable: CachedProbe::default(),
            api: Arc::default(),
        })
    }

    pub(super) fn has_dashboard(&self) -> bool {
        self.admin_key.is_some()
    }

    /// Replaces what is given, and in use.
    pub(super) fn replace(&self, key: Option<Secret>, jwt: Option<Jwt>) {
        if let (Some(current), Some(key)) = (&self.admin_key, key) {
            current.set(key.reveal());
        }
        if let (Some(current), Some(jwt)) = (&self.jwt, jwt) {
            current.replace(jwt);
        }
    }

    /// Begins with the jobs of processes that died.
    pub(super) async fn run(&self, handler: &Handler) -> anyhow::Result<()> {
        let checked = self.queue.check().await;
        checked.with_context(|| format!("cannot read grants from {}", self.database_name))?;
        let maintenance = Maintenance {
            queue: self.queue.clone(),
            handler: handler.clone(),
            stats: self.maintenance_stats.clone(),
        };
        self.maintenance.lock().spawn(maintenance.run());
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.maintenance.lock().abort_all();
        self.queue.close().await;
    }

    /// Checks whether grants can be stored.
    pub(super) async fn check(&self, conditions: &Conditions) {
        let error = self
            .reachable
            .error(async || self.queue.check().await)
            .await;
        conditions.set(ConditionKind::GrantsUnavailable, &self.database_name, error);
    }

    /// Returns where grants can be requested and how callers authenticate, for the line at the start about who may upload.
    pub(super) fn describe(&self, settings: &Settings) -> Option<String> {
        let (path, methods) = (
            &settings.grants.path,
            authentication::describe_methods(settings),
        );
        let methods = methods.join(", ");
        let text = format!("; grants are at {path}, authenticated by {methods}");
        self.enabled.then_some(text)
    }

    pub(super) async fn warn(&self, settings: &Settings) {
        // The first is API keys.
        let has_other_methods = authentication::describe_methods(settings).len() > 1;
        if !self.enabled || has_other_methods {
            return;
        }
        if let Ok(keys) = self.queue.keys().await
            && keys.is_empty()
            && self.queue.links().await.is_ok_and(|links| links.is_empty())
        {
            tracing::warn!(
                "grants cannot be requested yet, because there is no API key: create one with landfall keys \
                 add NAME (and the settings of this server), a link with landfall link, or set --grants-jwt-keys, \
                 --grants-forward-auth-url or --grants-client-certificates"
            );
        }
    }

    pub(super) async fn stats(&self) -> GrantStats {
        let read = async { tokio::try_join!(self.queue.totals(), self.queue.latest_event()) };
        let read = tokio::time::timeout(STATS_TIMEOUT, read).await;
        GrantStats {
            enabled: self.enabled,
            api: self.api.clone(),
            queue: self.queue.stats(),
            maintenance: self.maintenance_stats.clone(),
            read: read.ok().and_then(Result::ok),
        }
    }
}

#[derive(Debug)]
pub(super) struct GrantStats {
    pub(super) enabled: bool,
    pub(super) api: Arc<ApiStats>,
    pub(super) queue: QueueStats,
    pub(super) maintenance: Arc<MaintenanceStats>,
    /// The number of jobs and of the last event; `None` if the database did not respond.
    pub(super) read: Option<(Totals, i64)>,
}

fn policies(settings: &Settings, hooks: &Hooks) -> Vec<Arc<dyn Policy>> {
    let mut limits = settings.grants.limits.clone();
    // Do not grant a size that creation would reject.
    limits.max_size = settings.largest_grant();
    limits.quota = settings.grants.quota.bytes;
    let mut policies: Vec<Arc<dyn Policy>> = vec![Arc::new(limits)];
    policies.extend(hooks.grant_hooks().map(|hook| hook as Arc<dyn Policy>));
    policies
}
