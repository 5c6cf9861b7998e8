//! Migrates the tables of the database without starting a server, for example during an upgrade.
//!
//! Opens no storage and calls no hook. Tables of certificates exist only in PostgreSQL; those of leases are in the
//! database of `--lease`, which may be another one.

use std::process::ExitCode;

use anyhow::Context as _;
use landfall_console::Progress;

use super::{
    state::{self, SharedDatabase},
    terminal::print,
};
use crate::settings::{Loaded, Settings};

/// Migrates the tables of events, grants and direct uploads; in PostgreSQL those of certificates, too, and those of
/// leases if `--lease` names it.
///
/// # Errors
/// The database cannot be used, or its tables were created by another program.
pub async fn migrate(loaded: Loaded) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let (_, place) = state::named_database(&loaded.settings);
    let migrate = migrate_tables(&loaded.settings, &place);
    Progress::new("migrating tables")
        .show_during(migrate)
        .await?;
    print(&format!("The tables in {place} are up to date.\n"))?;
    Ok(ExitCode::SUCCESS)
}

async fn migrate_tables(settings: &Settings, place: &str) -> anyhow::Result<()> {
    let opened = SharedDatabase::default();
    let connections = opened.connect(settings, "events").await?;
    let migrated = async {
        landfall_state::outbox::migrate(&connections).await?;
        landfall_state::queue::migrate(&connections).await?;
        landfall_direct::migrate(&connections).await?;
        if connections.is_postgres() {
            landfall_acme::migrate(&connections).await?;
        }
        Ok::<_, landfall_state::sql::DatabaseError>(())
    };
    let migrated = migrated.await;
    migrated.with_context(|| format!("failed to migrate {place}"))?;
    if let crate::settings::LeaseKind::Postgres(url) = &settings.leases.kind {
        let connections = opened.connect_leases(settings, url.reveal()).await?;
        let leases = super::leases::SharedLeases::postgres(connections, &settings.leases).await?;
        leases.close().await;
    }
    opened.close().await;
    Ok(())
}
