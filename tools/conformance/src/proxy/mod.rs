//! The checks of proxies: uploads to a public URL as a client does, and names the changes of a proxy between, with a fix
//! for each problem.
//!
//! A check of the specification says that a requirement is not met; these also find out whether the server or a proxy is the
//! reason. Each one creates an upload; all of them are removed at the end, even after an interruption.

mod content;
mod creation;
mod endpoint;
mod interim;
mod methods;
mod slow;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Mutex;
use url::Url;

use crate::capabilities::Capabilities;
use crate::client::{Client, ClientError, Connection, Content, Request, Response};
use crate::context::UPLOAD_DATA;
use crate::options::HttpVersion;
use crate::requirement::{Capability, Protocol};
pub use landfall_console::Finding;

const METHOD_OVERRIDE: &str = "X-HTTP-Method-Override";

/// Added to the metadata: the key of uploads that leave the dashboard of Landfall when they are removed.
const MARK: &str = ",landfall-doctor";
/// `filename landfall-doctor`, and the key.
const METADATA: &str = "filename bGFuZGZhbGwtZG9jdG9y,landfall-doctor";

/// The options of the checks.
#[derive(Clone, Debug)]
pub struct Options {
    /// The URL to which clients send uploads.
    pub endpoint: Url,
    /// Fields of all requests, which replace those of the checks.
    pub headers: Vec<(String, String)>,
    /// Size of the largest request body.
    pub size: u64,
    /// Duration of slow request bodies; `None` sends none.
    pub slow: Option<Duration>,
    /// Longest wait for a connection or a response.
    pub timeout: Duration,
    /// URL of the server without the proxies, to compare with.
    pub upstream: Option<Url>,
}

/// Runs all checks until the future `interrupted` ends, and removes their uploads. `observe` receives each finding when it
/// is there.
///
/// # Cancel safety
/// Dropping the future leaves uploads on the server; end `interrupted` instead.
pub async fn run(
    mut options: Options,
    interrupted: impl Future<Output = ()>,
    observe: &mut dyn FnMut(Finding),
) {
    for (name, value) in &mut options.headers {
        if name.eq_ignore_ascii_case("Upload-Metadata") {
            value.push_str(MARK);
        }
    }
    let client = match client(&options, &options.endpoint) {
        Ok(client) => client,
        Err(error) => {
            return observe(Finding::fail("response", error.to_string()));
        }
    };
    let mut doctor = Doctor {
        client,
        observe,
        server: Capabilities::default(),
        overridden: Vec::new(),
        creating: Arc::default(),
        url: options.endpoint.clone(),
        options,
    };
    let creating = Arc::clone(&doctor.creating);
    let mut checks = Box::pin(run_checks(&mut doctor));
    let result = tokio::select! {
        result = &mut checks => result,
        // An upload whose URL has not arrived could not be removed.
        () = interrupted => tokio::select! {
            result = &mut checks => result,
            _ = creating.lock() => Ok(()),
        },
    };
    drop(checks);
    if let Err(finding) = result {
        doctor.add(finding);
    }
    doctor.clean_up().await;
}

fn client(options: &Options, url: &Url) -> Result<Client, ClientError> {
    let headers = options.headers.clone();
    Client::new(url, headers, options.timeout, HttpVersion::Http1)
}

/// An error makes the other checks useless.
async fn run_checks(doctor: &mut Doctor<'_>) -> Result<(), Finding> {
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

struct Doctor<'a> {
    client: Client,
    observe: &'a mut dyn FnMut(Finding),
    options: Options,
    /// The URL after redirects.
    url: Url,
    server: Capabilities,
    /// Methods that only pass as POST with `X-HTTP-Method-Override`.
    overridden: Vec<&'static str>,
    /// Locked while an upload is created.
    creating: Arc<Mutex<()>>,
}

