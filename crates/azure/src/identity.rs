//! Tokens of Microsoft Entra ID, from the identity of this process. They are not cached here.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use landfall::BoxError;
use landfall_objects::{
    HttpSend, LoadCredentials, exchange, one_line, read_file, run_program, segment,
};
use reqsign_azure_storage::{
    AzureCliCredentialProvider, ClientCertificateCredentialProvider,
    ClientSecretCredentialProvider, Credential, ImdsCredentialProvider,
    WorkloadIdentityCredentialProvider,
};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, Error, FileRead, ProvideCredentialDyn, Result,
    time::Timestamp,
};
use serde::Deserialize;

use crate::variables::Variables;

/// The service that tokens are for.
const RESOURCE: &str = "https://storage.azure.com/";

/// Timeout of a request to a token or metadata service.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// The command line tool starts slowly.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Of a token or a certificate.
const MAX_FILE: u64 = 64 * 1024;

type Provider = dyn ProvideCredentialDyn<Credential = Credential>;

/// The sources of tokens, in their order. A source that is configured and fails ends the search: another
/// identity might have other rights.
#[derive(Debug)]
pub(crate) struct Identity {
    context: Context,
    variables: Variables,
    secret: ClientSecretCredentialProvider,
    certificate: ClientCertificateCredentialProvider,
    workload: WorkloadIdentityCredentialProvider,
    machine: ImdsCredentialProvider,
    command: AzureCliCredentialProvider,
    /// The source of the first token.
    source: OnceLock<&'static str>,
}

impl Identity {
    pub(crate) fn new(http: Arc<dyn HttpSend>, variables: Variables) -> Self {
        let context = Context::new()
            .with_file_read(Files)
            .with_http_send(OverHttp(http))
            .with_env(Environment(variables.clone()))
            .with_command_execute(Commands);
        let mut certificate = ClientCertificateCredentialProvider::new();
        if let Some(password) = variables.get("AZURE_CLIENT_CERTIFICATE_PASSWORD") {
            certificate = certificate.with_certificate_password(password);
        }
        Self {
            context,
            variables,
            secret: ClientSecretCredentialProvider::new(),
            certificate,
            workload: WorkloadIdentityCredentialProvider::new(),
            machine: ImdsCredentialProvider::new(),
            command: AzureCliCredentialProvider::new(),
            source: OnceLock::new(),
        }
    }

    /// Files, variables and HTTP for signatures that need them.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Requests a token.
    async fn token(&self) -> std::result::Result<Credential, BoxError> {
        let failed = |source: &str, error: &Error| -> BoxError {
            format!("cannot get a token by {source}: {}", text(error)).into()
        };
        let configured: [(&str, &Provider); 3] = [
            ("AZURE_CLIENT_SECRET", &self.secret),
            ("AZURE_CLIENT_CERTIFICATE_PATH", &self.certificate),
            ("AZURE_FEDERATED_TOKEN_FILE", &self.workload),
        ];
        for (variable, provider) in configured {
            match provider.provide_credential_dyn(&self.context).await {
                Ok(Some(token)) => return Ok(self.found(variable, token)),
                Ok(None) => {}
                Err(error) => return Err(failed(variable, &error)),
            }
        }
        if let Some(endpoint) = self.variables.get("IDENTITY_ENDPOINT") {
            let token = self.app_service(endpoint).await;
            let token = token.map_err(|error| failed("IDENTITY_ENDPOINT", &error))?;
            return Ok(self.found("IDENTITY_ENDPOINT", token));
        }
        let found: [(&str, &Provider); 2] = [
            ("managed identity", &self.machine),
            ("az account get-access-token", &self.command),
        ];
        let mut reasons = Vec::new();
        for (source, provider) in found {
            match provider.provide_credential_dyn(&self.context).await {
                Ok(Some(token)) => return Ok(self.found(source, token)),
                Ok(None) => {}
                Err(error) => reasons.push(format!("{source}: {}", text(&error))),
            }
        }
        let reasons = reasons.join("; ");
        let advice = "set AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or \
                      AZURE_STORAGE_CONNECTION_STRING, or give this machine an identity";
        Err(format!("found no credentials for Azure; {advice} ({reasons})").into())
    }

    fn found(&self, source: &'static str, token: Credential) -> Credential {
        self.source.get_or_init(|| source);
        token
    }

