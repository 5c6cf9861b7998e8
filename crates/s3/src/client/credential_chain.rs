use std::{
    collections::HashMap,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use landfall::BoxError;
use parking_lot::RwLock;
use reqsign_aws_core::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider,
    EnvCredentialProvider, IMDSv2CredentialProvider, ProcessCredentialProvider,
    ProfileCredentialProvider, SSOCredentialProvider,
};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, FileRead, HttpSend as CredentialHttpSend,
    ProvideCredentialDyn,
};
use tokio::{process::Command, sync::Mutex};

use super::environment::variable;
use super::{
    credentials::{CredentialSource, Credentials, ProvideCredentials},
    http_send::{HttpSend, Payload, collect},
};

/// Timeout of a request to a token or metadata service.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

const PROCESS_TIMEOUT: Duration = Duration::from_secs(60);

const MAX_BYTES: usize = 1024 * 1024;

type ChainEntry = (
    &'static str,
    Box<dyn ProvideCredentialDyn<Credential = Credential>>,
);

#[derive(Debug)]
pub(super) struct CredentialChain {
    context: Context,
    entries: Vec<ChainEntry>,
}

impl CredentialChain {
    pub(super) fn new(profile: Option<String>, http: Arc<dyn HttpSend>, region: &str) -> Self {
        let mut shared = ProfileCredentialProvider::new();
        let mut sso = SSOCredentialProvider::new();
        let mut process = ProcessCredentialProvider::new();
        if let Some(profile) = profile {
            shared = shared.with_profile(&profile);
            sso = sso.with_profile(&profile);
            process = process.with_profile(profile);
        }
        // The regional endpoint: only the partition's own token service knows its roles.
        let session_name =
            variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "landfall".to_owned());
        let web_identity = AssumeRoleWithWebIdentityCredentialProvider::new()
            .with_role_session_name(session_name)
            .with_region(variable("AWS_REGION").unwrap_or_else(|| region.to_owned()))
            .with_regional_sts_endpoint();
        let container = ECSCredentialProvider::new();
        let instance = IMDSv2CredentialProvider::new();
        Self {
            context: context(http),
            entries: vec![
                ("the environment", Box::new(EnvCredentialProvider::new())),
                ("the shared files", Box::new(shared)),
                ("SSO", Box::new(sso)),
                ("web identity", Box::new(web_identity)),
                ("a credential process", Box::new(process)),
                ("the container's endpoint", Box::new(container)),
                ("the instance's metadata", Box::new(instance)),
            ],
        }
    }
}

fn context(http: Arc<dyn HttpSend>) -> Context {
    Context::new()
        .with_file_read(FileReader)
        .with_env(ProcessEnv)
        .with_http_send(MetadataHttp(http))
        .with_command_execute(ProcessRunner)
}

#[async_trait]
impl ProvideCredentials for CredentialChain {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        let mut problems = String::new();
        for (name, entry) in &self.entries {
            match entry.provide_credential_dyn(&self.context).await {
                Ok(Some(found)) => {
                    tracing::debug!(source = name, "found S3 credentials");
                    return Ok(Credentials {
                        access_key_id: found.access_key_id,
                        secret_access_key: found.secret_access_key,
                        session_token: found.session_token.filter(|token| !token.is_empty()),
                        expires: found.expires_in.map(|expires| expires.as_system_time()),
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(source = name, ?error, "failed to get S3 credentials");
                    problems.push_str(&format!("; {name}: {error}"));
                }
            }
        }
        let names: Vec<_> = self.entries.iter().map(|(name, _)| *name).collect();
        Err(format!("no credentials found in {}{problems}", names.join(", ")).into())
    }
}

#[derive(Debug)]
struct FileReader;

impl FileRead for FileReader {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            use std::io::Read;
            let mut bytes = Vec::new();
            std::fs::File::open(path)?
                .take(MAX_BYTES as u64)
                .read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        });
        let read = read.await.map_err(std::io::Error::other).flatten();
        read.map_err(|error| failed("cannot read file", &error))
    }
}

#[derive(Debug)]
struct ProcessEnv;

impl Env for ProcessEnv {
    fn var(&self, key: &str) -> Option<String> {
        variable(key)
    }

    fn vars(&self) -> HashMap<String, String> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        std::env::home_dir()
    }
}

