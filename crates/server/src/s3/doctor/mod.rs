//! `landfall doctor s3`: examines a bucket as Landfall will use it, and says what to do about what
//! it finds.
//!
//! Everything it writes has a key of its own below the prefix and is removed at the end, also when
//! it is interrupted.

mod cors;
mod endpoint;
mod lifecycle;
#[cfg(feature = "postgres")]
mod postgres;
mod quirks;
#[cfg(feature = "redis")]
mod redis;
mod rights;
mod uploads;
mod web;

use std::{
    future::Future,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use landfall_s3::client::{Client, Error, ErrorKind, ObjectRef};

use super::{Advice, advice};
use crate::{
    finding::{Finding, Mark},
    settings::{LeaseKind, Loaded, S3, Settings},
};

/// Examines what the settings name, prints what it finds, and ends with code 1 if something is
/// missing that uploads need.
///
/// # Errors
/// If the examination can't even begin.
pub async fn run(loaded: Loaded, json: bool, origins: Vec<String>) -> anyhow::Result<ExitCode> {
    for warning in &loaded.warnings {
        eprintln!("landfall: warning: {warning}");
    }
    let settings = &loaded.settings;
    let bucket = settings
        .s3
        .bucket
        .as_deref()
        .context("no bucket is named")?;
    let client = super::impatient_client(&settings.s3)?;
    let mut examination = Examination::new(settings, bucket, client, !json);
    tokio::select! {
        () = examine(&mut examination, &origins) => {}
        _ = tokio::signal::ctrl_c() => eprintln!("landfall: interrupted; cleaning up"),
    }
    examination.clean_up().await;

    let failed = examination.count(Mark::Fail);
    let warned = examination.count(Mark::Warn);
    let verdict = match (failed, warned) {
        (0, 0) => "all is well".to_owned(),
        (0, warned) => format!("uploads will work; {warned} to look at"),
        (failed, _) => format!("{failed} of {} checks failed", examination.findings.len()),
    };
    if json {
        let findings: Vec<_> = examination.findings.iter().map(Finding::to_json).collect();
        let report = serde_json::json!({
            "bucket": bucket,
            "endpoint": settings.s3.endpoint,
            "ok": failed == 0,
            "verdict": verdict,
            "findings": findings,
        });
        println!("{report:#}");
    } else {
        println!("{verdict}");
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All checks, in the order in which one rests on another.
async fn examine(x: &mut Examination<'_>, origins: &[String]) {
    if endpoint::examine(x).await.is_ok() {
        let may_write = rights::examine(x).await;
        if may_write {
            quirks::examine(x).await;
        }
        cors::examine(x, origins, may_write).await;
        lifecycle::examine(x).await;
        uploads::examine(x).await;
    }
    if let LeaseKind::Redis(url) = &x.settings.leases.kind {
        #[cfg(feature = "redis")]
        redis::examine(x, url.reveal()).await;
        #[cfg(not(feature = "redis"))]
        let _ = url;
    }
    if let LeaseKind::Postgres(url) = &x.settings.leases.kind {
        #[cfg(feature = "postgres")]
        postgres::examine(x, url.reveal()).await;
        #[cfg(not(feature = "postgres"))]
        let _ = url;
    }
}

/// What is known of the bucket so far, and what has to be removed from it.
struct Examination<'a> {
    settings: &'a Settings,
    bucket: &'a str,
    client: Client,
    findings: Vec<Finding>,
    /// Print each finding as it is made.
    aloud: bool,
    /// What the keys of all probes begin with.
    stem: String,
    objects: Vec<ObjectRef>,
    multiparts: Vec<(ObjectRef, String)>,
}

/// What it means when a call fails.
#[derive(Clone, Copy)]
enum Need {
    /// Uploads don't work without it.
    Uploads,
    /// They do; something else doesn't, which the text names.
    Else(&'static str),
}

impl<'a> Examination<'a> {
    fn new(settings: &'a Settings, bucket: &'a str, client: Client, aloud: bool) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let stem = format!(
            "{}.landfall/doctor-{:x}-{:x}",
            settings.s3.object_prefix,
            now.as_micros(),
            std::process::id()
        );
        Self {
            settings,
            bucket,
            client,
            findings: Vec::new(),
            aloud,
            stem,
            objects: Vec::new(),
            multiparts: Vec::new(),
        }
    }

    fn s3(&self) -> &'a S3 {
        &self.settings.s3
    }

    /// The place of a probe, which is removed at the end.
    fn place(&mut self, name: &str) -> ObjectRef {
        let place = ObjectRef::new(self.bucket, format!("{}-{name}", self.stem));
        self.objects.push(place.clone());
        place
    }

    fn note(&mut self, finding: Finding) {
        if self.aloud {
            println!("{finding}");
        }
        self.findings.push(finding);
    }

    fn count(&self, mark: Mark) -> usize {
        let marked = |finding: &&Finding| finding.mark == mark;
        self.findings.iter().filter(marked).count()
    }

    /// Makes a call and notes whether it worked.
    async fn call<T>(
        &mut self,
        check: &'static str,
        need: Need,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Option<T> {
        let begun = Instant::now();
        match call.await {
            Ok(value) => {
                self.note(Finding::new(check, Mark::Ok, milliseconds(begun.elapsed())));
                Some(value)
            }
            Err(error) => {
                let finding = self.failure(check, need, &error);
                self.note(finding);
                None
            }
        }
    }

    /// What to note of a call that failed.
    fn failure(&self, check: &'static str, need: Need, error: &Error) -> Finding {
        let advice = Advice::new(error, self.s3(), self.bucket);
        let is_missing = matches!(
            error.kind(),
            ErrorKind::AccessDenied | ErrorKind::NotImplemented
        );
        match need {
            Need::Else(what) if is_missing => {
                Finding::new(check, Mark::Warn, format!("{what}: {}", advice.said))
                    .advise(advice.remedy)
            }
            _ => Finding::new(
                check,
                Mark::Fail,
                format!("{}: {}", advice.wrong, advice.said),
            )
            .advise(advice.remedy),
        }
    }

    /// Begins a multipart upload that is aborted at the end.
    async fn begin(&mut self, name: &str) -> Result<(ObjectRef, String), Error> {
        let place = self.place(name);
        let id = self
            .client
            .create_multipart(&place, &Default::default())
            .await?;
        self.multiparts.push((place.clone(), id.clone()));
        Ok((place, id))
    }

    /// Removes all probes; what is gone already is no matter.
    async fn clean_up(&mut self) {
        let mut left = Vec::new();
        for (place, id) in std::mem::take(&mut self.multiparts) {
            if let Err(error) = self.client.abort_multipart(&place, &id).await {
                left.push((format!("the multipart upload {id} of {place}"), error));
            }
        }
        for place in std::mem::take(&mut self.objects) {
            if let Err(error) = self.client.delete_object(&place).await {
                left.push((place.to_string(), error));
            }
        }
        // What may not be removed was told by the checks of those rights; here, by name.
        if let Some((what, error)) = left.first() {
            let more = match left.len() {
                1 => String::new(),
                all => format!(" and {} more", all - 1),
            };
            let text = format!("can't remove {what}{more}: {}", advice::said(error));
            let finding = Finding::new("clean-up", Mark::Warn, text);
            self.note(finding.advise("remove what begins with .landfall/doctor by hand"));
        }
    }
}

/// A time span for people.
fn milliseconds(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}
