//! Where access tokens come from, and how long they are kept. This calls no storage.
//!
//! The order is tusd's: `GCS_SERVICE_ACCOUNT_FILE`, then Application Default Credentials (the file of
//! `GOOGLE_APPLICATION_CREDENTIALS`, the one that gcloud writes, the metadata server). The first that is there
//! decides: if it fails, no other is tried, unlike in the chain of `reqsign-google`, whose parts this uses.

mod context;

use std::{
    fmt,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use landfall::BoxError;
use landfall_objects::{HttpSend, one_line};
use parking_lot::RwLock;
use reqsign_core::{Context, ProvideCredential, time::Timestamp};
use reqsign_google::{
    Credential, FileCredentialProvider, ServiceAccountTokenCredentialProvider, Token,
    VmMetadataCredentialProvider,
};
use tokio::sync::Mutex;

pub(crate) use self::context::Variables;
use self::context::{ProviderContext, metadata_host};

/// Roles limit what a token may do. A narrower scope would not permit to sign by the IAM service.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Tokens with less remaining lifetime are renewed. The metadata server has no newer one before it has 5 minutes.
const RENEW_BEFORE: Duration = Duration::from_secs(225);

/// Tokens with less remaining lifetime are not used, because the request has to arrive in time.
const USABLE_UNTIL: Duration = Duration::from_secs(15);

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenError {
    /// The problem, and what to do.
    pub(crate) message: String,
    /// The service of the tokens did not respond, or failed: another attempt may succeed.
    pub(crate) is_transient: bool,
    /// There are no credentials, as far as is known.
    pub(crate) is_absent: bool,
}

impl TokenError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_transient: false,
            is_absent: false,
        }
    }
}

/// Keeps a token until shortly before it expires, or until the service rejects it. One task renews it at a time.
pub(crate) struct Credentials {
    /// `None`: requests have no token.
    source: Option<Source>,
    current: RwLock<Option<Arc<Credential>>>,
    renewing: Mutex<()>,
}

enum Source {
    Google {
        file: Option<String>,
        context: ProviderContext,
    },
    Provider(Arc<dyn ProvideToken>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    pub(crate) fn new(
        source: CredentialSource,
        http: Arc<dyn HttpSend>,
        variables: Variables,
    ) -> Self {
        let google = |file| Source::Google {
            file,
            context: ProviderContext::new(http, variables),
        };
        Self {
            source: match source {
                CredentialSource::Standard => Some(google(None)),
                CredentialSource::File(file) => Some(google(Some(file))),
                CredentialSource::Provider(provider) => Some(Source::Provider(provider)),
                CredentialSource::Anonymous => None,
            },
            current: RwLock::default(),
            renewing: Mutex::default(),
        }
    }

    /// Returns credentials with a token; `None` if requests need none.
    ///
    /// # Cancel safety
    /// A dropped call renews nothing.
    pub(crate) async fn get(&self) -> Result<Option<Arc<Credential>>, TokenError> {
        let Some(source) = &self.source else {
            return Ok(None);
        };
        let current = self.current();
        if let Some(current) = &current
            && has_left(current, RENEW_BEFORE)
        {
            return Ok(Some(current.clone()));
        }
        let usable = current.filter(|current| has_left(current, USABLE_UNTIL));
        let _renewing = match (&usable, self.renewing.try_lock()) {
            (_, Ok(guard)) => guard,
            (Some(usable), Err(_)) => return Ok(Some(usable.clone())),
            (None, Err(_)) => self.renewing.lock().await,
        };
        if let Some(current) = self.current()
            && has_left(&current, RENEW_BEFORE)
        {
            return Ok(Some(current));
        }
        match source.load().await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *self.current.write() = Some(fresh.clone());
                Ok(Some(fresh))
            }
            Err(error) => match usable {
                Some(usable) => {
                    let error = error.message;
                    tracing::warn!(
                        error,
                        "failed to renew a Google access token that expires soon"
                    );
                    Ok(Some(usable))
                }
                None => Err(error),
            },
        }
    }

    /// Discards the token that the service rejected.
    pub(crate) fn invalidate(&self, rejected: &Arc<Credential>) {
        let mut current = self.current.write();
        current.take_if(|current| Arc::ptr_eq(current, rejected));
    }

    /// Returns credentials that can sign: with a key, or with the name of the account whose key the IAM service has.
    pub(crate) async fn for_signing(&self) -> Result<(Arc<Credential>, Context), TokenError> {
        let none = || TokenError::new("there are no credentials to sign with");
        let credential = self.get().await?.ok_or_else(none)?;
        let Some(Source::Google { file, context }) = &self.source else {
            return Err(TokenError::new("these credentials cannot sign"));
        };
        let reqsign = context.for_load().0;
        if credential.service_account.is_some() || credential.signer_email.is_some() {
            return Ok((credential, reqsign));
        }
        let email = match find_file(file.as_deref(), context) {
            None => context.account_email().await,
            Some((_, path)) => Err(format!("{path:?} names none")),
        };
        let email = email.map_err(|why| {
            TokenError::new(format!(
                "these credentials cannot sign, since they are not of a service account ({why}); use a key of a \
                 service account, or impersonate one"
            ))
        })?;
        let signing = Arc::new(Credential::clone(&credential).with_signer_email(email));
        // A token that another task has renewed meanwhile is kept.
        let mut current = self.current.write();
        if let Some(kept) = current.take_if(|kept| Arc::ptr_eq(kept, &credential)) {
            drop(kept);
            *current = Some(signing.clone());
        }
        Ok((signing, reqsign))
    }

    fn current(&self) -> Option<Arc<Credential>> {
        self.current.read().clone()
    }
}

