//! What is read before anything is opened or listened to: hooks, keys and secrets.

use std::process::ExitCode;

use anyhow::Context as _;
#[cfg(feature = "grants")]
use landfall_grants::auth::Jwt;

#[cfg(feature = "grants")]
use super::grants;
use super::{
    hooks::{self, Way},
    terminal,
};
#[cfg(feature = "grants")]
use crate::settings::Secret;
use crate::settings::{Loaded, Settings};

/// Parts of a server that can be made without opening a store, a database or a port.
pub(super) struct Prepared {
    pub(super) ways: Vec<Way>,
    /// The key to the dashboard, if there is one.
    #[cfg(feature = "grants")]
    pub(super) admin_key: Option<Secret>,
    /// What knows callers by JSON web tokens, if that is set up.
    #[cfg(feature = "grants")]
    pub(super) jwt: Option<Jwt>,
    /// What the bucket's notifications are known by.
    #[cfg(feature = "direct")]
    pub(super) events_secret: Option<Secret>,
}

impl Prepared {
    /// Checks everything that a server needs before it opens anything, and makes what can be made by
    /// then. Both `landfall` and `landfall config check` begin with it.
    ///
    /// # Errors
    /// What cannot work, in words for the person who starts the server.
    pub(super) async fn new(loaded: &mut Loaded) -> anyhow::Result<Self> {
        loaded.check_system().await?;
        let settings = &loaded.settings;
        Ok(Self {
            ways: hooks::ways(settings)?,
            #[cfg(feature = "grants")]
            admin_key: grants::key(settings)?,
            #[cfg(feature = "grants")]
            jwt: grants::jwt(settings).await?,
            #[cfg(feature = "direct")]
            events_secret: events_secret(settings)?,
        })
    }
}

#[cfg(feature = "direct")]
fn events_secret(settings: &Settings) -> anyhow::Result<Option<Secret>> {
    let direct = &settings.direct;
    match &direct.notifications_secret_file {
        Some(file) => grants::secret_of_file(file)
            .with_context(|| format!("-direct-notifications-secret-file {}", file.display()))
            .map(Some),
        None => Ok(direct.notifications_secret.clone()),
    }
}

/// `landfall config check`: checks what a server would, and prints the settings in force.
///
/// # Errors
/// What would keep a server from starting, in words for the person who wants to start it.
pub async fn config_check(mut loaded: Loaded) -> anyhow::Result<ExitCode> {
    let prepared = Prepared::new(&mut loaded).await;
    for warning in &loaded.warnings {
        eprintln!("landfall: warning: {warning}");
    }
    prepared?;
    terminal::print(&(loaded.to_toml() + &loaded.directories()))?;
    Ok(ExitCode::SUCCESS)
}
