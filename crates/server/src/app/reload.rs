//! SIGHUP: reads the settings again, and applies all changes or none.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use anyhow::Context as _;
use landfall_http::{AddressLimits, Shutdown, Tls};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::grants::Grants;
use super::routes::App;
use super::{
    parts::{AppParts, Prepared},
    systemd,
};
use crate::log;
use crate::settings::{self, Invocation, Loaded, Settings};

pub(super) fn set_address_limits(limits: &AddressLimits, settings: &Settings) {
    let settings = &settings.limits;
    let connections = settings.max_connections_per_address;
    limits.connections.set(connections);
    limits.requests.set(settings.max_requests_per_address);
    // An upload needs more memory than a download. One stays one, and 0 unlimited.
    limits.uploads.set(connections.div_ceil(2));
    limits.downloads.set(connections);
}

/// SIGHUP: of an operator, or since the terminal is closed.
pub(super) struct Hangups {
    signal: Signal,
    has_terminal: bool,
}

impl Hangups {
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            signal: signal(SignalKind::hangup())?,
            has_terminal: io::stdout().is_terminal(),
        })
    }
}

/// The parts of a running server that can change.
pub(super) struct Reloader {
    pub(super) running: Loaded,
    pub(super) parts: Arc<AppParts>,
    pub(super) app: App,
    pub(super) address_limits: AddressLimits,
    pub(super) tls: Option<Tls>,
}

impl Reloader {
    /// Stops the server instead if its terminal is closed.
    pub(super) async fn run(mut self, mut hangups: Hangups, shutdown: Shutdown) {
        while hangups.signal.recv().await.is_some() {
            if hangups.has_terminal && !io::stdout().is_terminal() {
                return shutdown.start();
            }
            systemd::notify_reloading();
            match self.reload().await {
                Ok(changed) => {
                    let changed = match changed.as_slice() {
                        [] => "nothing".to_owned(),
                        names => names.join(","),
                    };
                    systemd::notify_ready("Serving uploads");
                    tracing::info!(changed, "settings reloaded");
                }
                Err(error) => {
                    let error = format!("{error:#}").replace('\n', "; ");
                    systemd::notify_ready(&format!("Settings not reloaded: {error}"));
                    tracing::error!(error, "settings not reloaded; nothing has changed");
                }
            }
        }
    }

    /// Everything that can fail comes first.
    async fn reload(&mut self) -> anyhow::Result<Vec<&'static str>> {
        let read = settings::read(std::env::args_os().skip(1), std::env::vars_os())?;
        let Invocation::Run(mut loaded, _) = read else {
            anyhow::bail!("these arguments print a text");
        };
        let changed = loaded.reloadable_changes(&self.running)?;
        let prepared = Prepared::new(&mut loaded, Some(&self.running.settings)).await;
        let prepared = prepared.context("the new settings cannot be used")?;
        self.parts.hooks.check_replacement(&prepared.hook_routes)?;
        self.check_unswitched(&loaded.settings, &prepared)?;
        if let Some(grants) = &self.parts.grants {
            grants.replace(prepared.admin_key, prepared.jwt);
        }
        if let (Some(direct), Some(secret)) = (&self.parts.direct, &prepared.notifications_secret) {
            direct.set_notifications_secret(secret);
        }
        if let (Some(tls), Some(config)) = (&self.tls, prepared.tls) {
            tls.replace(config);
        }
        self.parts.hooks.replace_transports(&prepared.hook_routes);
        set_address_limits(&self.address_limits, &loaded.settings);
        let allow_origin = loaded.settings.cors.allow_origin.clone();
        *self.parts.allow_origin.write() = allow_origin;
        self.app.set_greeting(&loaded.settings);
        log::reload(&loaded.settings);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.running = *loaded;
        Ok(changed)
    }

    /// A reload neither adds nor removes routes and tables.
    fn check_unswitched(&self, new: &Settings, prepared: &Prepared) -> anyhow::Result<()> {
        let check = |name: &str, was_on: bool, is_on: bool| {
            anyhow::ensure!(was_on == is_on, "turning {name} on or off needs a restart");
            Ok(())
        };
        check("TLS", self.tls.is_some(), prepared.tls.is_some())?;
        let grants = self.parts.grants.as_ref();
        let has_dashboard = grants.is_some_and(Grants::has_dashboard);
        check("the dashboard", has_dashboard, prepared.admin_key.is_some())?;
        let [had_jwt, has_jwt] =
            [&self.running.settings, new].map(|settings| settings.grants.jwt.keys.is_some());
        check("JSON web tokens", had_jwt, has_jwt)?;
        if let Some(direct) = &self.parts.direct {
            let has_secret = prepared.notifications_secret.is_some();
            check(
                "bucket notifications",
                direct.has_notifications(),
                has_secret,
            )?;
        }
        Ok(())
    }
}
