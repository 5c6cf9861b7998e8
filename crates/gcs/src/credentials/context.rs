//! The needs of `reqsign-google` to find credentials: variables, small files, programs, and HTTP by this client's own
//! connections. It keeps no secret.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use landfall_objects::{HttpSend, exchange, read_file, run_program};
use parking_lot::Mutex;
use reqsign_core::{CommandExecute, CommandOutput, Context, Env, Error, FileRead, Result};

/// Timeout of a request to a token service.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of a request to the metadata server, which is near, or is not there.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);

/// Of a file.
const MAX_BYTES: u64 = 1024 * 1024;

/// The address from which the crate requests tokens, in spite of the file.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

pub(crate) type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The file of the settings, if they have one; and variables and HTTP, which tests replace.
#[derive(Clone)]
pub(crate) struct ProviderContext {
    file: Option<String>,
    http: Arc<dyn HttpSend>,
    variables: Variables,
    progress: Arc<Progress>,
}

/// The state of one load of credentials.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// A service did not respond, or failed.
    pub(super) is_transient: AtomicBool,
    /// The reason of the last response that was an error, which the crate does not repeat.
    pub(super) refusal: Mutex<Option<String>>,
    /// The address of the tokens in the file that was read.
    token_uri: Mutex<Option<Uri>>,
}

impl fmt::Debug for ProviderContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderContext").finish_non_exhaustive()
    }
}

impl ProviderContext {
    pub(super) fn new(file: Option<String>, http: Arc<dyn HttpSend>, variables: Variables) -> Self {
        Self {
            file,
            http,
            variables,
            progress: Arc::default(),
        }
    }

    /// Returns the file with credentials that decides, and in front of it the variable that names it.
    pub(super) fn file(&self) -> Option<(String, String)> {
        if let Some(file) = &self.file {
            return Some((String::new(), file.clone()));
        }
        for variable in ["GCS_SERVICE_ACCOUNT_FILE", "GOOGLE_APPLICATION_CREDENTIALS"] {
            if let Some(path) = self.variable(variable) {
                return Some((format!("{variable}: "), path));
            }
        }
        let below = |variable, folder: &str| {
            let root = self.variable(variable)?;
            let name = "application_default_credentials.json";
            Some(format!("{root}/{folder}{name}"))
        };
        let home = match cfg!(windows) {
            true => below("APPDATA", "gcloud/"),
            false => below("HOME", ".config/gcloud/"),
        };
        let path = below("CLOUDSDK_CONFIG", "").or(home)?;
        let exists = Path::new(&path).exists();
        exists.then_some((String::new(), path))
    }

    /// Returns the kind of the credentials, their account and their place, for people.
    pub(super) async fn source(&self) -> String {
        let Some((variable, path)) = self.file() else {
            let account = self.account_email().await;
            let account = account.unwrap_or_else(|_| "the account".to_owned());
            return format!("{account} of this machine, by the metadata server");
        };
        let bytes = FileRead::file_read(self, &path).await.unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let kind = match json["type"].as_str() {
            Some("service_account") => "key of the service account",
            Some("authorized_user") => "login of a user",
            Some("external_account") => "workload identity federation",
            Some("impersonated_service_account") => "impersonated service account",
            other => other.unwrap_or("credentials"),
        };
        let account = ["client_email", "account"].map(|field| json[field].as_str());
        let account = account.into_iter().flatten().next().unwrap_or_default();
        let space = if account.is_empty() { "" } else { " " };
        format!("{kind}{space}{account}; {variable}{path}")
    }

    /// Returns the host of the metadata server, which a variable may replace.
    pub(super) fn metadata_host(&self) -> String {
        let host = self.variable("GCE_METADATA_HOST");
        host.unwrap_or_else(|| "metadata.google.internal".to_owned())
    }

    /// Returns the value of a variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }

    /// Returns the context for one load of credentials, and its state.
    pub(super) fn for_load(&self) -> (Context, Arc<Progress>) {
        let mut loading = self.clone();
        loading.progress = Arc::default();
        let progress = Arc::clone(&loading.progress);
        let context = Context::new()
            .with_file_read(loading.clone())
            .with_http_send(loading.clone())
            .with_env(loading.clone())
            .with_command_execute(loading);
        (context, progress)
    }

