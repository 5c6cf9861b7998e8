//! How direct uploads behave.

use std::{sync::Arc, time::Duration};

use landfall_grants::policy::Policy;
use landfall_s3::{S3Options, client::Client};

use crate::DirectStats;

/// What callers' own keys begin with, below the prefix of all keys: those of the signer mode and of
/// temporary credentials.
pub const OWN: &str = "own/";

/// How small files are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Small {
    /// By a form with a signed policy, which bounds the size.
    #[default]
    Post,
    /// By a presigned PUT, for services without forms (Cloudflare R2). Uppy 6 can't.
    Put,
}

/// What direct uploads work with, and how they behave.
#[derive(Clone)]
#[non_exhaustive]
pub struct DirectSettings {
    /// Talks to the service.
    pub client: Client,
    /// Signs for browsers, which may know the service under another name.
    pub signer: Client,
    /// The bucket, where keys begin (`object_prefix`, `key_template`), what objects are given
    /// (`headers`), and whether PUTs are signed with `If-None-Match: *`, so that they cannot replace an
    /// object (`conditional_writes`). The rest of it is not used.
    pub objects: S3Options,
    /// What callers may ask for: all must agree, in this order.
    pub policies: Vec<Arc<dyn Policy>>,
    /// What public addresses of objects begin with, if not with that of the bucket.
    pub public_url: Option<String>,
    /// How small files are sent, when the client leaves that to the server.
    pub small: Small,
    /// For how long a PUT of `sign_s3` is signed.
    pub put_lifetime: Duration,
    /// For how long everything else is signed: Uppy 6 never asks for another signature of a part.
    pub lifetime: Duration,
    /// After how long without news an unfinished one is given up.
    pub patience: Duration,
    /// How often an upload is checked whose end its client or the bucket reports. Others are checked
    /// after a twelfth of it at first, then more and more rarely.
    pub interval: Duration,
    /// Whether notifications of the bucket report what has arrived.
    pub is_notified: bool,
    /// Hands out temporary credentials, confined to the caller's own keys.
    pub sts: Option<StsSettings>,
    /// Signs whatever a caller's client asks for on its own keys (Uppy 6's `signRequest`).
    pub sign_requests: bool,
    /// Where it counts what it does.
    pub stats: Arc<DirectStats>,
}

/// Temporary credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsSettings {
    /// The service; AWS's own in the region if not set.
    pub endpoint: Option<String>,
    /// The ARN of the role that is assumed for each caller. Without one the service is asked for
    /// federation tokens, which AWS gives only to the long-term keys of a user.
    pub role: Option<String>,
    /// How long they are good for: on AWS 15 minutes to 36 hours, with a role 12 hours.
    pub lifetime: Duration,
}

/// What is begun before a signature ends may take so much longer to arrive.
const LATE: Duration = Duration::from_secs(60 * 60);

impl DirectSettings {
    /// The usual settings for a bucket that `client` can reach.
    #[must_use]
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        let mut objects = S3Options::new(bucket);
        objects.key_template = Some("uploads/{id}/{filename}".into());
        Self {
            signer: client.clone(),
            client,
            objects,
            policies: Vec::new(),
            public_url: None,
            small: Small::default(),
            put_lifetime: Duration::from_secs(60),
            lifetime: Duration::from_secs(60 * 60),
            patience: Duration::from_secs(24 * 60 * 60),
            interval: Duration::from_secs(60),
            is_notified: false,
            sts: None,
            sign_requests: true,
            stats: Arc::default(),
        }
    }

    /// How long after its client was last active an object may still arrive by what was signed then.
    pub(crate) fn may_arrive_for(&self) -> Duration {
        self.lifetime.max(self.put_lifetime) + LATE
    }
}

impl std::fmt::Debug for DirectSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectSettings")
            .field("bucket", &self.objects.bucket)
            .field("small", &self.small)
            .finish_non_exhaustive()
    }
}
