//! `landfall doctor s3`: checks that a bucket supports Landfall, with a fix for each problem.

mod conditions;
mod cors;
mod endpoint;
mod lifecycle;
mod permissions;
mod web;

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use http::{HeaderMap, Method};
use landfall_console::{Finding, Severity};
use landfall_objects::StoreOptions;
use landfall_s3::client::{Client, Error, ObjectRef};

use super::diagnose;
use crate::{
    app,
    diagnosis::Diagnosis,
    doctor::{self, Examined, leases},
    settings::{Loaded, S3, Settings},
};

type Doctor<'a> = doctor::Doctor<'a, Client>;

impl Examined for Client {
    fn diagnose(error: Error, settings: &Settings, bucket: &str) -> Diagnosis {
        diagnose(&error, &settings.s3, bucket)
    }

    fn options(settings: &Settings, bucket: &str) -> StoreOptions {
        app::s3_options(settings, bucket)
    }
}

/// Runs all checks and prints the findings; exits with 1 if uploads cannot work.
///
/// # Errors
/// The settings name no bucket, or the client cannot be created.
pub async fn run(loaded: Loaded, json: bool, origins: Vec<String>) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let (settings, s3) = (&loaded.settings, &loaded.settings.s3);
    let bucket = s3.bucket.as_deref();
    let bucket = bucket.context("no bucket is named")?;
    let client = super::probe_client(s3)?;
    let doctor = Doctor::new(settings, bucket, &s3.object_prefix, client, json);
    let about = serde_json::json!({"bucket": bucket, "endpoint": s3.endpoint});
    let checks = async |doctor: &mut Doctor<'_>| run_checks(doctor, &origins).await;
    Ok(doctor.run(checks, about).await)
}

async fn run_checks(doctor: &mut Doctor<'_>, origins: &[String]) {
    if let Err(finding) = endpoint::run(doctor).await {
        doctor.report(finding);
    } else {
        let may_write = permissions::run(doctor).await;
        if may_write {
            conditions::run(doctor).await;
        }
        cors::run(doctor, origins, may_write).await;
        lifecycle::run(doctor).await;
        doctor.examine_uploads().await;
    }
    leases::run(doctor).await;
}

impl<'a> Doctor<'a> {
    fn s3(&self) -> &'a S3 {
        &self.settings.s3
    }

    async fn presign(
        &self,
        method: Method,
        object: &ObjectRef,
        query: &[(&str, &str)],
        headers: &HeaderMap,
    ) -> Result<String, Error> {
        let lifetime = Duration::from_secs(60);
        let client = &self.client;
        let presigned = client.presign(method, object, query, headers, lifetime);
        presigned.await
    }
}
