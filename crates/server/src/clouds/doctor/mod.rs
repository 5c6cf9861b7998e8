//! `landfall doctor gcs` and `landfall doctor azure`: check that a bucket supports Landfall, with a fix for each problem.
//!
//! Calls of uploads are tried on test objects; nothing else is changed. A setting that may not be read, and that no
//! upload needs, is a note.

mod azure;
mod gcs;
mod permissions;

use std::time::{Instant, SystemTime};

use http::Uri;
use landfall_console::Finding;
use landfall_objects::{Error, ErrorKind};

use self::permissions::CheckNames;
pub use self::{azure::run as azure, gcs::run as gcs};
use super::diagnosis::no_connection;
use crate::doctor::{
    Doctor, Examined,
    connection::{clock, reach, unencrypted},
    leases, milliseconds,
};

/// The checks of one cloud alone.
trait CloudChecks: Examined {
    const NAMES: CheckNames;

    /// Returns the URL of the service.
    fn url(&self) -> &str;

    /// Checks that there are credentials, without a call of the service.
    ///
    /// # Errors
    /// They give no access; other checks are useless.
    async fn check_credentials(&self) -> Result<Vec<Finding>, Error>;

    /// Checks the settings of the bucket, as far as they may be read.
    async fn check_settings(doctor: &Doctor<'_, Self>) -> Vec<Finding>;

    /// Checks a property of the bucket by a test object. Objects can be written.
    async fn check_object(doctor: &mut Doctor<'_, Self>) -> Option<Finding>;
}

async fn run_checks<C: CloudChecks>(doctor: &mut Doctor<'_, C>) {
    if let Err(finding) = service(doctor).await {
        doctor.report(finding);
    } else {
        for finding in C::check_settings(doctor).await {
            doctor.report(finding);
        }
        if permissions::run(doctor, &C::NAMES).await
            && let Some(finding) = C::check_object(doctor).await
        {
            doctor.report(finding);
        }
        doctor.examine_uploads().await;
    }
    leases::run(doctor).await;
}

/// Checks that the service can be reached, with these credentials, and that it has the bucket. An error makes the other
/// checks useless.
async fn service<C: CloudChecks>(doctor: &mut Doctor<'_, C>) -> Result<(), Finding> {
    connection(doctor).await?;
    let found = doctor.client.check_credentials().await;
    let found = found.map_err(|error| doctor.diagnose(error).failure("credentials"))?;
    for finding in found {
        doctor.report(finding);
    }
    let started = Instant::now();
    let (bucket, prefix, noun) = (doctor.bucket, doctor.prefix, C::NAMES.bucket);
    let finding = match doctor.client.list_objects(bucket, prefix, None, 1).await {
        Ok(_) => {
            let took = milliseconds(started.elapsed());
            Finding::ok(noun, format!("{bucket} exists and can be listed, {took}"))
        }
        // The check of this permission follows.
        Err(error) if *error.kind() == ErrorKind::AccessDenied => {
            let text = format!("{bucket} cannot be listed, so it may not exist");
            Finding::info(noun, text)
        }
        Err(error) => return Err(doctor.diagnose(error).failure(noun)),
    };
    doctor.report(finding);
    Ok(())
}

async fn connection<C: CloudChecks>(doctor: &mut Doctor<'_, C>) -> Result<(), Finding> {
    let endpoint = doctor.client.url().trim_end_matches('/').to_owned();
    let uri = format!("{endpoint}/").parse::<Uri>();
    let uri = uri.map_err(|_| Finding::fail("endpoint", "cannot be used in a URL"))?;
    let started = Instant::now();
    let time = reach(&uri).await;
    let time = time.map_err(|why| doctor.diagnose(no_connection(why)).failure("connection"))?;
    let took = milliseconds(started.elapsed());
    doctor.report(match unencrypted(&uri) {
        Some(finding) => finding,
        None => Finding::ok("connection", format!("to {endpoint}, {took}")),
    });
    if let Some(time) = time {
        doctor.report(clock(time, SystemTime::now()));
    }
    Ok(())
}