#[derive(Debug)]
struct MetadataHttp(Arc<dyn HttpSend>);

impl CredentialHttpSend for MetadataHttp {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<Response<Bytes>> {
        let request = request.map(|body| Payload::from(body).body());
        let fetch = async {
            let (head, body) = self.0.send(request).await?.into_parts();
            let body = collect(body, HTTP_TIMEOUT, MAX_BYTES).await?;
            Ok::<_, BoxError>(Response::from_parts(head, body))
        };
        let fetched = tokio::time::timeout(HTTP_TIMEOUT, fetch).await;
        fetched
            .map_err(|_| reqsign_core::Error::unexpected("timeout"))?
            .map_err(|error| failed("no response", &*error))
    }
}

#[derive(Debug)]
struct ProcessRunner;

impl CommandExecute for ProcessRunner {
    async fn command_execute<'a>(
        &'a self,
        command: &'a str,
        args: &'a [&'a str],
    ) -> reqsign_core::Result<CommandOutput> {
        let output = Command::new(command)
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(PROCESS_TIMEOUT, output).await {
            Ok(Ok(output)) => Ok(CommandOutput {
                status: output.status.code().unwrap_or(-1),
                stdout: output.stdout,
                stderr: output.stderr,
            }),
            Ok(Err(error)) => Err(failed("cannot start the credential process", &error)),
            Err(_) => Err(reqsign_core::Error::unexpected(
                "the credential process timed out",
            )),
        }
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> reqsign_core::Error {
    reqsign_core::Error::unexpected(format!("{what}: {error}"))
}

/// Credentials with less remaining lifetime are refreshed.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);

/// Credentials with less remaining lifetime are not used, because the request has to arrive in
/// time.
const USABLE_UNTIL: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct CredentialCache {
    /// `None`: the current credentials, if any, are fixed.
    provider: Option<Arc<dyn ProvideCredentials>>,
    current: RwLock<Option<Arc<Credentials>>>,
    refreshing: Mutex<()>,
}

impl CredentialCache {
    pub(super) fn new(source: CredentialSource, http: Arc<dyn HttpSend>, region: &str) -> Self {
        let chain = |profile| Arc::new(CredentialChain::new(profile, http, region));
        let mut fixed = None;
        let provider: Option<Arc<dyn ProvideCredentials>> = match source {
            CredentialSource::Anonymous => None,
            CredentialSource::Static(credentials) => {
                fixed = Some(Arc::new(credentials));
                None
            }
            CredentialSource::Provider(provider) => Some(provider),
            CredentialSource::Standard => Some(chain(None)),
            CredentialSource::Profile(profile) => Some(chain(Some(profile))),
        };
        Self {
            provider,
            current: RwLock::new(fixed),
            refreshing: Mutex::default(),
        }
    }

    pub(super) async fn get(&self) -> Result<Option<Arc<Credentials>>, BoxError> {
        let Some(provider) = &self.provider else {
            return Ok(self.current());
        };
        let now = SystemTime::now();
        let current = self.current();
        if let Some(current) = &current
            && has_left(current, now, REFRESH_BEFORE)
        {
            return Ok(Some(current.clone()));
        }
        let usable = current.filter(|current| has_left(current, now, USABLE_UNTIL));
        let _refreshing = match (&usable, self.refreshing.try_lock()) {
            (_, Ok(guard)) => guard,
            (Some(usable), Err(_)) => return Ok(Some(usable.clone())),
            (None, Err(_)) => self.refreshing.lock().await,
        };
        if let Some(current) = self.current()
            && has_left(&current, SystemTime::now(), REFRESH_BEFORE)
        {
            return Ok(Some(current));
        }
        match provider.credentials().await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *self.current.write() = Some(fresh.clone());
                Ok(Some(fresh))
            }
            Err(error) => match usable {
                Some(usable) => {
                    tracing::warn!(%error, "failed to refresh S3 credentials that expire soon");
                    Ok(Some(usable))
                }
                None => Err(error),
            },
        }
    }

    /// Discards credentials that the service rejected; false if a refresh cannot help.
    pub(super) fn invalidate(&self, ended: &Arc<Credentials>) -> bool {
        if self.provider.is_none() {
            return false;
        }
        let mut current = self.current.write();
        current.take_if(|current| Arc::ptr_eq(current, ended));
        true
    }

    fn current(&self) -> Option<Arc<Credentials>> {
        self.current.read().clone()
    }
}