fn has_left(credential: &Credential, min: Duration) -> bool {
    let expires = credential.token.as_ref().and_then(|token| token.expires_at);
    expires.is_none_or(|expires| expires.as_system_time() > SystemTime::now() + min)
}

impl Source {
    async fn load(&self) -> Result<Credential, TokenError> {
        match self {
            Self::Google { file, context } => load(file.as_deref(), context).await,
            Self::Provider(provider) => {
                let given = provider.token().await;
                let given = given.map_err(|error| TokenError::new(one_line(error.to_string())))?;
                let millis = |at: SystemTime| {
                    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
                    Timestamp::from_millisecond(since.as_millis().try_into().ok()?).ok()
                };
                let unreadable =
                    || TokenError::new("the expiry time of the token cannot be represented");
                let expires_at = given.expires.map(|at| millis(at).ok_or_else(unreadable));
                Ok(Credential::with_token(Token {
                    access_token: given.token,
                    expires_at: expires_at.transpose()?,
                }))
            }
        }
    }
}

/// Returns the file with credentials that decides, and the variable that names it.
fn find_file(
    file: Option<&str>,
    context: &ProviderContext,
) -> Option<(Option<&'static str>, String)> {
    if let Some(path) = file {
        return Some((None, path.to_owned()));
    }
    for variable in ["GCS_SERVICE_ACCOUNT_FILE", "GOOGLE_APPLICATION_CREDENTIALS"] {
        if let Some(path) = context.variable(variable) {
            return Some((Some(variable), path));
        }
    }
    let below = |variable, folder: &str| {
        let root = context.variable(variable)?;
        Some(format!(
            "{root}/{folder}application_default_credentials.json"
        ))
    };
    let home = if cfg!(windows) {
        below("APPDATA", "gcloud/")
    } else {
        below("HOME", ".config/gcloud/")
    };
    let path = below("CLOUDSDK_CONFIG", "").or(home)?;
    Path::new(&path).exists().then_some((None, path))
}

async fn load(file: Option<&str>, context: &ProviderContext) -> Result<Credential, TokenError> {
    let found = find_file(file, context);
    let (reqsign, progress) = context.for_load();
    let failed = |error: &reqsign_core::Error| TokenError {
        is_transient: progress.is_transient.load(Ordering::Relaxed),
        ..TokenError::new(sentence(error))
    };
    let (mut credential, place) = match found {
        Some((variable, path)) => {
            let place = match variable {
                Some(variable) => format!("{variable}: {path:?}"),
                None => format!("{path:?}"),
            };
            let provider = FileCredentialProvider::new(path).with_scope(SCOPE);
            let given = provider.provide_credential(&reqsign).await;
            let given = given.map_err(|error| failed(&error).at(&place))?;
            let none = || TokenError::new("contains no credentials").at(&place);
            (given.ok_or_else(none)?, place)
        }
        None => {
            let host = metadata_host(context);
            let place = format!("the metadata server {host}");
            let provider = VmMetadataCredentialProvider::new()
                .with_endpoint(host)
                .with_scope(SCOPE);
            let given = provider.provide_credential(&reqsign).await;
            let given = match given {
                Ok(Some(credential)) => Ok(credential),
                Ok(None) => Err("it has no token for this machine".to_owned()),
                Err(error) => Err(sentence(&error)),
            };
            match given {
                Ok(credential) => (credential, place),
                Err(why) => {
                    let error = TokenError::new(format!(
                        "found no Google credentials; set GCS_SERVICE_ACCOUNT_FILE or GOOGLE_APPLICATION_CREDENTIALS to \
                         a credential file, log in with `gcloud auth application-default login`, or run on Google \
                         Cloud with a service account ({place}: {why})"
                    ));
                    return Err(TokenError {
                        is_transient: progress.is_transient.load(Ordering::Relaxed),
                        is_absent: true,
                        ..error
                    });
                }
            }
        }
    };
    if credential.token.is_none()
        && let Some(account) = credential.service_account.clone()
    {
        let provider = ServiceAccountTokenCredentialProvider::new(account).with_scope(SCOPE);
        let given = provider.provide_credential(&reqsign).await;
        let given = given.map_err(|error| failed(&error).at(&place))?;
        credential.token = given.and_then(|given| given.token);
    }
    match credential.token {
        Some(_) => Ok(credential),
        None => Err(TokenError::new("gave no access token").at(&place)),
    }
}

impl TokenError {
    fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

/// Says in one line what is wrong, and what to do about it if that is known.
fn sentence(error: &reqsign_core::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let advice = if text.contains("invalid_grant") || text.contains("invalid_rapt") {
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
