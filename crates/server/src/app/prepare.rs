//! Prepares what needs no store, database or port: hooks, keys and secrets.

use std::process::ExitCode;

#[cfg(feature = "grants")]
use landfall_api::auth::Jwt;

#[cfg(feature = "grants")]
use super::grants;
use super::{
    hooks::{self, HookRoute},
    terminal,
};
use crate::settings::Loaded;
#[cfg(feature = "grants")]
use crate::settings::Secret;

pub(super) struct Prepared {
    pub(super) hook_routes: Vec<HookRoute>,
    #[cfg(feature = "grants")]
    pub(super) admin_key: Option<Secret>,
    #[cfg(feature = "grants")]
    pub(super) jwt: Option<Jwt>,
    #[cfg(feature = "direct")]
    pub(super) notifications_secret: Option<Secret>,
}

impl Prepared {
    pub(super) async fn new(loaded: &mut Loaded) -> anyhow::Result<Self> {
        loaded.check_system().await?;
        let settings = &loaded.settings;
        Ok(Self {
            hook_routes: hooks::hook_routes(settings)?,
            #[cfg(feature = "grants")]
            admin_key: grants::admin_key(settings)?,
            #[cfg(feature = "grants")]
            jwt: grants::jwt(settings).await?,
            #[cfg(feature = "direct")]
            notifications_secret: grants::notifications_secret(settings)?,
        })
    }
}

/// `landfall config check`: runs all checks of a start and prints the effective settings.
///
/// # Errors
/// The server could not start.
pub async fn config_check(mut loaded: Loaded) -> anyhow::Result<ExitCode> {
    let prepared = Prepared::new(&mut loaded).await;
    loaded.print_warnings();
    prepared?;
    terminal::print(&(loaded.to_toml() + &loaded.directories()))?;
    Ok(ExitCode::SUCCESS)
}
