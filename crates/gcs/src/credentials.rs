//! Sources and lifetimes of access tokens. This calls no storage.
//!
//! The order is tusd's: `GCS_SERVICE_ACCOUNT_FILE`, then Application Default Credentials (the file of
//! `GOOGLE_APPLICATION_CREDENTIALS`, the one that gcloud writes, the metadata server). The first that is there
//! decides: if it fails, no other is tried, unlike in the chain of `reqsign-google`, whose parts this uses.

mod context;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use landfall::BoxError;
use landfall_objects::{CredentialCache, HttpSend, LoadCredentials, one_line};
use reqsign_core::{Context, ProvideCredential, time::Timestamp};
use reqsign_google::{
    Credential, FileCredentialProvider, ServiceAccountTokenCredentialProvider, Token,
    VmMetadataCredentialProvider,
};

use self::context::ProviderContext;
pub(crate) use self::context::Variables;

/// Roles limit the rights of a token. A narrower scope would not permit to sign by the IAM service.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The source of a client's credentials.
#[derive(Clone, Debug, Default)]
pub enum CredentialSource {
    /// `GCS_SERVICE_ACCOUNT_FILE`, or else Application Default Credentials.
    ///
    /// Files have a key of a service account, the login of a user, an external account (workload identity
    /// federation), or one of these that impersonates a service account. A variable that is empty is not set.
    #[default]
    Standard,
    /// This file, and no other source.
    File(String),
    /// A custom provider.
    Provider(Arc<dyn ProvideToken>),
    /// Requests have no token, as for public buckets and emulators.
    Anonymous,
}

/// An access token. Its `Debug` output does not contain it.
#[derive(Clone)]
pub struct AccessToken {
    /// The token, without `Bearer`.
    pub token: String,
    /// Expiry time; `None`: it does not expire.
    pub expires: Option<SystemTime>,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A custom source of tokens.
///
/// The client caches a token until shortly before it expires, or until the service rejects it.
#[async_trait]
pub trait ProvideToken: fmt::Debug + Send + Sync + 'static {
    /// Returns a fresh token.
    ///
    /// # Errors
    /// Any error; the call then fails with [`BadCredentials`](landfall_objects::ErrorKind::BadCredentials).
    async fn token(&self) -> Result<AccessToken, BoxError>;
}

/// No token could be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct TokenError {
    /// The problem, and what to do.
    pub(crate) message: String,
    /// The service of the tokens did not respond, or failed: another attempt may succeed.
    pub(crate) is_transient: bool,
    /// There are no credentials, as far as is known.
    pub(crate) is_absent: bool,
}

/// The origin of tokens.
pub(crate) enum Source {
    Google(ProviderContext),
    Provider(Arc<dyn ProvideToken>),
}

/// Creates the cache of the tokens of a source.
pub(crate) fn cache(
    source: CredentialSource,
    http: Arc<dyn HttpSend>,
    variables: Variables,
) -> CredentialCache<Source> {
    let file = match source {
        CredentialSource::Standard => None,
        CredentialSource::File(file) => Some(file),
        CredentialSource::Provider(provider) => {
            return CredentialCache::new(Source::Provider(provider));
        }
        CredentialSource::Anonymous => return CredentialCache::fixed(None),
    };
    CredentialCache::new(Source::Google(ProviderContext::new(file, http, variables)))
}

/// Returns the source of the tokens, for people.
pub(crate) async fn source(credentials: &CredentialCache<Source>) -> String {
    match credentials.source() {
        Some(Source::Google(context)) => context.source().await,
        Some(Source::Provider(_)) => "a custom provider".to_owned(),
        None => "none, since STORAGE_EMULATOR_HOST is set".to_owned(),
    }
}

/// Returns credentials that can sign: with a key, or with the name of the account whose key the IAM service has.
pub(crate) async fn for_signing(
    credentials: &CredentialCache<Source>,
) -> Result<(Credential, Context), BoxError> {
    let (Some(credential), Some(Source::Google(context))) =
        (credentials.get().await?, credentials.source())
    else {
        return Err("there are no credentials to sign with".into());
    };
    let mut credential = Credential::clone(&credential);
    if credential.service_account.is_none() && credential.signer_email.is_none() {
        let email = context.account_email().await.map_err(|why| {
            format!(
                "these credentials cannot sign, since they are not of a service account ({why}); use a key of a \
                 service account, or impersonate one"
            )
        })?;
        credential.signer_email = Some(email);
    }
    Ok((credential, context.for_load().0))
}

