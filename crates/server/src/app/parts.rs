//! The parts of the application, opened for its settings.
//!
//! It knows no routes, listeners or commands, which use the parts.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use landfall::Handler;
use landfall_http::{NetStats, TlsConfig};
use parking_lot::RwLock;
use tokio::time::MissedTickBehavior;

use super::direct::Direct;
use super::{
    cached_probe::CachedProbe,
    grants::{self, Grants},
};
use super::{
    handler_config,
    hooks::{HookRoute, Hooks, hook_routes},
    state::SharedDatabase,
    storage::Storage,
    tls,
};
use crate::{
    condition::{ConditionKind, Conditions},
    settings::{AllowOrigin, Loaded, Settings},
};

/// A replaced upload directory is logged within this time, although no request notices it.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

const FLUSH_TIMEOUT: Duration = Duration::from_secs(12);

/// Hooks, keys and secrets, which need no store, database or port.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) hook_routes: Vec<HookRoute>,
    pub(super) tls: Option<TlsConfig>,
    pub(super) challenges: landfall_acme::Challenges,
    pub(super) admin_key: Option<crate::settings::Secret>,
    pub(super) jwt: Option<landfall_access::auth::Jwt>,
    pub(super) notifications_secret: Option<crate::settings::Secret>,
}

impl Prepared {
    /// A reload passes the `running` settings.
    pub(super) async fn new(
        loaded: &mut Loaded,
        running: Option<&Settings>,
    ) -> anyhow::Result<Self> {
        loaded.check_system().await?;
        let settings = &loaded.settings;
        let challenges = landfall_acme::Challenges::default();
        Ok(Self {
            hook_routes: hook_routes(settings)?,
            tls: tls::load(settings, challenges.certificates())?,
            challenges,
            admin_key: settings.admin.key.clone(),
            jwt: grants::jwt(settings, running).await?,
            notifications_secret: settings.direct.notifications_secret.clone(),
        })
    }
}

/// The opened parts of the application, which requests, metrics and health checks share.
#[derive(Debug)]
pub(crate) struct AppParts {
    pub(super) allow_origin: Arc<RwLock<AllowOrigin>>,
    pub(crate) storage: Storage,
    pub(crate) hooks: Hooks,
    pub(super) grants: Option<Grants>,
    pub(super) direct: Option<Direct>,
    pub(super) database: SharedDatabase,
    pub(super) health: CachedProbe<Vec<serde_json::Value>>,
    pub(crate) conditions: Conditions,
}

impl AppParts {
    /// Without `prepared`, for a dry run, no hooks are called and no database is opened.
    pub(super) async fn open(
        settings: &Settings,
        database: SharedDatabase,
        prepared: Option<Prepared>,
    ) -> anyhow::Result<(Self, Handler)> {
        let (storage, composer) = Storage::open(settings, &database).await?;
        let allow_origin = Arc::new(RwLock::new(settings.cors.allow_origin.clone()));
        let mut config = handler_config(settings, composer, allow_origin.clone())?;
        let has_queue = settings.has_queue() && prepared.is_some();
        let prepared = prepared.unwrap_or_default();
        let hooks = Hooks::open(settings, &database, prepared.hook_routes).await?;
        hooks.configure(&mut config);
        let grants = if has_queue {
            let secrets = (prepared.admin_key, prepared.jwt);
            Some(Grants::open(settings, &database, &hooks, secrets, &mut config).await?)
        } else {
            None
        };
        let direct = match &grants {
            Some(grants) if settings.direct.enabled => {
                let secret = prepared.notifications_secret;
                Some(
                    Direct::open(settings, &database, &storage, grants, secret, &mut config)
                        .await?,
                )
            }
            _ => None,
        };
        let handler = Handler::new(config)?;
        if let Some(direct) = &direct {
            direct.attach(&handler);
        }
        let parts = Self {
            allow_origin,
            storage,
            hooks,
            grants,
            direct,
            database,
            health: CachedProbe::default(),
            conditions: Conditions::default(),
        };
        let (kind, exposed) = (
            ConditionKind::StateDirectoryExposed,
            parts.database.exposed(),
        );
        parts.conditions.set(kind, "", exposed);
        Ok((parts, handler))
    }

    /// Checks what uploads need; probes of other machines are cached for a few seconds.
    pub(super) async fn check_readiness(&self) {
        let grants = async {
            if let Some(grants) = &self.grants {
                grants.check(&self.conditions).await;
            }
        };
        // At the same time: each may wait for its timeout.
        let (storage, hooks) = (
            self.storage.check(&self.conditions),
            self.hooks.check(&self.conditions),
        );
        tokio::join!(storage, hooks, grants);
        self.database.report(&self.conditions);
    }

    /// Notices conditions although no one asks: from counters, and from the upload directory.
    pub(super) async fn watch_conditions(self: Arc<Self>, net: Arc<NetStats>, handler: Handler) {
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let limited = || {
            let counters = [
                &net.address_connections,
                &net.address_requests,
                &net.address_uploads,
                &net.address_downloads,
            ];
            counters
                .into_iter()
                .map(|one| one.load(Relaxed))
                .sum::<u64>()
        };
        let mut seen = limited();
        loop {
            ticks.tick().await;
            self.storage.check_directory(&self.conditions).await;
            self.hooks.check_receivers(&self.conditions);
            self.database.report(&self.conditions);
            let stats = handler.stats();
            let damaged = stats.damaged_uploads;
            let detail = (damaged > 0).then(|| format!("{damaged} as of the last sweep"));
            self.conditions
                .set(ConditionKind::DamagedUploads, "", detail);
            let step = stats.clock_step;
            let detail = (step > 0).then(|| format!("by {step} seconds"));
            self.conditions.set(ConditionKind::ClockStepped, "", detail);
            let now = limited();
            if now > seen {
                let rejected = format!("{} requests or connections were rejected", now - seen);
                self.conditions
                    .record(ConditionKind::AddressLimit, "", rejected);
                seen = now;
            }
        }
    }

    /// Stops background tasks, flushes pending writes to the database, and releases leases.
    pub(super) async fn close(&self) {
        let flush = tokio::time::timeout(FLUSH_TIMEOUT, self.flush());
        if flush.await.is_err() {
            tracing::warn!("failed to flush the database; events are recovered at the next start");
        }
        // Leases may be in the database.
        self.storage.close().await;
        if tokio::time::timeout(FLUSH_TIMEOUT, self.database.close())
            .await
            .is_err()
        {
            tracing::warn!("failed to close the database");
        }
    }

    async fn flush(&self) {
        if let Some(direct) = &self.direct {
            direct.close().await;
        }
        if let Some(grants) = &self.grants {
            grants.close().await;
        }
        self.hooks.close().await;
    }
}
