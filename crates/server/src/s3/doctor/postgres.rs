use std::time::Instant;

use landfall_leases::{DatabaseError, LeaseSettings, PostgresLocker};

use super::{Doctor, Finding, milliseconds};

pub(super) async fn run(doctor: &mut Doctor<'_>, url: &str) {
    let mut settings = LeaseSettings::postgres();
    settings.can_migrate = false;
    let locker = match PostgresLocker::new(url, settings) {
        Ok(locker) => locker,
        Err(error) => {
            let finding = Finding::fail("PostgreSQL", error.to_string());
            return doctor.report(finding.advise("correct --lease"));
        }
    };
    let started = Instant::now();
    let checked = locker.check().await;
    let connected = match &checked {
        Ok(()) | Err(DatabaseError::NoNotifications) => {
            Ok(format!("connected, {}", milliseconds(started.elapsed())))
        }
        Err(error) => Err(error.to_string()),
    };
    let fix = "correct --lease, start the server, or allow the user to create tables";
    if !doctor.report_step("PostgreSQL", connected, fix) {
        return;
    }
    let arrived = checked.map(|()| "arrive".to_owned());
    let fix = "set pool_mode = session in PgBouncer, or correct --lease";
    let arrived = arrived.map_err(|error| error.to_string());
    if !doctor.report_step("PostgreSQL messages", arrived, fix) {
        return;
    }
    let started = Instant::now();
    let checked = locker.check().await;
    let took = checked.map(|()| milliseconds(started.elapsed()));
    let took = took.map_err(|error| error.to_string());
    let fix = "allow the user to write the table leases";
    doctor.report_step("PostgreSQL lease", took, fix);
    locker.close().await;
}