#[async_trait]
impl LoadCredentials for Source {
    type Credentials = Credential;

    const SERVICE: &'static str = "GCS";

    /// The metadata server has no newer one before it has 5 minutes.
    const RENEW_BEFORE: Duration = Duration::from_secs(225);

    fn expires(credential: &Credential) -> Option<SystemTime> {
        let expires = credential.token.as_ref()?.expires_at?;
        Some(expires.as_system_time())
    }

    async fn load(&self) -> Result<Credential, BoxError> {
        let provider = match self {
            Self::Google(context) => return Ok(load(context).await?),
            Self::Provider(provider) => provider,
        };
        let given = provider.token().await;
        let given = given.map_err(|error| one_line(error.to_string()))?;
        let expires_at = given.expires.and_then(|at| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Timestamp::from_second(since.as_secs().try_into().ok()?).ok()
        });
        Ok(Credential::with_token(Token {
            access_token: given.token,
            expires_at,
        }))
    }
}

async fn load(context: &ProviderContext) -> Result<Credential, TokenError> {
    let (reqsign, progress) = context.for_load();
    let failed = |message: String, is_absent| TokenError {
        message,
        is_transient: progress.is_transient.load(Ordering::Relaxed),
        is_absent,
    };
    let (given, place) = match context.file() {
        Some((variable, path)) => {
            let place = format!("{variable}{path:?}");
            let provider = FileCredentialProvider::new(path).with_scope(SCOPE);
            (provider.provide_credential(&reqsign).await, place)
        }
        None => {
            let host = context.metadata_host();
            let place = format!("the metadata server {host}");
            let provider = VmMetadataCredentialProvider::new().with_endpoint(host);
            let provider = provider.with_scope(SCOPE);
            let given = provider.provide_credential(&reqsign).await;
            if !matches!(given, Ok(Some(_))) {
                let why = match given {
                    Err(error) => sentence(&error, None),
                    Ok(_) => "it has no token for this machine".to_owned(),
                };
                let message = format!(
                    "found no Google credentials; set GCS_SERVICE_ACCOUNT_FILE or GOOGLE_APPLICATION_CREDENTIALS to a \
                     credential file, log in with `gcloud auth application-default login`, or run on Google Cloud with \
                     a service account ({place}: {why})"
                );
                return Err(failed(message, true));
            }
            (given, place)
        }
    };
    let none = || failed(format!("{place} gave no access token"), false);
    let failed = |error: reqsign_core::Error| {
        let refusal = progress.refusal.lock().take();
        let why = sentence(&error, refusal.as_deref());
        failed(format!("{place}: {why}"), false)
    };
    let mut credential = given.map_err(failed)?.ok_or_else(none)?;
    if let (None, Some(account)) = (&credential.token, credential.service_account.clone()) {
        let provider = ServiceAccountTokenCredentialProvider::new(account).with_scope(SCOPE);
        let given = provider.provide_credential(&reqsign).await;
        credential.token = given.map_err(failed)?.and_then(|given| given.token);
    }
    match credential.token {
        Some(_) => Ok(credential),
        None => Err(none()),
    }
}

/// Says in one line the problem, and its remedy if that is known.
fn sentence(error: &reqsign_core::Error, refusal: Option<&str>) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    if let Some(refusal) = refusal.filter(|refusal| !text.contains(refusal)) {
        text = format!("{text}: {}", refusal.trim_end_matches('.'));
    }
    let advice = if text.contains("reasonable timeframe") {
        "; synchronize this machine's clock, for example by NTP"
    } else if text.contains("invalid_grant") || text.contains("invalid_rapt") {
        "; the key or login was deleted, disabled or has expired, or the clock of this machine is wrong: create a new \
         key, or run `gcloud auth application-default login`"
    } else if text.contains("parse credential file") {
        "; it must be a JSON file of Google: a key of a service account, or a credential configuration"
    } else if text.contains("PKCS#8") || text.contains("private key") {
        "; download the key of the service account again"
    } else {
        ""
    };
    format!("{}{advice}", one_line(text))
}

#[cfg(test)]
mod tests;