    /// Returns the source of the first token: a variable, or a name for people.
    pub(crate) fn source(&self) -> &'static str {
        self.source.get().copied().unwrap_or("no source")
    }

    /// The managed identity of App Service, Functions and Container Apps.
    async fn app_service(&self, endpoint: &str) -> Result<Credential> {
        #[derive(Deserialize)]
        struct Token {
            access_token: String,
            /// Seconds since 1970, as text.
            expires_on: String,
        }
        let mut url = format!("{endpoint}?api-version=2019-08-01&resource={RESOURCE}");
        if let Some(id) = self.variables.get("AZURE_CLIENT_ID") {
            url += &format!("&client_id={}", segment(id));
        }
        let secret = self.variables.get("IDENTITY_HEADER").unwrap_or_default();
        let request = Request::get(url).header("x-identity-header", secret);
        let request = request.body(Bytes::new());
        let request = request.map_err(|error| Error::config_invalid(error.to_string()))?;
        let response = self.context.http_send(request).await?;
        let unexpected = || Error::unexpected("the response has no token");
        let token: Token = serde_json::from_slice(response.body()).map_err(|_| unexpected())?;
        let expires = token.expires_on.parse().map_err(|_| unexpected())?;
        let expires = Timestamp::from_second(expires)?;
        Ok(Credential::with_bearer_token(
            &token.access_token,
            Some(expires),
        ))
    }
}

#[async_trait]
impl LoadCredentials for Identity {
    type Credentials = Credential;

    const SERVICE: &'static str = "Azure";

    async fn load(&self) -> std::result::Result<Credential, BoxError> {
        self.token().await
    }

    fn expires(credential: &Credential) -> Option<SystemTime> {
        let expires = match credential {
            Credential::BearerToken { expires_in, .. } => (*expires_in)?,
            _ => return None,
        };
        Some(expires.as_system_time())
    }
}

/// The message, and the details that the library keeps apart from it.
fn text(error: &Error) -> String {
    let mut text = error.to_string();
    for context in error.context() {
        text.push_str(", ");
        text.push_str(context);
    }
    one_line(text)
}

/// The client's connections, for small requests.
#[derive(Debug)]
struct OverHttp(Arc<dyn HttpSend>);

impl reqsign_core::HttpSend for OverHttp {
    async fn http_send(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let response = exchange(&self.0, request, HTTP_TIMEOUT).await;
        let response = response.map_err(|error| Error::unexpected(format!("{host}: {error}")))?;
        match response.status().is_success() {
            true => Ok(response),
            false => {
                let (status, reason) = (response.status(), reason(response.body()));
                Err(Error::credential_invalid(format!(
                    "{host}: {status}{reason}"
                )))
            }
        }
    }
}

/// The message of Entra ID or a metadata service in JSON, such as that a secret has expired. Other bodies are not
/// repeated.
fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Reason {
        error_description: String,
    }
    let reason = serde_json::from_slice::<Reason>(body).ok();
    let first = reason.and_then(|reason| Some(reason.error_description.lines().next()?.to_owned()));
    first.map_or_else(String::new, |first| format!(" {}", one_line(first)))
}

#[derive(Debug)]
struct Environment(Variables);

impl Env for Environment {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).map(ToOwned::to_owned)
    }

    fn vars(&self) -> HashMap<String, String> {
        // In other programs, these are of the storage; the library sends requests for tokens there.
        let pairs = self
            .0
            .pairs()
            .filter(|(name, _)| !name.starts_with("AZBLOB_"));
        pairs
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.0.get("HOME").map(PathBuf::from)
    }
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        let name = path.to_owned();
        let reading = tokio::task::spawn_blocking(move || read_file(&name, MAX_FILE)).await;
        let failed =
            |error: BoxError| Error::config_invalid(format!("cannot read {path}: {error}"));
        let read = reading.map_err(|error| failed(error.into()))?;
        read.map_err(|error| failed(error.into()))
    }
}

#[derive(Debug)]
struct Commands;

impl CommandExecute for Commands {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        args: &'a [&'a str],
    ) -> Result<CommandOutput> {
        let output = run_program(program, args, COMMAND_TIMEOUT).await;
        let output = output.map_err(Error::unexpected)?;
        Ok(CommandOutput {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}
