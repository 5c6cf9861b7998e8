//! The credentials that AWS's tools would use, in the order of their SDK for Go (tusd's): the
//! variables, web identity, the profile, the container's endpoint, the instance's metadata service.
//!
//! The first source that is configured decides: if it fails, the others are not tried, which may
//! have credentials for something else.
//!
//! It is our own: `aws-config` was tried, and the source of `reqsign-aws-core` 3.2 read. `aws-config`
//! without the S3 SDK knows every source but files in place of variables, and adds 26 packages, among
//! them three SDKs, and 4 MiB to a program. `reqsign-aws-core` would add 11 packages and could replace
//! the metadata service and the token service alone: of a profile it reads nothing but keys,
//! `sso_start_url` and a `credential_process`, which it splits at spaces; it renews no login, tries the
//! next source where one fails, and sends the container's token to any host.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Uri, header};
use landfall::BoxError;
use landfall_objects::{CallLimits, CallSettings, run_program};

use super::{
    Client, ClientSettings, HttpSend, Operation,
    credentials::{CredentialSource, Credentials, ProvideCredentials},
    encode::Query,
    environment::variable,
    profile::{self, ProfileSource, Role, SharedFiles},
    provider_context::{
        HTTP_TIMEOUT, ProviderContext, ProviderResult, Variables, parse, quoted, read_text,
    },
    sso,
};

const PROCESS_TIMEOUT: Duration = Duration::from_secs(60);

const CONTAINER: &str = "http://169.254.170.2";
const INSTANCE: &str = "http://169.254.169.254";
const INSTANCE_IPV6: &str = "http://[fd00:ec2::254]";
const INSTANCE_TOKEN: &str = "x-aws-ec2-metadata-token";

#[derive(Debug)]
pub(super) struct CredentialChain {
    /// Instead of all other sources.
    profile: Option<String>,
    context: ProviderContext,
    region: String,
}

#[async_trait]
impl ProvideCredentials for CredentialChain {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        Ok(self.find().await?)
    }
}

impl CredentialChain {
    pub(super) fn new(profile: Option<String>, http: Arc<dyn HttpSend>, region: &str) -> Self {
        Self::with_variables(profile, http, region, Box::new(variable))
    }

