//! Checks the PostgreSQL server for leases.

use std::time::Instant;

use landfall_postgres::{DatabaseError, PostgresLocker, PostgresSettings};

use super::{Doctor, Finding, milliseconds};

/// Checks connection, notifications, and the time to acquire a lease.
pub(super) async fn run(doctor: &mut Doctor<'_>, url: &str) {
    let failed = |check, error: &dyn std::error::Error, advice: &str| {
        Finding::fail(check, error.to_string()).advise(advice.to_owned())
    };
    let mut settings = PostgresSettings::default();
    settings.can_migrate = false;
    let locker = match PostgresLocker::new(url, settings) {
        Ok(locker) => locker,
        Err(error) => {
            doctor.report(failed("PostgreSQL", &error, "correct --lease"));
            return;
        }
    };
    let started = Instant::now();
    let checked = locker.check().await;
    let took = milliseconds(started.elapsed());
    match checked {
        Ok(()) => {
            let text = format!("connected, {took}");
            doctor.report(Finding::ok("PostgreSQL", text));
            doctor.report(Finding::ok("PostgreSQL messages", "arrive"));
        }
        Err(error @ DatabaseError::NoNotifications) => {
            let text = format!("connected, {took}");
            doctor.report(Finding::ok("PostgreSQL", text));
            let advice = "set pool_mode = session in PgBouncer, or correct --lease";
            doctor.report(failed("PostgreSQL messages", &error, advice));
            return;
        }
        Err(error) => {
            let advice = "correct --lease, start the server, or allow the user to create tables";
            doctor.report(failed("PostgreSQL", &error, advice));
            return;
        }
    }
    let started = Instant::now();
    match locker.check().await {
        Ok(()) => {
            let text = milliseconds(started.elapsed());
            doctor.report(Finding::ok("PostgreSQL lease", text));
        }
        Err(error) => {
            let advice = "allow the user to write the table leases";
            doctor.report(failed("PostgreSQL lease", &error, advice));
        }
    }
    locker.close().await;
}
