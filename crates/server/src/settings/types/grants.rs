//! What the settings of grants and of the dashboard mean.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// Uploads that are asked for before they are made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// Whether they can be asked for at all; [`required`](Self::required) implies it.
    pub enabled: bool,
    /// Whether no upload is created without.
    pub required: bool,
    /// The path to ask at: begins with `/`, doesn't end with it.
    pub path: String,
    /// What the answers look like.
    pub style: GrantStyle,
    /// How long a grant may wait for its upload to be created.
    pub valid_for: Duration,
    /// How long jobs that have ended are listed.
    pub keep: Duration,
    /// What holds for every caller.
    pub limits: GrantLimits,
    /// Counts quotas anew in each such time; `None` is never.
    pub quota_period: Option<Duration>,
    /// Whether an upload must have the type that was granted.
    pub check_type: bool,
    /// Callers with a JSON web token.
    pub jwt: Jwt,
    /// Callers whom the application knows.
    pub authorize: Authorize,
    /// The origins, such as `https://example.com`, whose pages may ask with a cookie.
    pub origins: Vec<String>,
}

/// What the answers to those who ask look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrantStyle {
    /// Landfall's own.
    #[default]
    Landfall,
    /// Shapes and status codes of the Laravel package, for its front end.
    Package,
}

/// What may be asked for; `None` and empty lists set no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantLimits {
    /// The most bytes of one upload.
    pub max_size: Option<u64>,
    /// The types that are welcome, as `image/png`, `image/*` or `*/*`.
    pub types: Vec<String>,
    /// The most uploads of one caller that are asked for or under way.
    pub active: Option<u32>,
    /// How many one caller may ask for in which time.
    pub rate: Option<(u32, Duration)>,
    /// The most bytes of one caller.
    pub quota: Option<u64>,
    /// Whether the size must be known beforehand.
    pub size_required: bool,
}

/// Callers with a JSON web token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Jwt {
    /// The URL or the file of the keys that sign them; `None` takes none.
    pub keys: Option<JwtKeys>,
    /// The issuers of whom they must name one; nobody looks if there is none.
    pub issuers: Vec<String>,
    /// The audiences of which they must name one; nobody looks if there is none.
    pub audiences: Vec<String>,
    /// The claim that says who the caller is.
    pub subject: String,
    /// The algorithms that are welcome.
    pub algorithms: Vec<String>,
    /// The claim with the caller's own limits.
    pub limits: String,
}

/// Where keys for JSON web tokens are.
#[derive(Clone, Debug, PartialEq)]
pub enum JwtKeys {
    /// A key set (JWKS) at an `http` or `https` URL.
    Url(Secret),
    /// A file with a key set or with a public key in PEM.
    File(PathBuf),
}

/// Callers whom the application knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Authorize {
    /// The application's URL that is asked; `None` asks none.
    pub url: Option<Secret>,
    /// How long an answer counts.
    pub cache: Duration,
}

/// The dashboard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admin {
    /// The key to it.
    pub key: Option<Secret>,
    /// A file with the key.
    pub key_file: Option<PathBuf>,
    /// The path it is at: begins with `/`, doesn't end with it.
    pub path: String,
}

impl Admin {
    /// Whether there is a dashboard.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.key.is_some() || self.key_file.is_some()
    }
}
