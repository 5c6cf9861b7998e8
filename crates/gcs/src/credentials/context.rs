//! What `reqsign-google` needs to find credentials: variables, small files, programs, and HTTP by this client's own
//! connections. It keeps no secret.

use std::{
    collections::HashMap,
    fmt,
    io::Read as _,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use landfall_objects::{HttpSend, Payload, collect};
use parking_lot::Mutex;
use reqsign_core::{CommandExecute, CommandOutput, Context, Env, Error, FileRead, Result};
use tokio::time::timeout;

/// Timeout of a request to a token service.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of a request to the metadata server, which is near, or is not there.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);

const MAX_BYTES: usize = 1024 * 1024;

/// The address from which the crate requests tokens, in spite of the file.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

pub(crate) type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Variables and HTTP, which tests replace.
#[derive(Clone)]
pub(super) struct ProviderContext {
    http: Arc<dyn HttpSend>,
    variables: Variables,
}

/// What has happened while credentials are loaded.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// A service did not respond, or failed.
    pub(super) is_transient: AtomicBool,
    /// The address of the tokens in the file that was read.
    token_uri: Mutex<Option<Uri>>,
}

/// One use of the context.
#[derive(Clone)]
struct Loading {
    context: ProviderContext,
    progress: Arc<Progress>,
}

impl fmt::Debug for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loading").finish_non_exhaustive()
    }
}

impl ProviderContext {
    pub(super) fn new(http: Arc<dyn HttpSend>, variables: Variables) -> Self {
        Self { http, variables }
    }

    /// Returns the value of a variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }

    /// Returns the context for one load of credentials, and what will have happened.
    pub(super) fn for_load(&self) -> (Context, Arc<Progress>) {
        let loading = Loading {
            context: self.clone(),
            progress: Arc::default(),
        };
        let context = Context::new()
            .with_file_read(loading.clone())
            .with_http_send(loading.clone())
            .with_env(loading.clone())
            .with_command_execute(loading.clone());
        (context, loading.progress)
    }

    /// Asks the metadata server for the name of this machine's service account.
    pub(super) async fn account_email(&self) -> std::result::Result<String, String> {
        let host = metadata_host(self);
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
        let exchange = async {
            let request = request.map(|body| Payload::from(body).body());
            let (head, body) = self.http.send(request).await?.into_parts();
            let body = collect(body, limit, MAX_BYTES).await?;
            Ok(Response::from_parts(head, body))
        };
        let failed = |error: landfall::BoxError| Error::unexpected(error.to_string());
        match timeout(limit, exchange).await {
            Ok(done) => done.map_err(failed),
            Err(_) => Err(Error::unexpected(format!("no response within {limit:?}"))),
        }
    }
}

/// Returns the host of the metadata server, which a variable may replace.
pub(super) fn metadata_host(context: &ProviderContext) -> String {
    let host = context.variable("GCE_METADATA_HOST");
    host.unwrap_or_else(|| "metadata.google.internal".to_owned())
}

impl reqsign_core::HttpSend for Loading {
    async fn http_send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>> {
        if *request.uri() == TOKEN_URI
            && let Some(uri) = self.progress.token_uri.lock().clone()
        {
            *request.uri_mut() = uri;
        }
        let host = request.uri().host().unwrap_or_default().to_owned();
        let sent = self.context.send(request).await;
        let is_transient = match &sent {
            Ok(response) => is_transient(response.status()),
            Err(_) => true,
        };
        self.progress
            .is_transient
            .store(is_transient, Ordering::Relaxed);
        sent.map_err(|error| Error::unexpected(format!("{host}: {error}")))
    }
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        )
}

impl FileRead for Loading {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        let read = || {
            let mut bytes = Vec::new();
            let file = std::fs::File::open(path)?;
            file.take(MAX_BYTES as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let failed =
            |error: std::io::Error| Error::config_invalid(format!("cannot read the file: {error}"));
        let bytes = read().map_err(failed)?;
        let (bytes, token_uri) = adapt(bytes);
        if let Some(token_uri) = token_uri {
            *self.progress.token_uri.lock() = Some(token_uri);
        }
        Ok(bytes)
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

impl Env for Loading {
    fn var(&self, key: &str) -> Option<String> {
        self.context.variable(key)
    }

    fn vars(&self) -> HashMap<String, String> {
        HashMap::new()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.context.variable("HOME").map(PathBuf::from)
    }
}

impl CommandExecute for Loading {
    /// Runs the program of an external account, which `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1` permits. The
    /// crate sets its timeout.
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        args: &'a [&'a str],
    ) -> Result<CommandOutput> {
        let output = tokio::process::Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let failed =
            |error: std::io::Error| Error::config_invalid(format!("cannot run {program}: {error}"));
        let output = output.await.map_err(failed)?;
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
