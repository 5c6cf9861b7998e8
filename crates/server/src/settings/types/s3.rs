//! What the settings of S3 storage and of leases mean.

use std::time::Duration;

use super::Secret;

/// Uploads in a bucket of S3 or of a service that speaks its protocol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct S3 {
    /// The bucket; `None` keeps uploads in a directory, and the rest of this struct is unused.
    pub bucket: Option<String>,
    /// What all keys begin with: empty, or ends with `/`.
    pub object_prefix: String,
    /// Where objects go below the prefix, instead of their id; checked by the store.
    pub key: Option<String>,
    /// The service's URL, without a `/` at its end; `None` is Amazon's for the region.
    pub endpoint: Option<String>,
    /// The region; `None` takes it from the environment and the AWS configuration files.
    pub region: Option<String>,
    /// Whether the bucket stands in the URL's path rather than before its host; `None` lets the
    /// endpoint decide.
    pub path_style: Option<bool>,
    /// Speak HTTP without TLS to Amazon's endpoints; an endpoint of one's own says so itself.
    pub disable_ssl: bool,
    /// Use Amazon's accelerated endpoints.
    pub accelerate: bool,
    /// The size a part has if the upload's length allows it, in bytes.
    pub part_size: u64,
    /// The least a part but the last may have, in bytes.
    pub min_part_size: u64,
    /// Parts on their way to the service at one time, all uploads together.
    pub concurrent_parts: usize,
    /// Parts of one request that may wait in memory for their turn.
    pub max_buffered_parts: usize,
    /// Memory for parts, all uploads together, in bytes.
    pub memory: u64,
    /// Don't sign the content of parts.
    pub disable_content_hashes: bool,
    /// Log each call to the service.
    pub log_api_calls: bool,
    /// How uploads are read back.
    pub download: S3Download,
    /// What the ids of new uploads look like.
    pub upload_ids: UploadIds,
    /// Headers of finished objects.
    pub headers: S3Headers,
}

/// How uploads in a bucket are read back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct S3Download {
    /// Send readers to the service itself, instead of passing the bytes on.
    pub redirect: bool,
    /// How long such a URL works.
    pub lifetime: Duration,
}

/// What the ids of new uploads in a bucket look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UploadIds {
    /// The object's name, `+`, and the id of the multipart upload, as tusd has them.
    #[default]
    Tusd,
    /// The object's name alone.
    Plain,
}

/// Headers of finished objects, unless a hook says otherwise; `None` sends none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct S3Headers {
    /// `Content-Type`; `None` takes it from the upload.
    pub content_type: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// Storage class.
    pub storage_class: Option<String>,
    /// Tags, by name.
    pub tags: Vec<(String, String)>,
    /// Encryption by the service: `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub sse: Option<String>,
    /// The key for `aws:kms`.
    pub sse_kms_key_id: Option<String>,
    /// One of the ACLs that have a name.
    pub acl: Option<String>,
}

/// Who sees to it that an upload has one writer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Leases {
    /// Where leases are kept.
    pub kind: LeaseKind,
    /// How long a lease outlives a process that died with it, where leases have a lifetime; `None`
    /// is as long as suits the place.
    pub ttl: Option<Duration>,
}

/// Where leases are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LeaseKind {
    /// The directory's locks, or this process's memory for a bucket.
    #[default]
    Auto,
    /// This process's memory: it must be the only one.
    Memory,
    /// Where the uploads are: the directory's locks, or objects in the bucket.
    Store,
    /// A Redis or Valkey server, by its URL.
    Redis(Secret),
    /// A PostgreSQL server, by its URL.
    Postgres(Secret),
}
