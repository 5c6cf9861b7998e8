//! The PostgreSQL that stores leases.

use std::time::Instant;

use landfall_postgres::{DatabaseError, PostgresLocker, PostgresSettings};

use super::{Examination, Finding, Mark, milliseconds};

/// Examines the server: connection, notifications, time to acquire a lease.
pub(super) async fn examine(x: &mut Examination<'_>, url: &str) {
    let failed = |check, error: &dyn std::error::Error, advice: &str| {
        Finding::new(check, Mark::Fail, error.to_string()).advise(advice.to_owned())
    };
    let mut settings = PostgresSettings::default();
    settings.can_migrate = false;
    let locker = match PostgresLocker::new(url, settings) {
        Ok(locker) => locker,
        Err(error) => {
            x.note(failed("PostgreSQL", &error, "correct --lease"));
            return;
        }
    };
    let started = Instant::now();
    let checked = locker.check().await;
    let took = milliseconds(started.elapsed());
    match checked {
        Ok(()) => {
            let text = format!("connected, {took}");
            x.note(Finding::new("PostgreSQL", Mark::Ok, text));
            x.note(Finding::new("PostgreSQL messages", Mark::Ok, "arrive"));
        }
        Err(error @ DatabaseError::NoNotifications) => {
            let text = format!("connected, {took}");
            x.note(Finding::new("PostgreSQL", Mark::Ok, text));
            let advice = "set pool_mode = session in PgBouncer, or correct --lease";
            x.note(failed("PostgreSQL messages", &error, advice));
            return;
        }
        Err(error) => {
            let advice = "correct --lease, start the server, or allow the user to create tables";
            x.note(failed("PostgreSQL", &error, advice));
            return;
        }
    }
    let started = Instant::now();
    match locker.check().await {
        Ok(()) => {
            let text = milliseconds(started.elapsed());
            x.note(Finding::new("PostgreSQL lease", Mark::Ok, text));
        }
        Err(error) => {
            let advice = "allow the user to write the table leases";
            x.note(failed("PostgreSQL lease", &error, advice));
        }
    }
    locker.close().await;
}