    /// Requests the name of this machine's service account, unless a file has the credentials.
    pub(super) async fn account_email(&self) -> std::result::Result<String, String> {
        if let Some((_, path)) = self.file() {
            return Err(format!("{path:?} names none"));
        }
        let host = self.metadata_host();
        let uri =
            format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/email");
        let request = Request::get(uri).header("metadata-flavor", "Google");
        let request = request
            .body(Bytes::new())
            .map_err(|error| error.to_string())?;
        let response = self.send(request).await;
        let response = response.map_err(|error| format!("the metadata server {host}: {error}"))?;
        let email = String::from_utf8_lossy(response.body()).trim().to_owned();
        match response.status().is_success() && email.contains('@') {
            true => Ok(email),
            false => Err(format!("the metadata server {host} names none")),
        }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let limit = match request.headers().contains_key("metadata-flavor") {
            true => METADATA_TIMEOUT,
            false => HTTP_TIMEOUT,
        };
        let response = exchange(&self.http, request, limit).await;
        response.map_err(|error| Error::unexpected(error.to_string()))
    }
}

impl reqsign_core::HttpSend for ProviderContext {
    async fn http_send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>> {
        if *request.uri() == TOKEN_URI
            && let Some(uri) = self.progress.token_uri.lock().clone()
        {
            *request.uri_mut() = uri;
        }
        let host = request.uri().host().unwrap_or_default().to_owned();
        let sent = self.send(request).await;
        let is_transient = sent.as_ref().map_or(true, |response| {
            let status = response.status();
            status.is_server_error() || matches!(status.as_u16(), 408 | 429)
        });
        let progress = &self.progress.is_transient;
        progress.store(is_transient, Ordering::Relaxed);
        let response = sent.as_ref().ok();
        let refused = response.filter(|response| !response.status().is_success());
        *self.progress.refusal.lock() = refused.and_then(|response| refusal(response.body()));
        sent.map_err(|error| Error::unexpected(format!("{host}: {error}")))
    }
}

impl FileRead for ProviderContext {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        let failed = |error| Error::config_invalid(format!("cannot read the file: {error}"));
        let bytes = read_file(path, MAX_BYTES).map_err(failed)?;
        let (bytes, token_uri) = adapt(bytes);
        if let Some(token_uri) = token_uri {
            *self.progress.token_uri.lock() = Some(token_uri);
        }
        Ok(bytes)
    }
}

/// Returns the error of a token service, as OAuth or Google's APIs send it.
fn refusal(body: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |pointer| Some(json.pointer(pointer)?.as_str()?.to_owned());
    match (text("/error"), text("/error_description")) {
        (Some(error), Some(description)) => Some(format!("{error}: {description}")),
        (error, _) => error.or_else(|| text("/error/message")),
    }
}

/// Reads what the crate does not: the URI of the tokens of a key, and a subject token whose format is not named,
/// which is text by definition.
fn adapt(bytes: Vec<u8>) -> (Vec<u8>, Option<Uri>) {
    let Ok(mut file) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
        return (bytes, None);
    };
    let token_uri = file
        .get("token_uri")
        .and_then(|uri| uri.as_str()?.parse().ok());
    let source = file.get_mut("credential_source");
    let Some(source) = source.and_then(serde_json::Value::as_object_mut) else {
        return (bytes, token_uri);
    };
    let is_token = source.contains_key("file") || source.contains_key("url");
    if !is_token || source.contains_key("format") || source.contains_key("environment_id") {
        return (bytes, token_uri);
    }
    source.insert("format".to_owned(), serde_json::json!({"type": "text"}));
    (serde_json::to_vec(&file).unwrap_or(bytes), token_uri)
}

impl Env for ProviderContext {
    fn var(&self, key: &str) -> Option<String> {
        self.variable(key)
    }

    fn vars(&self) -> HashMap<String, String> {
        HashMap::new()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.variable("HOME").map(PathBuf::from)
    }
}

impl CommandExecute for ProviderContext {
    /// Runs the program of an external account, which `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1` permits. The
    /// crate sets its timeout.
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        args: &'a [&'a str],
    ) -> Result<CommandOutput> {
        let output = run_program(program, args, Duration::MAX).await;
        let output = output.map_err(Error::config_invalid)?;
        Ok(CommandOutput {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_googles_tools_do() {
        let adapted = |json: &str| {
            let (bytes, uri) = adapt(json.as_bytes().to_vec());
            let text = String::from_utf8(bytes).expect("text");
            (text, uri.map(|uri| uri.to_string()))
        };
        let key = r#"{"type":"service_account","token_uri":"http://127.0.0.1:9/token"}"#;
        assert_eq!(
            adapted(key),
            (key.to_owned(), Some("http://127.0.0.1:9/token".to_owned()))
        );
        let external = r#"{"credential_source":{"file":"/token"},"type":"external_account"}"#;
        let (text, _) = adapted(external);
        assert!(text.contains(r#""format":{"type":"text"}"#), "{text}");
        for unchanged in [
            "a token of text",
            r#"{"credential_source":{"file":"/f","format":{"type":"json"}}}"#,
            r#"{"credential_source":{"url":"u","environment_id":"aws1"}}"#,
        ] {
            assert_eq!(adapted(unchanged).0, unchanged);
        }
    }
}
