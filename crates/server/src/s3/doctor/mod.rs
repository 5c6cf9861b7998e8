//! `landfall doctor s3`: checks that a bucket supports Landfall, with a fix for each problem.
//!
//! Its test objects have random keys below the prefix and are removed at the end, even after an
//! interrupt.

mod cors;
mod endpoint;
mod leases;
mod lifecycle;
mod permissions;
mod web;

use std::{
    future::Future,
    process::ExitCode,
    time::{Duration, Instant, UNIX_EPOCH},
};

use anyhow::Context as _;
use http::{HeaderMap, Method};
use landfall::store::Store as _;
use landfall_s3::{
    S3Store,
    client::{Client, Error, ErrorKind, ObjectRef},
};

use super::{Diagnosis, diagnosis};
use landfall_console::{Finding, Report, Severity};

use crate::app;
use crate::settings::{Loaded, S3, Settings};

/// Each costs several calls.
const MAX_EXAMINED_UPLOADS: u64 = 10_000;

/// Runs all checks and prints the findings; exits with 1 if uploads cannot work.
///
/// # Errors
/// The settings name no bucket, or the client cannot be created.
pub async fn run(loaded: Loaded, json: bool, origins: Vec<String>) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let settings = &loaded.settings;
    let bucket = settings.s3.bucket.as_deref();
    let bucket = bucket.context("no bucket is named")?;
    let client = super::probe_client(&settings.s3)?;
    let mut doctor = Doctor::new(settings, bucket, client, json);
    let progress = doctor.report.progress.clone();
    let check = async {
        tokio::select! {
            () = run_checks(&mut doctor, &origins) => {}
            _ = tokio::signal::ctrl_c() => {
                progress.suspend(|| eprintln!("landfall: interrupted; cleaning up"));
            }
        }
        doctor.clean_up().await;
    };
    progress.show_during(check).await;
    Ok(doctor.report.finish(serde_json::json!({
        "bucket": bucket,
        "endpoint": settings.s3.endpoint,
    })))
}

async fn run_checks(doctor: &mut Doctor<'_>, origins: &[String]) {
    if let Err(finding) = endpoint::run(doctor).await {
        doctor.report(finding);
    } else {
        let may_write = permissions::run(doctor).await;
        if may_write {
            leases::conditions(doctor).await;
        }
        cors::run(doctor, origins, may_write).await;
        lifecycle::run(doctor).await;
        uploads(doctor).await;
    }
    leases::run(doctor).await;
}

async fn uploads(doctor: &mut Doctor<'_>) {
    let options = app::s3_options(doctor.settings, doctor.bucket);
    let Ok(store) = S3Store::new(doctor.client.clone(), options) else {
        return;
    };
    let Some(enumerator) = store.capabilities().enumerator else {
        return;
    };
    let mut findings = Vec::new();
    let collect = |finding| findings.push(finding);
    let found = app::find_damaged(
        enumerator,
        MAX_EXAMINED_UPLOADS,
        &doctor.report.progress,
        collect,
    )
    .await;
    for finding in findings {
        doctor.report(finding);
    }
    if let Err(error) = found {
        let text = format!("uploads cannot be listed: {error}");
        doctor.report(Finding::warn("uploads", text));
    }
}

struct Doctor<'a> {
    settings: &'a Settings,
    bucket: &'a str,
    client: Client,
    report: Report,
    key_prefix: String,
    objects: Vec<ObjectRef>,
    multiparts: Vec<(ObjectRef, String)>,
}

impl<'a> Doctor<'a> {
    fn new(settings: &'a Settings, bucket: &'a str, client: Client, is_json: bool) -> Self {
        let prefix = &settings.s3.object_prefix;
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
        let key_prefix = format!("{prefix}.landfall/doctor-{now:x}-{:x}", std::process::id());
        Self {
            settings,
            bucket,
            client,
            report: Report::new("checking the bucket", is_json),
            key_prefix,
            objects: Vec::new(),
            multiparts: Vec::new(),
        }
    }

    fn s3(&self) -> &'a S3 {
        &self.settings.s3
    }

    fn object(&mut self, name: &str) -> ObjectRef {
        let object = ObjectRef::new(self.bucket, format!("{}-{name}", self.key_prefix));
        self.objects.push(object.clone());
        object
    }

    fn report(&mut self, finding: Finding) {
        self.report.add(finding);
    }

    /// Reports a call. Without an `optional` call, which a service may not have, uploads do work, but
    /// not what the text says.
    async fn call<T>(
        &mut self,
        check: &'static str,
        optional: Option<&'static str>,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Option<T> {
        let started = Instant::now();
        let result = call.await;
        let finding = match (&result, optional) {
            (Ok(_), _) => Finding::ok(check, milliseconds(started.elapsed())),
            (Err(error), Some(missing))
                if matches!(
                    error.kind(),
                    ErrorKind::AccessDenied | ErrorKind::NotImplemented
                ) =>
            {
                let diagnosis = Diagnosis::new(error, self.s3(), self.bucket);
                let text = format!("{missing}: {}", diagnosis.response);
                Finding::warn(check, text).advise(diagnosis.fix)
            }
            (Err(error), _) => self.failure(check, error),
        };
        self.report(finding);
        result.ok()
    }

    fn failure(&self, check: &'static str, error: &Error) -> Finding {
        let diagnosis = Diagnosis::new(error, self.s3(), self.bucket);
        let text = format!("{}: {}", diagnosis.problem, diagnosis.response);
        Finding::fail(check, text).advise(diagnosis.fix)
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

    async fn clean_up(&mut self) {
        let mut remaining = Vec::new();
        for (object, id) in std::mem::take(&mut self.multiparts) {
            if let Err(error) = self.client.abort_multipart(&object, &id).await {
                remaining.push((format!("the multipart upload {id} of {object}"), error));
            }
        }
        for object in std::mem::take(&mut self.objects) {
            if let Err(error) = self.client.delete_object(&object).await {
                remaining.push((object.to_string(), error));
            }
        }
        // The checks of permissions have reported the causes.
        if let Some((what, error)) = remaining.first() {
            let more = match remaining.len() {
                1 => String::new(),
                all => format!(" and {} more", all - 1),
            };
            let error = diagnosis::error_line(error);
            let text = format!("cannot remove {what}{more}: {error}");
            let finding = Finding::warn("clean-up", text);
            self.report(finding.advise("delete the objects below .landfall/doctor manually"));
        }
    }
}

fn milliseconds(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}
