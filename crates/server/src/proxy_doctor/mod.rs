//! `landfall doctor proxy`: uploads to a public URL as a client does, and names what a proxy between
//! changes, with a fix for each problem.
//!
//! Each check creates an upload; all of them are removed at the end, even after an interrupt.

mod client;
mod content;
mod creation;
mod endpoint;
mod interim;
mod methods;
mod slow;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use tokio::sync::Mutex;
use url::{Position, Url};

use self::client::{Client, Exchange, Response};
use crate::{
    finding::{Finding, Report},
    settings::{Loaded, ProxyOptions},
};

const OFFSET_CONTENT_TYPE: &str = "application/offset+octet-stream";
const METHOD_OVERRIDE: &str = "X-HTTP-Method-Override";

/// Runs all checks and prints the findings; exits with 1 if uploads cannot work.
///
/// # Errors
/// The URL is invalid, or the root certificates cannot be read.
pub async fn run(loaded: Loaded, options: ProxyOptions, json: bool) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let url = Url::parse(&options.url).context("invalid URL")?;
    let mut doctor = Doctor {
        client: Client::new(&url, options.response_timeout)?,
        report: Report::new("checking the proxy", json),
        server: Server::default(),
        overridden: Vec::new(),
        uploads: Vec::new(),
        creating: Arc::default(),
        url,
        options,
    };
    let progress = doctor.report.progress.clone();
    let creating = doctor.creating.clone();
    let check = async {
        let mut checks = Box::pin(run_checks(&mut doctor));
        let result = tokio::select! {
            result = &mut checks => result,
            _ = tokio::signal::ctrl_c() => {
                progress.suspend(|| eprintln!("landfall: interrupted; cleaning up"));
                // An upload whose URL has not arrived could not be removed.
                tokio::select! {
                    result = &mut checks => result,
                    _ = creating.lock() => Ok(()),
                }
            }
        };
        drop(checks);
        if let Err(finding) = result {
            doctor.report.add(finding);
        }
        doctor.clean_up().await;
    };
    progress.show_during(check).await;
    let report = serde_json::json!({ "url": doctor.options.url });
    Ok(doctor.report.finish(report))
}

/// An error makes the other checks useless.
async fn run_checks(doctor: &mut Doctor) -> Result<(), Finding> {
    endpoint::run(doctor).await?;
    let upload = creation::run(doctor).await?;
    methods::run(doctor, &upload).await?;
    content::run(doctor).await;
    interim::run(doctor).await;
    if let Some(duration) = doctor.options.slow {
        slow::run(doctor, duration).await;
    }
    Ok(())
}

/// Properties of the server, from its response to OPTIONS.
#[derive(Default)]
struct Server {
    /// `None` if the response did not name them.
    extensions: Option<Vec<String>>,
    max_size: Option<u64>,
    /// True if it has `Upload-Limit`, the sign of the IETF draft.
    has_draft: bool,
    /// True if the server responds to OPTIONS, not the proxy.
    responds_to_options: bool,
}

struct Doctor {
    client: Client,
    report: Report,
    options: ProxyOptions,
    /// The URL after redirects.
    url: Url,
    server: Server,
    /// Methods that only pass as POST with `X-HTTP-Method-Override`.
    overridden: Vec<Method>,
    uploads: Vec<Url>,
    /// Locked while an upload is created.
    creating: Arc<Mutex<()>>,
}

impl Doctor {
    /// Creates a request with the fields of the operator, which replace those of the check.
    fn request(&self, method: &Method, url: &Url, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        let is_overridden = self.overridden.contains(method);
        *request.method_mut() = if is_overridden {
            Method::POST
        } else {
            method.clone()
        };
        // A URL contains only what a path may contain.
        *request.uri_mut() = url[Position::BeforePath..].parse().unwrap_or_default();
        let headers = request.headers_mut();
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        insert(headers, header::HOST.as_str(), authority);
        insert(headers, "User-Agent", "landfall-doctor");
        if is_overridden {
            insert(headers, METHOD_OVERRIDE, method.as_str());
        }
        for (name, value) in fields {
            insert(headers, name, value);
        }
        for (name, value) in &self.options.headers {
            headers.insert(name.clone(), value.clone());
        }
        request
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        fields: &[(&str, &str)],
        content: Bytes,
    ) -> Result<Response, String> {
        let request = self.request(method, url, fields);
        self.client.send(url, request, content).await
    }

    /// Creates an upload for a check.
    async fn create(&mut self, length: u64) -> Result<Url, String> {
        let creating = self.creating.clone();
        let _creating = creating.lock().await;
        let response = self.request_creation(length).await?;
        self.record_location(&response).ok_or_else(|| {
            let refusal = describe(&response);
            format!("an upload cannot be created: {refusal}")
        })
    }

