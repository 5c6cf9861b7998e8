//! The common parts of the doctors of all buckets: report, test objects, the examination of uploads and of leases.
//!
//! The test objects have random keys below the prefix and are removed at the end, even after an interrupt. Checks of a
//! cloud are in its module.

pub(crate) mod connection;
pub(crate) mod leases;

use std::{
    future::Future,
    process::ExitCode,
    time::{Duration, Instant, UNIX_EPOCH},
};

use landfall::store::Store as _;
use landfall_console::{Finding, Report};
use landfall_objects::{Cloud, Error, ObjectRef, ObjectStore, StoreOptions};
use serde_json::Value;

use crate::{
    app,
    diagnosis::{Diagnosis, error_line},
    settings::Settings,
};

/// Each costs several calls.
const MAX_EXAMINED_UPLOADS: u64 = 10_000;

/// A cloud that has a doctor.
pub(crate) trait Examined: Cloud + Clone {
    /// Explains an error to the operator.
    fn diagnose(error: Error, settings: &Settings, bucket: &str) -> Diagnosis;

    /// Returns the options of the server's store.
    fn options(settings: &Settings, bucket: &str) -> StoreOptions;
}

/// The examination of one bucket.
pub(crate) struct Doctor<'a, C> {
    pub(crate) settings: &'a Settings,
    pub(crate) bucket: &'a str,
    /// The prefix of all keys.
    pub(crate) prefix: &'a str,
    pub(crate) client: C,
    pub(crate) report: Report,
    pub(crate) key_prefix: String,
    /// Test objects to be removed.
    pub(crate) objects: Vec<ObjectRef>,
    pub(crate) multiparts: Vec<(ObjectRef, String)>,
}

impl<'a, C: Examined> Doctor<'a, C> {
    pub(crate) fn new(
        settings: &'a Settings,
        bucket: &'a str,
        prefix: &'a str,
        client: C,
        is_json: bool,
    ) -> Self {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
        let key_prefix = format!("{prefix}.landfall/doctor-{now:x}-{:x}", std::process::id());
        Self {
            settings,
            bucket,
            prefix,
            client,
            report: Report::new("checking the bucket", is_json),
            key_prefix,
            objects: Vec::new(),
            multiparts: Vec::new(),
        }
    }

    /// Runs the checks, removes the test objects and prints the findings; `about` is in the report in JSON. The exit
    /// code is 1 if uploads cannot work.
    pub(crate) async fn run(
        mut self,
        checks: impl AsyncFnOnce(&mut Self),
        about: Value,
    ) -> ExitCode {
        let progress = self.report.progress.clone();
        let check = async {
            tokio::select! {
                () = checks(&mut self) => {}
                _ = tokio::signal::ctrl_c() => {
                    progress.suspend(|| eprintln!("landfall: interrupted; cleaning up"));
                }
            }
            self.clean_up().await;
        };
        progress.show_during(check).await;
        self.report.finish(about)
    }

    /// Names a test object, to be removed at the end.
    pub(crate) fn object(&mut self, name: &str) -> ObjectRef {
        let object = ObjectRef::new(self.bucket, format!("{}-{name}", self.key_prefix));
        self.objects.push(object.clone());
        object
    }

    pub(crate) fn report(&mut self, finding: Finding) {
        self.report.add(finding);
    }

    /// Reports a call. Without an `optional` call, which a service may not have, uploads do work, but
    /// not what the text says.
    pub(crate) async fn call<T>(
        &mut self,
        check: &'static str,
        optional: Option<&'static str>,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Option<T> {
        let started = Instant::now();
        match call.await {
            Ok(value) => {
                self.report(Finding::ok(check, milliseconds(started.elapsed())));
                Some(value)
            }
            Err(error) => {
                let diagnosis = self.diagnose(error);
                let finding = match optional {
                    Some(missing) => diagnosis.warning(check, missing),
                    None => diagnosis.failure(check),
                };
                self.report(finding);
                None
            }
        }
    }

    pub(crate) fn diagnose(&self, error: Error) -> Diagnosis {
        C::diagnose(error, self.settings, self.bucket)
    }

    /// Reports damaged uploads.
    pub(crate) async fn examine_uploads(&mut self) {
        let options = C::options(self.settings, self.bucket);
        let Ok(store) = ObjectStore::new(self.client.clone(), options) else {
            return;
        };
        let Some(enumerator) = store.capabilities().enumerator else {
            return;
        };
        let mut findings = Vec::new();
        let collect = |finding| findings.push(finding);
        let progress = &self.report.progress;
        let found = app::find_damaged(enumerator, MAX_EXAMINED_UPLOADS, progress, collect).await;
        for finding in findings {
            self.report(finding);
        }
        if let Err(error) = found {
            let text = format!("uploads cannot be listed: {error}");
            self.report(Finding::warn("uploads", text));
        }
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
            let error = error_line(error);
            let text = format!("cannot remove {what}{more}: {error}");
            let finding = Finding::warn("clean-up", text);
            self.report(finding.advise("delete the objects below .landfall/doctor manually"));
        }
    }
}

pub(crate) fn milliseconds(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}
