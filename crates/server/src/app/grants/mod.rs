//! Grants: who may ask for uploads, who may make them, and what became of them.

mod callers;
mod client;
mod key;
mod pages;
mod policies;
mod tend;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use landfall::{Config, Handler};
use landfall_grants::{
    GrantLimits, Queue, QueueSettings,
    api::ApiStats,
    auth::{FailedAttempts, RateLimit},
    enforce::{ClientAddress, GrantHook, GrantHookSettings, JobTracker},
    queue::{QueueStats, Totals},
};
use landfall_hooks::outbox::Outbox;

#[cfg(feature = "direct")]
pub(super) use self::key::secret_of_file;
use self::tend::Tending;
pub(super) use self::{
    callers::jwt,
    key::key,
    pages::{Pages, PagesParts},
    policies::policies,
    tend::Tended,
};
use super::{
    freshness::Fresh,
    state::{self, Opened},
};
use crate::{
    log,
    settings::{self, Secret, Settings},
};

/// How long the page of metrics waits for numbers out of the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// The queue, and what stands around it.
pub(super) struct Grants {
    queue: Queue,
    /// What people call the database's place.
    place: String,
    enabled: bool,
    required: bool,
    /// The key to the dashboard, if there is one.
    key: Option<Secret>,
    failed_attempts: FailedAttempts,
    client: Arc<ClientAddress>,
    tending: Tending,
    reachable: Fresh,
    api: Arc<ApiStats>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grants")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Grants {
    /// Opens the queue, if uploads can be asked for or the dashboard shows them; the dashboard is for
    /// who has the key.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub(super) async fn open(
        settings: &Settings,
        database: &Opened,
        outbox: Option<Outbox>,
        key: Option<Secret>,
    ) -> anyhow::Result<Option<Self>> {
        let grants = &settings.grants;
        if !settings.has_queue() {
            return Ok(None);
        }
        let kept = state::opened(&state::database(settings));
        let place = state::place(&kept);
        let mut wanted = QueueSettings::new(kept);
        wanted.connections = Some(database.lend(settings, "grants").await?);
        wanted.survives_power_loss = state::survives_power_loss(settings);
        wanted.valid_for = grants.valid_for;
        wanted.retention = grants.retention;
        wanted.quota_period = grants.quota_period;
        wanted.started_at_grant = grants.api == settings::GrantsApi::Laravel;
        wanted.node = state::node(settings);
        wanted.outbox = outbox;
        let queue = Queue::open(wanted)
            .await
            .with_context(|| format!("grants can't be kept in {place}"))?;
        Ok(Some(Self {
            tending: Tending::new(queue.clone()),
            queue,
            place,
            enabled: grants.enabled,
            required: grants.required,
            key,
            failed_attempts: FailedAttempts::default(),
            client: client::finder(&settings.urls),
            reachable: Fresh::default(),
            api: Arc::default(),
        }))
    }

    /// Lets a handler ask the gate and tell the queue; before anybody else is asked or told, so that
    /// what the application hears of is in the queue.
    pub(super) fn join(&self, settings: &Settings, config: &mut Config) {
        let mut gate = GrantHookSettings::default();
        gate.require_token = self.required;
        gate.enforce_type = settings.grants.enforce_type;
        gate.track_all = settings.admin.is_on();
        gate.failed_attempts = Some(self.failed_attempts.clone());
        gate.client = Some(self.client.clone());
        config
            .hooks
            .insert(0, Arc::new(GrantHook::new(self.queue.clone(), gate)));
        self.follow(config);
    }

    /// For who only removes uploads: lets a handler tell the queue.
    pub(super) fn follow(&self, config: &mut Config) {
        config
            .sinks
            .insert(0, Arc::new(JobTracker::new(self.queue.clone())));
    }

    /// Finds out what was missed when a process died, and looks after the queue from then on, in a
    /// task of this runtime.
    ///
    /// # Errors
    /// The database can't be used.
    pub(super) async fn run(&self, handler: &Handler) -> anyhow::Result<()> {
        self.tending
            .run(handler)
            .await
            .with_context(|| format!("grants can't be read from {}", self.place))
    }

    /// At the end of the program: keeps what isn't written yet.
    pub(super) async fn close(&self) {
        self.tending.stop();
        self.queue.close().await;
    }

    /// The queue itself.
    #[cfg(feature = "direct")]
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What keeps uploads from being granted now, if anything does.
    pub(super) async fn trouble(&self) -> Option<&'static str> {
        let reachable = self.reachable.ask(async || match self.queue.check().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "failed to check the database of grants");
                false
            }
        });
        (!reachable.await).then_some("the database of grants cannot be used\n")
    }

    /// Prints the start-up lines.
    pub(super) fn announce(&self, settings: &Settings) {
        log::say(format_args!("Using {} for grants.", self.place));
        if self.enabled {
            let path = &settings.grants.path;
            log::say(format_args!("Using {path} as the path for grants."));
            let known_by = callers::known_by(settings).join(", ");
            log::say(format_args!("Callers are known by {known_by}."));
        }
        if settings.admin.is_on() {
            let path = &settings.admin.path;
            log::say(format_args!("Using {path} as the path of the dashboard."));
        }
    }

    /// Warns if nobody can ask for uploads.
    pub(super) async fn warn(&self, settings: &Settings) {
        let others =
            settings.grants.jwt.keys.is_some() || settings.grants.forward_auth.url.is_some();
        if !self.enabled || others {
            return;
        }
        if let Ok(keys) = self.queue.keys().await
            && keys.is_empty()
        {
            tracing::warn!(
                "nobody can ask for uploads yet: make a key with landfall keys add NAME (and the \
                 settings of this server), or write --grants-jwt-keys or --grants-forward-auth-url"
            );
        }
    }

    /// How it stands, for the page of metrics.
    pub(super) async fn stats(&self) -> GrantStats {
        let totals = tokio::time::timeout(PATIENCE, self.queue.totals()).await;
        GrantStats {
            enabled: self.enabled,
            api: self.api.clone(),
            queue: self.queue.stats(),
            tended: self.tending.tended(),
            newest_event: *self.queue.watch_latest_event().borrow(),
            totals: totals.ok().and_then(Result::ok),
        }
    }
}

/// What the page of metrics shows.
#[derive(Debug)]
pub(super) struct GrantStats {
    /// Whether uploads can be asked for.
    pub(super) enabled: bool,
    pub(super) api: Arc<ApiStats>,
    pub(super) queue: QueueStats,
    pub(super) tended: Tended,
    /// The number of the newest event.
    pub(super) newest_event: i64,
    /// The jobs; `None` if the database doesn't tell now.
    pub(super) totals: Option<Totals>,
}

/// Limits as the queue and the rules have them.
pub(super) fn limits(given: &settings::GrantLimits) -> GrantLimits {
    GrantLimits {
        max_size: given.max_size,
        allowed_types: given.allowed_types.clone(),
        max_active: given.max_active,
        rate_limit: given
            .rate_limit
            .map(|(count, per)| RateLimit { count, per }),
        quota: given.quota,
        require_size: given.require_size,
    }
}