    fn with_variables(
        profile: Option<String>,
        http: Arc<dyn HttpSend>,
        region: &str,
        variables: Variables,
    ) -> Self {
        Self {
            profile,
            context: ProviderContext { http, variables },
            region: region.to_owned(),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.context.variable(name)
    }

    async fn find(&self) -> ProviderResult<Credentials> {
        if let Some(profile) = &self.profile {
            let found = self.profile_keys(profile, true).await?;
            return found.ok_or_else(|| format!("the profile {profile:?} has no credentials"));
        }
        if let Some(keys) = self.environment_keys()? {
            return Ok(keys);
        }
        if let Some(token_file) = self.variable("AWS_WEB_IDENTITY_TOKEN_FILE") {
            let arn = self.variable("AWS_ROLE_ARN").ok_or(
                "AWS_WEB_IDENTITY_TOKEN_FILE is set, but not AWS_ROLE_ARN, the role for the token",
            )?;
            let role = Role {
                arn,
                session_name: self.variable("AWS_ROLE_SESSION_NAME"),
                region: self.variable("AWS_REGION"),
                ..Role::default()
            };
            return self.web_identity(&role, &token_file).await;
        }
        let named = self.variable("AWS_PROFILE");
        let profile = named.as_deref().unwrap_or(profile::DEFAULT);
        if let Some(keys) = self.profile_keys(profile, named.is_some()).await? {
            return Ok(keys);
        }
        if self.has_container() {
            return self.container().await;
        }
        let instance = match self.variable("AWS_EC2_METADATA_DISABLED") {
            Some(set) if set.eq_ignore_ascii_case("true") => {
                "the instance's metadata service is disabled by AWS_EC2_METADATA_DISABLED"
                    .to_owned()
            }
            _ => match self.instance().await {
                Ok(keys) => return Ok(keys),
                Err(error) => error,
            },
        };
        Err(format!(
            "no credentials found: AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE and \
             AWS_CONTAINER_CREDENTIALS_FULL_URI are not set, the profile {profile:?} has none, and \
             {instance}"
        ))
    }

    fn environment_keys(&self) -> ProviderResult<Option<Credentials>> {
        const NAMES: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        let [id, secret] = NAMES;
        let (set, missing) = match NAMES.map(|name| self.variable(name)) {
            [Some(id), Some(secret)] => {
                let mut keys = Credentials::new(id, secret);
                keys.session_token = self.variable("AWS_SESSION_TOKEN");
                return Ok(Some(keys));
            }
            [None, None] => return Ok(None),
            [Some(_), None] => (id, secret),
            [None, Some(_)] => (secret, id),
        };
        Err(format!("{set} is set, but not {missing}"))
    }

    async fn profile_keys(
        &self,
        profile: &str,
        must_exist: bool,
    ) -> ProviderResult<Option<Credentials>> {
        // Small files, read when credentials expire.
        let files = match SharedFiles::read(&*self.context.variables) {
            Ok(files) if must_exist || files.has(profile) => files,
            Ok(_) => return Ok(None),
            // Such as the home of another user, which AWS's tools skip, too.
            Err(error) if !must_exist => {
                tracing::warn!("{error}; S3 credentials are looked for elsewhere");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(source) = files.source(profile)? else {
            return Ok(None);
        };
        let failed = |error| format!("the profile {profile:?} in {files}: {error}");
        self.load(&source).await.map(Some).map_err(failed)
    }

    fn load<'a>(&'a self, source: &'a ProfileSource) -> BoxFuture<'a, ProviderResult<Credentials>> {
        async move {
            match source {
                ProfileSource::Keys(keys) => Ok(keys.clone()),
                ProfileSource::Process(command) => process(command).await,
                ProfileSource::Sso(sso) => sso::credentials(&self.context, sso).await,
                ProfileSource::WebIdentity { role, token_file } => {
                    self.web_identity(role, token_file).await
                }
                ProfileSource::Role { role, source } => {
                    let keys = self.load(source).await?;
                    self.assume(role, Some(&keys), None).await
                }
                ProfileSource::Environment => {
                    let none =
                        || "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set".to_owned();
                    self.environment_keys()?.ok_or_else(none)
                }
                ProfileSource::Container => self.container().await,
                ProfileSource::Instance => self.instance().await,
            }
        }
        .boxed()
    }

    async fn web_identity(&self, role: &Role, token_file: &str) -> ProviderResult<Credentials> {
        let token = read_text(token_file)?;
        self.assume(role, None, Some(&token)).await
    }

    async fn assume(
        &self,
        role: &Role,
        keys: Option<&Credentials>,
        token: Option<&str>,
    ) -> ProviderResult<Credentials> {
        let keys = keys.cloned();
        let client = Client::new(ClientSettings {
            region: role.region.clone().or_else(|| Some(self.region.clone())),
            credentials: keys.map_or(CredentialSource::Anonymous, CredentialSource::Static),
            calls: CallSettings {
                http: Some(Arc::clone(&self.context.http)),
                limits: CallLimits {
                    deadline: HTTP_TIMEOUT,
                    ..CallLimits::default()
                },
                ..CallSettings::default()
            },
            ..ClientSettings::default()
        });
        let client = client.map_err(|error| error.to_string())?;
        let name = role.session_name.as_deref().unwrap_or("landfall");
        let mut form = Query::new().with("RoleSessionName", name);
        for (name, value) in [
            ("RoleArn", Some(&*role.arn)),
            ("ExternalId", role.external_id.as_deref()),
            ("DurationSeconds", role.seconds.as_deref()),
            ("WebIdentityToken", token),
        ] {
            if let Some(value) = value {
                form.push(name, value);
            }
        }
        let action = match token {
            Some(_) => "AssumeRoleWithWebIdentity",
            None => "AssumeRole",
        };
        let endpoint = self.variable("AWS_ENDPOINT_URL_STS");
        let operation = Operation::AssumeRole;
        let keys = client.call_token_service(operation, action, endpoint.as_deref(), form);
        let failed = |error| format!("the role {}: {error}", role.arn);
        keys.await.map_err(failed)
    }

    fn has_container(&self) -> bool {
        let names =
            ["RELATIVE", "FULL"].map(|kind| format!("AWS_CONTAINER_CREDENTIALS_{kind}_URI"));
        names.iter().any(|name| self.variable(name).is_some())
    }

    /// ECS, and Pod Identity of EKS.
    async fn container(&self) -> ProviderResult<Credentials> {
        let relative = self.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let url = match relative {
            Some(path) => format!("{CONTAINER}{path}"),
            None => self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").ok_or(
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set: this is no container of ECS or EKS",
            )?,
        };
        let uri: Uri = url.parse().map_err(|_| format!("{url:?} is not a URL"))?;
        if !is_token_endpoint(&uri) {
            return Err(format!(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI is {url:?}: it must be https, or a loopback address \
                 or one of ECS or EKS, since the token is sent there"
            ));
        }
        let token = match self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(path) => Some(read_text(&path)?),
            None => self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        };
        let mut request = Request::get(uri);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let failed = |error: String| format!("the container's endpoint {url}: {error}");
        self.context.json(request).await.map_err(failed)
    }

    /// IMDSv2.
    async fn instance(&self) -> ProviderResult<Credentials> {
        let ipv6 = self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
        let default = match ipv6 {
            Some(mode) if mode.eq_ignore_ascii_case("ipv6") => INSTANCE_IPV6,
            _ => INSTANCE,
        };
        let set = self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let base = set.as_deref().unwrap_or(default).trim_end_matches('/');
        let failed = |error: String| format!("the instance's metadata service {base}: {error}");
        let fetch = async {
            let token = Request::put(format!("{base}/latest/api/token"))
                .header(format!("{INSTANCE_TOKEN}-ttl-seconds"), "21600");
            let token = self.context.text(token).await?;
            let path = format!("{base}/latest/meta-data/iam/security-credentials/");
            let roles = self
                .context
                .text(Request::get(&path).header(INSTANCE_TOKEN, &token))
                .await?;
            let role = roles.lines().next().unwrap_or_default().trim();
            if role.is_empty() {
                return Err("the instance has no role".to_owned());
            }
            let keys = Request::get(format!("{path}{role}")).header(INSTANCE_TOKEN, &token);
            self.context.json(keys).await
        };
        fetch.await.map_err(failed)
    }
}

/// Runs a program by the shell, as AWS's SDK for Go does, so that quotes and variables work.
async fn process(command: &str) -> ProviderResult<Credentials> {
    let failed = |error: String| format!("credential_process: {error}");
    let output = run_program("sh", &["-c", command], PROCESS_TIMEOUT).await;
    let output = output.map_err(failed)?;
    if !output.status.success() {
        let reason = quoted(&output.stderr);
        return Err(failed(format!("{}: {reason}", output.status)));
    }
    parse(&output.stdout).map_err(failed)
}

/// As AWS's tools decide it.
fn is_token_endpoint(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = |ip: std::net::IpAddr| ip.is_loopback();
    uri.scheme_str() == Some("https")
        || [
            "localhost",
            "169.254.170.2",
            "169.254.170.23",
            "fd00:ec2::23",
        ]
        .contains(&host)
        || host.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests;
