//! Checks that the backend of leases grants one. It keeps none.

use std::time::Instant;

use landfall_console::Finding;
use landfall_leases::{DatabaseError, LeaseSettings, PostgresLocker, RedisLocker};

use super::{Doctor, Examined, milliseconds};
use crate::settings::LeaseKind;

/// Checks the servers of leases outside of the bucket.
pub(crate) async fn run(doctor: &mut Doctor<'_, impl Examined>) {
    match &doctor.settings.leases.kind {
        LeaseKind::Redis(url) => redis(doctor, url.reveal()).await,
        LeaseKind::Postgres(url) => postgres(doctor, url.reveal()).await,
        _ => {}
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
                "set pool_mode = session in PgBouncer, or correct --lease"
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
