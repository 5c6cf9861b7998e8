//! Options and counters of direct uploads.
//!
//! `arrival_window` bounds the time in which data can arrive by an earlier signature. The sweeper must not forget a
//! removed upload with such signatures before it has passed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use landfall_objects::StoreOptions;
use landfall_state::queue::policy::Policy;

use crate::{DirectBucket, TransferMode};

/// Prefix, after that of all keys, of keys that clients choose: in presign mode and with temporary
/// credentials.
pub const CLIENT_KEY_PREFIX: &str = "own/";

/// The transfer mode of small files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SmallFiles {
    /// A form with a signed POST policy, which limits the size.
    #[default]
    Post,
    /// A presigned PUT, for services without POST policies (Cloudflare R2), and always for other clouds than S3. Uppy 6
    /// cannot use it.
    Put,
}

/// Settings of direct uploads.
#[derive(Clone)]
#[non_exhaustive]
pub struct DirectSettings {
    /// The service with the bucket.
    pub bucket: Arc<dyn DirectBucket>,
    /// The name of the bucket, its keys (`object_prefix`, `key_template`), the object headers, and
    /// `conditional_writes`: whether PUTs are signed with a condition (`If-None-Match: *`) and cannot replace an
    /// object. The other options are unused.
    pub objects: StoreOptions,
    /// The policies that authorize uploads, evaluated in this order; all must allow.
    pub policies: Vec<Arc<dyn Policy>>,
    /// Base of the public URLs of objects, if not that of the bucket.
    pub public_url: Option<String>,
    /// The transfer mode of small files, if the client leaves it to the server.
    pub small_files: SmallFiles,
    /// Lifetime of all signatures but that of a PUT of `/api/sign`, one minute. Uppy 6 never renews the signature of a part.
    pub url_lifetime: Duration,
    /// Time without activity after which an unfinished upload expires.
    pub idle_timeout: Duration,
    /// Interval of checks if the client or the bucket reports the completion. Otherwise the first
    /// check is after a twelfth of it, and each further one later.
    pub check_interval: Duration,
    /// Whether bucket notifications report new objects.
    pub has_notifications: bool,
    /// Settings for temporary credentials; `None` disables them.
    pub sts: Option<StsSettings>,
    /// The counters.
    pub stats: Arc<DirectStats>,
}

/// Settings for temporary credentials, which are limited to the keys of one principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsSettings {
    /// The token service; that of AWS in the region if not set.
    pub endpoint: Option<String>,
    /// ARN of the role to assume. Without a role, federation tokens are requested, which AWS grants
    /// only to the long-term keys of a user.
    pub role: Option<String>,
    /// Lifetime: on AWS 15 minutes to 36 hours, with a role 12 hours.
    pub lifetime: Duration,
}

/// Of a PUT of `/api/sign`.
pub(crate) const PUT_LIFETIME: Duration = Duration::from_secs(60);
/// A transfer may start before its signature expires and last this much longer.
const ARRIVAL_GRACE: Duration = Duration::from_secs(60 * 60);

impl DirectSettings {
    /// Creates default settings for the bucket of a name.
    #[must_use]
    pub fn new(bucket: Arc<dyn DirectBucket>, name: impl Into<String>) -> Self {
        let mut objects = StoreOptions::new(name);
        objects.key_template = Some("uploads/{id}/{filename}".into());
        objects.conditional_writes = bucket.rules().creates_only;
        Self {
            bucket,
            objects,
            policies: Vec::new(),
            public_url: None,
            small_files: SmallFiles::default(),
            url_lifetime: Duration::from_secs(60 * 60),
            idle_timeout: Duration::from_secs(24 * 60 * 60),
            check_interval: Duration::from_secs(60),
            has_notifications: false,
            sts: None,
            stats: Arc::default(),
        }
    }

    /// After the client's last activity, an object can arrive by an earlier signature.
    pub(crate) fn arrival_window(&self, mode: TransferMode) -> Duration {
        let window = self.url_lifetime.max(PUT_LIFETIME) + ARRIVAL_GRACE;
        match mode {
            TransferMode::Resumable => window + self.bucket.rules().session_lifetime,
            _ => window,
        }
    }
}

impl std::fmt::Debug for DirectSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectSettings")
            .field("bucket", &self.bucket)
            .field("name", &self.objects.bucket)
            .field("small", &self.small_files)
            .finish_non_exhaustive()
    }
}

/// Counters; see [`DirectSettings::stats`](crate::DirectSettings::stats).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct DirectStats {
    /// Uploads that were created.
    pub opened: AtomicU64,
    /// Uploads that a policy, a limit or a hook rejected.
    pub rejected: AtomicU64,
    /// Uploads that were completed.
    pub completed: AtomicU64,
    /// Uploads that ended because the object was invalid, or a completion hook denied it.
    pub failed: AtomicU64,
    /// Uploads that the client or the application cancelled.
    pub cancelled: AtomicU64,
    /// Uploads that expired without activity.
    pub expired: AtomicU64,
    /// Presigned URLs of parts.
    pub parts: AtomicU64,
    /// Passes of the sweeper.
    pub sweeps: AtomicU64,
    /// Checks of the sweeper.
    pub checks: AtomicU64,
    /// Checks that failed.
    pub check_failures: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
