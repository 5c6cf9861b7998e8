//! Settings of direct uploads.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// Settings of direct uploads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Direct {
    /// Serve the API of direct uploads; needs a bucket and [grants](super::Grants).
    pub enabled: bool,
    /// Prefix of the API's paths: empty, or begins with `/` and does not end with it.
    pub path: String,
    /// S3 endpoint for browsers, without a `/` at its end; `None` is that of the server.
    pub endpoint: Option<String>,
    /// Key template below the object prefix.
    pub key: String,
    /// Canned ACL; `None` is that of all objects.
    pub acl: Option<String>,
    /// Prefix of public object URLs, without a `/` at its end; `None` is the URL of the bucket.
    pub public_url: Option<String>,
    /// Transfer mode of small files when the client does not choose.
    pub small_files: SmallFiles,
    /// Allow a presigned PUT to replace its object.
    pub overwrite: bool,
    /// Lifetime of a presigned PUT of a whole file.
    pub put_lifetime: Duration,
    /// Lifetime of all other presigned requests.
    pub url_lifetime: Duration,
    /// Time without activity after which an upload expires; see [`Settings::direct_idle_timeout`].
    ///
    /// [`Settings::direct_idle_timeout`]: super::Settings::direct_idle_timeout
    pub idle_timeout: Option<Duration>,
    /// Interval of checks of a running upload.
    pub poll_interval: Duration,
    /// Temporary credentials for clients.
    pub sts: Sts,
    /// Sign single requests for keys below the principal's prefix.
    pub sign_requests: bool,
    /// Secret of bucket notifications.
    pub notifications_secret: Option<Secret>,
    /// File with that secret.
    pub notifications_secret_file: Option<PathBuf>,
}

impl Direct {
    /// Returns the literal start of all keys, which distinguishes them from keys of tus uploads.
    #[must_use]
    pub fn key_prefix(&self) -> &str {
        self.key.split('{').next().unwrap_or_default()
    }
}

/// The transfer mode of small files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmallFiles {
    /// A form with a POST policy.
    #[default]
    Post,
    /// A presigned PUT.
    Put,
}

/// Settings of temporary credentials for clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sts {
    /// Issue them.
    pub enabled: bool,
    /// URL of the token service; `None` is Amazon's.
    pub endpoint: Option<String>,
    /// ARN of the role to assume; `None` requests federation tokens.
    pub role: Option<String>,
    /// Lifetime of the credentials.
    pub lifetime: Duration,
}
