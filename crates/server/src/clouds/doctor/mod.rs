//! `landfall doctor gcs` and `landfall doctor azure`: check that a bucket supports Landfall, with a fix for each problem.
//!
//! Calls of uploads are tried on test objects; nothing else is changed. What is not permitted to be read, and that no
//! upload needs, is a note.

mod azure;
mod gcs;
mod permissions;

use std::time::{Instant, SystemTime};

use http::Uri;
use landfall_console::Finding;
use landfall_objects::ErrorKind;

pub use self::{azure::run as azure, gcs::run as gcs};
use crate::{
    diagnosis::Diagnosis,
    doctor::{
        Doctor, Examined,
        connection::{clock, reach, unencrypted},
        milliseconds,
    },
};

/// Checks that the service can be reached, and the clock. An error makes the other checks useless.
async fn connection<C: Examined>(
    doctor: &mut Doctor<'_, C>,
    endpoint: &str,
    unreachable: impl FnOnce(String) -> Diagnosis,
) -> Result<(), Finding> {
    let url = format!("{}/", endpoint.trim_end_matches('/'));
    let uri = url.parse::<Uri>();
    let uri = uri.map_err(|_| Finding::fail("endpoint", "cannot be used in a URL"))?;
    let started = Instant::now();
    let time = reach(&uri).await;
    let time = time.map_err(|why| unreachable(why).failure("connection"))?;
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

/// Checks that the bucket exists; `noun` is how the cloud calls it.
async fn bucket<C: Examined>(
    doctor: &mut Doctor<'_, C>,
    noun: &'static str,
) -> Result<(), Finding> {
    let started = Instant::now();
    let (bucket, prefix) = (doctor.bucket, doctor.prefix);
    let finding = match doctor.client.list_objects(bucket, prefix, None, 1).await {
        Ok(_) => {
            let took = milliseconds(started.elapsed());
            Finding::ok(noun, format!("{bucket} exists and can be listed, {took}"))
        }
        // The checks of permissions say what it is needed for.
        Err(error) if *error.kind() == ErrorKind::AccessDenied => {
            let text = format!("{bucket} cannot be listed, so it may not exist");
            Finding::info(noun, text)
        }
        Err(error) => return Err(doctor.diagnose(error).failure(noun)),
    };
    doctor.report(finding);
    Ok(())
}