fn has_left(credentials: &Credentials, now: SystemTime, min: Duration) -> bool {
    let expires = credentials.expires;
    expires.is_none_or(|expires| expires > now + min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{
        ClientSettings,
        tests::script::{Script, Step, response},
        transport::Pool,
    };

    fn chain(context: Context, entries: Vec<ChainEntry>) -> CredentialChain {
        CredentialChain { context, entries }
    }

    fn pool() -> Arc<Pool> {
        Arc::new(Pool::new(&ClientSettings::default(), false).expect("a pool"))
    }

    fn files(folder: &std::path::Path) -> ProfileCredentialProvider {
        ProfileCredentialProvider::new()
            .with_profile("work")
            .with_config_file(folder.join("config").to_str().expect("text"))
            .with_credentials_file(folder.join("credentials").to_str().expect("text"))
    }

    #[tokio::test]
    async fn first_source_with_credentials_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(
            folder.path().join("credentials"),
            "[default]\naws_access_key_id=other\naws_secret_access_key=x\n\
             [work]\naws_access_key_id = AKID\naws_secret_access_key = s/e+c=\n",
        )
        .expect("written");
        let chain = chain(
            context(pool()),
            vec![
                (
                    "a process",
                    Box::new(ProcessCredentialProvider::new().with_command("false")),
                ),
                ("files", Box::new(files(folder.path()))),
            ],
        );
        let found = chain.credentials().await.expect("found");
        assert_eq!(found, Credentials::new("AKID", "s/e+c="));
    }

    #[tokio::test]
    async fn process_returns_expiring_credentials() {
        let folder = tempfile::tempdir().expect("a folder");
        let response = folder.path().join("response");
        std::fs::write(
            &response,
            r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":"T",
                "Expiration":"2030-01-02T03:04:05Z"}"#,
        )
        .expect("written");
        let process = ProcessCredentialProvider::new()
            .with_command(format!("cat {}", response.to_str().expect("text")));
        let chain = chain(context(pool()), vec![("a process", Box::new(process))]);
        let found = chain.credentials().await.expect("found");
        assert_eq!(found.session_token.as_deref(), Some("T"));
        let expires = found.expires.expect("an end");
        let since = expires
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        assert_eq!(since.as_secs(), 1_893_553_445);
    }

    fn keys(id: &str) -> Step {
        let body = format!(
            r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"S","Token":"T",
                "Expiration":"2030-01-02T03:04:05Z"}}"#
        );
        response("200 OK", &[], &body)
    }

    #[tokio::test]
    async fn container_requests_its_endpoint() {
        let script = Script::start([keys("ECS")]).await;
        let container = ECSCredentialProvider::new()
            .with_endpoint(format!("{}/role?a=b", script.endpoint()))
            .with_auth_token("the-token");
        let chain = chain(context(pool()), vec![("container", Box::new(container))]);
        let found = chain.credentials().await.expect("found");
        assert_eq!(
            (found.access_key_id.as_str(), found.session_token.as_deref()),
            ("ECS", Some("T"))
        );
        let request = script.request(0);
        assert_eq!(request.line, "GET /role?a=b HTTP/1.1");
        assert_eq!(request.header("authorization"), Some("the-token"));
    }

    #[tokio::test]
    async fn instance_requests_with_a_token() {
        let text = |body| response("200 OK", &[], body);
        let script = Script::start([text("session"), text("my-role"), keys("IMDS")]).await;
        let instance = IMDSv2CredentialProvider::new().with_endpoint(script.endpoint());
        let chain = chain(context(pool()), vec![("instance", Box::new(instance))]);
        assert_eq!(
            chain.credentials().await.expect("found").access_key_id,
            "IMDS"
        );
        assert_eq!(script.request(0).line, "PUT /latest/api/token HTTP/1.1");
        assert_eq!(
            script.request(2).line,
            "GET /latest/meta-data/iam/security-credentials/my-role HTTP/1.1"
        );
        for index in [1, 2] {
            let request = script.request(index);
            assert_eq!(request.header("x-aws-ec2-metadata-token"), Some("session"));
        }
    }

    #[tokio::test]
    async fn silent_metadata_service_times_out() {
        let script = Script::start([Step::Silence]).await;
        let instance = IMDSv2CredentialProvider::new().with_endpoint(script.endpoint());
        let chain = chain(context(pool()), vec![("instance", Box::new(instance))]);
        tokio::time::pause();
        let error = chain.credentials().await.expect_err("nothing").to_string();
        assert!(error.contains("; instance: "), "{error}");
    }

    #[tokio::test]
    async fn error_names_each_source() {
        let folder = tempfile::tempdir().expect("a folder");
        let process = ProcessCredentialProvider::new().with_command("false");
        let chain = chain(
            context(pool()),
            vec![
                ("files", Box::new(files(folder.path()))),
                ("a process", Box::new(process)),
            ],
        );
        let error = chain.credentials().await.expect_err("nothing").to_string();
        assert!(
            error.starts_with("no credentials found in files, a process; a process: "),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[cfg(test)]
mod credential_cache_tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::client::transport::Pool;

    /// Provides credentials with the listed lifetimes, then fails.
    #[derive(Debug)]
    struct ScriptedProvider {
        lifetimes: Vec<Option<u64>>,
        calls: AtomicUsize,
    }

    #[async_trait]
    impl ProvideCredentials for ScriptedProvider {
        async fn credentials(&self) -> Result<Credentials, BoxError> {
            tokio::task::yield_now().await;
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let lifetime = *self.lifetimes.get(call).ok_or("nothing more")?;
            let mut credentials = Credentials::new(format!("key{call}"), "secret");
            credentials.expires =
                lifetime.map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
            Ok(credentials)
        }
    }

    fn cache(source: CredentialSource) -> CredentialCache {
        let pool = Pool::new(&crate::client::ClientSettings::default(), false).expect("a pool");
        CredentialCache::new(source, Arc::new(pool), "r")
    }

    fn scripted(lifetimes: &[Option<u64>]) -> (Arc<ScriptedProvider>, CredentialCache) {
        let scripted = Arc::new(ScriptedProvider {
            lifetimes: lifetimes.to_vec(),
            calls: AtomicUsize::default(),
        });
        let cache = cache(CredentialSource::Provider(scripted.clone()));
        (scripted, cache)
    }

    async fn id(cache: &CredentialCache) -> String {
        cache
            .get()
            .await
            .expect("keys")
            .expect("signed")
            .access_key_id
            .clone()
    }

    #[tokio::test]
    async fn concurrent_calls_fetch_credentials_once() {
        let (scripted, cache) = scripted(&[None]);
        let (a, b) = tokio::join!(id(&cache), id(&cache));
        assert_eq!((a.as_str(), b.as_str()), ("key0", "key0"));
        assert_eq!(id(&cache).await, "key0");
        assert_eq!(scripted.calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn expiring_credentials_are_refreshed_and_used_until_then() {
        let (scripted, cache) = scripted(&[Some(100), Some(100)]);
        assert_eq!(id(&cache).await, "key0");
        assert_eq!(id(&cache).await, "key1");
        assert_eq!(
            id(&cache).await,
            "key1",
            "the source fails, but these still do"
        );
        assert_eq!(scripted.calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn expired_credentials_are_not_used() {
        let (_, cache) = scripted(&[Some(10)]);
        assert_eq!(id(&cache).await, "key0");
        let error = cache.get().await.expect_err("none left");
        assert_eq!(error.to_string(), "nothing more");
    }

    #[tokio::test]
    async fn rejected_credentials_are_fetched_again() {
        let (_, cache) = scripted(&[None, None]);
        let first = cache.get().await.expect("keys").expect("signed");
        assert!(cache.invalidate(&first));
        assert_eq!(id(&cache).await, "key1");
        assert!(cache.invalidate(&first), "one of long ago changes nothing");
        assert_eq!(id(&cache).await, "key1");
    }

    #[tokio::test]
    async fn static_credentials_are_unchanged() {
        let credentials = Credentials::new("id", "the-secret");
        let debug = format!("{credentials:?}");
        assert!(
            debug.contains("id") && !debug.contains("the-secret"),
            "{debug}"
        );
        let cache = self::cache(CredentialSource::Static(credentials));
        let given = cache.get().await.expect("keys").expect("signed");
        assert!(!cache.invalidate(&given));
        let anonymous = self::cache(CredentialSource::Anonymous);
        assert!(anonymous.get().await.expect("none needed").is_none());
    }
}
