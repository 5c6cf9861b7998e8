//! Checks that the backend of leases grants one, and that PostgreSQL accepts the connections of all nodes. It keeps no
//! lease.

use std::time::Instant;

use landfall_console::Finding;
use landfall_leases::{DatabaseError, LeaseSettings, PostgresLocker, RedisLocker};

use landfall_state::sql::{Capacity, Connections, Durability};

use super::{Doctor, Examined, milliseconds};
use crate::settings::{Database, LeaseKind};

/// Checks the servers of leases outside of the bucket.
pub(crate) async fn run(doctor: &mut Doctor<'_, impl Examined>) {
    match &doctor.settings.leases.kind {
        LeaseKind::Redis(url) => redis(doctor, url.reveal()).await,
        LeaseKind::Postgres(url) => postgres(doctor, url.reveal()).await,
        _ => {}
    }
    if let Some(Database::Postgres(url)) = &doctor.settings.state.database {
        connections(doctor, url).await;
    }
}

/// Compares the connections of all nodes with those that the server accepts.
async fn connections(doctor: &mut Doctor<'_, impl Examined>, url: &str) {
    const CHECK: &str = "PostgreSQL connections";
    let each = doctor.settings.state.connections;
    // Two are enough here, one of them for notifications.
    let Ok(database) = Connections::to_postgres(url, Durability::PowerLoss, 2) else {
        return;
    };
    // PgBouncer has its own limits.
    if database.has_notifications() {
        doctor.report(match database.capacity().await {
            Ok(capacity) => budget(CHECK, capacity, each),
            Err(error) => Finding::fail(CHECK, error.to_string()).advise(
                "correct --database, start the server, or raise its max_connections if it has too many clients",
            ),
        });
    }
    database.close().await;
}

fn budget(check: &'static str, capacity: Capacity, each: u32) -> Finding {
    let (accepted, open) = (capacity.accepted, capacity.open);
    let nodes = capacity.nodes.max(1);
    let needed = nodes.saturating_mul(each.into());
    let text = format!(
        "{nodes} × {each} (--database-connections) = {needed} of {accepted} that the server accepts; {open} are open"
    );
    match needed.saturating_add(each.into()) {
        // A rolling upgrade starts a node before another one ends.
        more if more > accepted => Finding::warn(check, text).advise(
            "raise max_connections of PostgreSQL, lower --database-connections, or use PgBouncer: another node may \
             find no connection",
        ),
        _ => Finding::ok(check, text),
    }
}

async fn redis(doctor: &mut Doctor<'_, impl Examined>, url: &str) {
    const CHECK: &str = "Redis";
    let locker = match RedisLocker::new(url, LeaseSettings::redis()) {
        Ok(locker) => locker,
        Err(error) => return invalid(doctor, CHECK, &error),
    };
    let started = Instant::now();
    match locker.check().await {
        Ok(server) => {
            let took = milliseconds(started.elapsed());
            let text = format!("a lease of {} {}, {took}", server.name, server.version);
            doctor.report(Finding::ok(CHECK, text));
            if let Some(policy) = server.eviction_policy {
                let text = "leases may be evicted when the memory is full";
                let text = format!("{text} (maxmemory-policy {policy})");
                let advice = "set maxmemory-policy noeviction, or use a separate server";
                doctor.report(Finding::warn("Redis memory", text).advise(advice));
            }
        }
        Err(error) => doctor.report(Finding::fail(CHECK, error.to_string()).advise(
            "correct --lease to the primary of a Redis 6 or newer, start it, or permit the user \
             scripts, PUBLISH and SUBSCRIBE on keys and channels with the prefix landfall:",
        )),
    }
    locker.close().await;
}

async fn postgres(doctor: &mut Doctor<'_, impl Examined>, url: &str) {
    const CHECK: &str = "PostgreSQL";
    let mut settings = LeaseSettings::postgres();
    settings.can_migrate = false;
    let locker = match PostgresLocker::new(url, settings) {
        Ok(locker) => locker,
        Err(error) => return invalid(doctor, CHECK, &error),
    };
    let started = Instant::now();
    doctor.report(match locker.check().await {
        Ok(()) => {
            let text = format!("a lease, {}", milliseconds(started.elapsed()));
            Finding::ok(CHECK, text)
        }
        Err(error) => Finding::fail(CHECK, error.to_string()).advise(match error {
            DatabaseError::NoNotifications => {
                "append statement-cache-capacity=0 to the URL of PgBouncer in transaction mode, or correct --lease"
            }
            _ => {
                "correct --lease, start the server, or allow the user to create the table leases and \
                 write it"
            }
        }),
    });
    locker.close().await;
}

fn invalid(
    doctor: &mut Doctor<'_, impl Examined>,
    check: &'static str,
    error: &landfall_leases::SettingsError,
) {
    doctor.report(Finding::fail(check, error.to_string()).advise("correct --lease"));
}

#[cfg(test)]
mod tests {
    use landfall_console::Severity;
    use landfall_state::sql::Capacity;

    #[test]
    fn the_next_node_must_fit() {
        let found = |nodes, each| {
            let mut capacity = Capacity::default();
            (capacity.accepted, capacity.nodes) = (97, nodes);
            super::budget("x", capacity, each)
        };
        assert_eq!(found(0, 5).severity, Severity::Ok);
        assert_eq!(found(18, 5).severity, Severity::Ok);
        let full = found(19, 5);
        assert_eq!(full.severity, Severity::Warn);
        assert!(
            full.text
                .contains("19 × 5 (--database-connections) = 95 of 97"),
            "{}",
            full.text
        );
    }
}
