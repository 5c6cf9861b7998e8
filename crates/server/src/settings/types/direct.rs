//! What the settings of direct uploads mean.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// Uploads that clients send straight to the bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Direct {
    /// Whether there are any; they need a bucket, and [grants](super::Grants).
    pub enabled: bool,
    /// What the paths of their API begin with: nothing, or `/` and more without one at the end.
    pub path: String,
    /// The service's URL for browsers, without a `/` at its end; `None` is the one that the server uses.
    pub endpoint: Option<String>,
    /// Where objects go below the prefix of all keys.
    pub key: String,
    /// One of the ACLs that have a name; `None` is that of all objects.
    pub acl: Option<String>,
    /// What public addresses of objects begin with, without a `/` at its end; `None` makes them from the
    /// service's URL and the bucket.
    pub public_url: Option<String>,
    /// How small files are sent when the client leaves that to the server.
    pub small: SmallFiles,
    /// Let a signed PUT replace the object of its upload.
    pub overwrite: bool,
    /// For how long a PUT of a whole file may be begun.
    pub put_lifetime: Duration,
    /// For how long everything else that is signed may be begun.
    pub lifetime: Duration,
    /// After how long without news an unfinished one is given up; `None` as [`Settings`] says.
    ///
    /// [`Settings`]: super::Settings::direct_idle_timeout
    pub patience: Option<Duration>,
    /// How often one that is under way is looked at.
    pub poll: Duration,
    /// Temporary credentials for clients.
    pub sts: Sts,
    /// Sign what clients ask for on their callers' own keys.
    pub signer: bool,
    /// What the bucket's notifications are known by.
    pub events_secret: Option<Secret>,
    /// A file with that.
    pub events_secret_file: Option<PathBuf>,
}

impl Direct {
    /// What keys begin with before anything of the upload is in them, below the prefix of all keys: by
    /// that they are told from keys of tus uploads.
    #[must_use]
    pub fn beginning(&self) -> &str {
        self.key.split('{').next().unwrap_or_default()
    }
}

/// How small files are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmallFiles {
    /// By a form with a signed policy.
    #[default]
    Post,
    /// By a presigned PUT.
    Put,
}

/// Temporary credentials for clients that sign for themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sts {
    /// Whether there are any.
    pub enabled: bool,
    /// The token service's URL; `None` is Amazon's.
    pub endpoint: Option<String>,
    /// The ARN of the role to assume; `None` requests federation tokens.
    pub role: Option<String>,
    /// How long they are good for.
    pub lifetime: Duration,
}