impl Doctor<'_> {
    fn add(&mut self, finding: Finding) {
        (self.observe)(finding);
    }

    /// Adds the result of a check; an error is a failure of the check.
    fn add_result(&mut self, check: &'static str, result: Result<Finding, String>) {
        self.add(result.unwrap_or_else(|error| Finding::fail(check, error)));
    }

    /// True if the server responds to OPTIONS, not the proxy.
    fn responds_to_options(&self) -> bool {
        self.server.protocols.contains(&Protocol::Tus)
    }

    fn has_draft(&self) -> bool {
        self.server.protocols.contains(&Protocol::Draft)
    }

    /// Replaces fields by those of the operator, and methods by POST where they do not pass.
    fn prepared(&self, request: Request) -> Request {
        let mut request = request.field("User-Agent", "landfall-doctor");
        for (name, _) in &self.options.headers {
            request = request.without(name);
        }
        if self.overridden.contains(&request.method.as_str()) {
            let method = std::mem::replace(&mut request.method, "POST".to_owned());
            request = request.field(METHOD_OVERRIDE, method);
            if matches!(request.content, Content::None) {
                request = request.body([]);
            }
        }
        request
    }

    async fn send(&self, request: Request) -> Result<Response, String> {
        let sent = self.client.send(&self.prepared(request)).await;
        sent.map_err(|error| self.error(&error))
    }

    async fn connect(&self, url: &Url) -> Result<Connection, String> {
        let connected = self.client.connect(url).await;
        connected.map_err(|error| self.error(&error))
    }

    /// Sends the head of a request whose content follows.
    async fn start(&self, connection: &mut Connection, request: Request) -> Result<(), String> {
        let sent = connection.send_head(&self.prepared(request)).await;
        sent.map_err(|error| self.error(&error))
    }

    async fn response(&self, connection: &mut Connection) -> Result<Response, String> {
        let response = connection.response().await;
        response.map_err(|error| self.error(&error))
    }

    fn error(&self, error: &ClientError) -> String {
        match error {
            ClientError::Timeout(_) => {
                format!("no response within {}", seconds(self.options.timeout))
            }
            _ => error.to_string(),
        }
    }

    fn tus(&self, method: &str, url: &Url) -> Request {
        Request::new(method, url).field("Tus-Resumable", "1.0.0")
    }

    async fn request_creation(&self, length: u64) -> Result<Response, String> {
        let _creating = self.creating.lock().await;
        let request = self.tus("POST", &self.url);
        let request = request.field("Upload-Length", length);
        let request = request.field("Upload-Metadata", METADATA).body([]);
        self.send(request).await
    }

    /// Returns the URL of a created upload below the checked URL, whatever its origin.
    fn location(&self, response: &Response) -> Option<Url> {
        let location = response.field("Location");
        let location = location.filter(|_| response.is_success())?;
        Some(self.below(&self.url.join(location).ok()?))
    }

    fn below(&self, upload: &Url) -> Url {
        let base = self.url.path().trim_end_matches('/');
        let path = upload.path();
        // The prefix may differ, and an id may contain slashes.
        let name = base.rsplit('/').next().unwrap_or_default();
        let id = match path.strip_prefix(base) {
            Some(rest) => rest,
            None => match path.split_once(&format!("/{name}/")) {
                Some((_, rest)) if !name.is_empty() => rest,
                _ => path.rsplit('/').next().unwrap_or_default(),
            },
        };
        let mut below = self.url.clone();
        below.set_path(&format!("{base}/{}", id.trim_start_matches('/')));
        below.set_query(upload.query());
        below
    }

    fn patch(&self, upload: &Url, offset: u64) -> Request {
        self.tus("PATCH", upload)
            .field("Upload-Offset", offset)
            .field("Content-Type", UPLOAD_DATA)
    }

    /// Creates an upload, and sends the head of a PATCH of all its bytes but the last: no application gets a finished file.
    async fn start_patch(
        &self,
        length: u64,
        fields: &[(&str, &str)],
    ) -> Result<(Url, Connection), String> {
        let response = self.request_creation(length + 1).await?;
        let upload = self.location(&response).ok_or_else(|| {
            let refusal = describe(&response);
            format!("an upload cannot be created: {refusal}")
        })?;
        let mut connection = self.connect(&upload).await?;
        let mut request = self.patch(&upload, 0).content(Content::Declared(length));
        for (name, value) in fields {
            request = request.field(name, value);
        }
        self.start(&mut connection, request).await?;
        Ok((upload, connection))
    }

    async fn head(&self, upload: &Url) -> Result<Response, String> {
        self.send(self.tus("HEAD", upload)).await
    }

    async fn delete(&self, upload: &Url) -> Result<Response, String> {
        self.send(self.tus("DELETE", upload)).await
    }

    async fn clean_up(&mut self) {
        let created = self.client.created().drain();
        let uploads = created.into_iter().map(|(upload, _)| self.below(&upload));
        let mut remaining = Vec::new();
        for upload in uploads.collect::<std::collections::BTreeSet<_>>() {
            let removed = self.delete(&upload).await.is_ok_and(|response| {
                response.is_success() || matches!(response.status, 404 | 410)
            });
            if !removed {
                remaining.push(upload.to_string());
            }
        }
        if !remaining.is_empty() {
            let text = format!("cannot remove {}", remaining.join(" "));
            let advice = "DELETE them on the server, or let them expire";
            self.add(Finding::warn("clean-up", text).advise(advice));
        }
    }

    /// False also if the response to OPTIONS does not name the extensions.
    fn lacks_termination(&self) -> bool {
        let has = |capability| self.server.has(capability);
        Capability::EXTENSIONS.into_iter().any(has) && !has(Capability::Termination)
    }
}

fn offset(response: &Response) -> Option<u64> {
    response.number("Upload-Offset").ok()
}

/// True if the upload server responded, false if a proxy did, or removed the signs.
fn is_from_server(response: &Response) -> bool {
    response.field("Tus-Resumable").is_some()
        || response.body.starts_with(b"ERR_")
        || response.field("Content-Type") == Some("application/problem+json")
}

fn status(response: &Response) -> StatusCode {
    StatusCode::from_u16(response.status).unwrap_or_default()
}

/// Returns the status, and the error code or the program that responded.
fn describe(response: &Response) -> String {
    const MAX_SHOWN: usize = 120;
    let status = status(response);
    if response.is_success() {
        return status.to_string();
    }
    if is_from_server(response) {
        let body = String::from_utf8_lossy(&response.body);
        let line = body.lines().next().unwrap_or_default();
        let line: String = line.chars().take(MAX_SHOWN).collect();
        return match line.is_empty() {
            true => format!("{status} by the server"),
            false => format!("{status} by the server: {line}"),
        };
    }
    match response.field("Server") {
        Some(program) => format!("{status} by {program}"),
        None => format!("{status}, not by the server"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
