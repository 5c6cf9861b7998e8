//! Settings of grants and of the dashboard.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// Settings of grants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// Serve the grants API; [`required`](Self::required) implies it.
    pub enabled: bool,
    /// Reject uploads without an upload token.
    pub required: bool,
    /// Path of the API: begins with `/`, does not end with it.
    pub path: String,
    /// Format of the API.
    pub api: GrantsApi,
    /// Time within which the upload of a grant must be created.
    pub valid_for: Duration,
    /// Time for which finished jobs are listed.
    pub retention: Duration,
    /// Limits of every subject.
    pub limits: GrantLimits,
    /// Time after which quotas restart; `None` is never.
    pub quota_period: Option<Duration>,
    /// Reject uploads of another type than was granted.
    pub enforce_type: bool,
    /// Authentication by JSON web tokens.
    pub jwt: Jwt,
    /// Authentication by the application.
    pub forward_auth: ForwardAuth,
    /// Origins such as `https://example.com` whose pages may send requests with cookies.
    pub allowed_origins: Vec<String>,
}

/// The format of requests and responses of the grants API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrantsApi {
    /// Landfall's own.
    #[default]
    Landfall,
    /// That of the Laravel package, for its front end.
    Laravel,
}

/// Limits of a subject; `None` and empty lists set no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantLimits {
    /// Maximum bytes of an upload.
    pub max_size: Option<u64>,
    /// Allowed media types: `image/png`, `image/*` or `*/*`.
    pub allowed_types: Vec<String>,
    /// Maximum granted and running uploads.
    pub max_active: Option<u32>,
    /// Maximum grants within a time.
    pub rate_limit: Option<(u32, Duration)>,
    /// Maximum bytes of all uploads.
    pub quota: Option<u64>,
    /// Reject grants for uploads of unknown size.
    pub require_size: bool,
}

/// Settings of JSON web tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Jwt {
    /// Keys that sign the tokens; `None` accepts no token.
    pub keys: Option<JwtKeys>,
    /// Accepted `iss` values; empty: not checked.
    pub issuers: Vec<String>,
    /// Accepted `aud` values; empty: not checked.
    pub audiences: Vec<String>,
    /// Claim with the subject.
    pub subject: String,
    /// Accepted signature algorithms.
    pub algorithms: Vec<String>,
    /// Claim with limits of the subject.
    pub limits: String,
}

/// The location of the keys of JSON web tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum JwtKeys {
    /// A key set (JWKS) at an `http` or `https` URL.
    Url(Secret),
    /// A file with a key set, or with a public key in PEM.
    File(PathBuf),
}

/// Settings of forward auth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForwardAuth {
    /// URL of the application; `None` disables forward auth.
    pub url: Option<Secret>,
    /// Time for which a response is cached.
    pub cache: Duration,
}

/// Settings of the dashboard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admin {
    /// Key to log in with.
    pub key: Option<Secret>,
    /// File with the key.
    pub key_file: Option<PathBuf>,
    /// Path of the dashboard: begins with `/`, does not end with it.
    pub path: String,
}

impl Admin {
    /// Returns whether the dashboard is enabled.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.key.is_some() || self.key_file.is_some()
    }
}