    async fn request_creation(&self, length: u64) -> Result<Response, String> {
        let length = length.to_string();
        let fields = [
            ("Tus-Resumable", "1.0.0"),
            ("Upload-Length", length.as_str()),
            ("Upload-Metadata", METADATA),
        ];
        let sent = self.send(&Method::POST, &self.url, &fields, Bytes::new());
        sent.await
    }

    /// Returns the URL of a created upload below the checked URL, whatever its origin.
    fn record_location(&mut self, response: &Response) -> Option<Url> {
        let location = field(response.headers(), "Location");
        let location = location.filter(|_| response.status().is_success())?;
        self.record_upload(location)
    }

    /// Records an upload, to be removed at the end.
    fn record_upload(&mut self, location: &str) -> Option<Url> {
        let upload = self.upload_url(location)?;
        if !self.uploads.contains(&upload) {
            self.uploads.push(upload.clone());
        }
        Some(upload)
    }

    fn upload_url(&self, location: &str) -> Option<Url> {
        let location = self.url.join(location).ok()?;
        let base = self.url.path().trim_end_matches('/');
        let path = location.path();
        // The prefix may differ, and an id may contain slashes.
        let name = base.rsplit('/').next().unwrap_or_default();
        let id = match path.strip_prefix(base) {
            Some(rest) => rest,
            None => match path.split_once(&format!("/{name}/")) {
                Some((_, rest)) if !name.is_empty() => rest,
                _ => path.rsplit('/').next().unwrap_or_default(),
            },
        };
        let mut upload = self.url.clone();
        upload.set_path(&format!("{base}/{}", id.trim_start_matches('/')));
        upload.set_query(location.query());
        Some(upload)
    }

    fn patch(&self, upload: &Url, offset: u64, more: &[(&str, &str)]) -> Request<()> {
        let offset = offset.to_string();
        let mut fields = vec![
            ("Tus-Resumable", "1.0.0"),
            ("Upload-Offset", offset.as_str()),
            ("Content-Type", OFFSET_CONTENT_TYPE),
        ];
        fields.extend(more);
        self.request(&Method::PATCH, upload, &fields)
    }

    /// Creates an upload, and starts a PATCH of all its bytes.
    async fn start_patch(
        &mut self,
        length: u64,
        fields: &[(&str, &str)],
    ) -> Result<(Url, Exchange), String> {
        let upload = self.create(length).await?;
        let mut connection = self.client.connect(&upload).await?;
        let request = self.patch(&upload, 0, fields);
        Ok((upload, connection.start(request, length).await?))
    }

    async fn head(&self, upload: &Url) -> Result<Response, String> {
        let fields = [("Tus-Resumable", "1.0.0")];
        self.send(&Method::HEAD, upload, &fields, Bytes::new())
            .await
    }

    async fn delete(&self, upload: &Url) -> Result<Response, String> {
        let fields = [("Tus-Resumable", "1.0.0")];
        self.send(&Method::DELETE, upload, &fields, Bytes::new())
            .await
    }

    /// Reports the result of a check; an error is a failure of the check.
    fn report_result(&mut self, check: &'static str, result: Result<Finding, String>) {
        self.report
            .add(result.unwrap_or_else(|error| Finding::fail(check, error)));
    }

    async fn clean_up(&mut self) {
        let mut remaining = Vec::new();
        for upload in std::mem::take(&mut self.uploads) {
            let removed = self.delete(&upload).await.is_ok_and(|response| {
                response.status().is_success() || matches!(response.status().as_u16(), 404 | 410)
            });
            if !removed {
                remaining.push(upload.to_string());
            }
        }
        if !remaining.is_empty() {
            let text = format!("cannot remove {}", remaining.join(" "));
            let advice = "DELETE them on the server, or let them expire";
            self.report
                .add(Finding::warn("clean-up", text).advise(advice));
        }
    }
}

/// `filename landfall-doctor`.
const METADATA: &str = "filename bGFuZGZhbGwtZG9jdG9y";

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes());
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn offset(response: &Response) -> Option<u64> {
    field(response.headers(), "Upload-Offset")?.parse().ok()
}

/// True if the upload server responded, false if a proxy did, or removed the signs.
fn is_from_server(response: &Response) -> bool {
    let headers = response.headers();
    headers.contains_key("Tus-Resumable")
        || response.body().starts_with(b"ERR_")
        || field(headers, "Content-Type") == Some("application/problem+json")
}

/// Returns the status, and the error code or the program that responded.
fn describe(response: &Response) -> String {
    const MAX_SHOWN: usize = 120;
    let status = response.status();
    if status.is_success() {
        return status.to_string();
    }
    if is_from_server(response) {
        let body = String::from_utf8_lossy(response.body());
        let line = body.lines().next().unwrap_or_default();
        let line: String = line.chars().take(MAX_SHOWN).collect();
        return match line.is_empty() {
            true => format!("{status} by the server"),
            false => format!("{status} by the server: {line}"),
        };
    }
    match field(response.headers(), "Server") {
        Some(program) => format!("{status} by {program}"),
        None => format!("{status}, not by the server"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
