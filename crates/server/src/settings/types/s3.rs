//! Settings of S3 storage and of leases.

use std::time::Duration;

use super::Secret;

/// Settings of S3 storage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct S3 {
    /// Bucket; `None` selects file storage, and the other fields are unused.
    pub bucket: Option<String>,
    /// Prefix of all object keys: empty, or ends with `/`.
    pub object_prefix: String,
    /// Key template below the prefix; `None` is the upload id.
    pub key: Option<String>,
    /// Endpoint URL, without a `/` at its end; `None` is Amazon's for the region.
    pub endpoint: Option<String>,
    /// Region; `None` takes it from the environment and the AWS configuration files.
    pub region: Option<String>,
    /// True if URLs are path-style; `None` depends on the endpoint.
    pub path_style: Option<bool>,
    /// Use Amazon's endpoints without TLS.
    pub disable_ssl: bool,
    /// Use transfer acceleration.
    pub accelerate: bool,
    /// Preferred part size in bytes.
    pub part_size: u64,
    /// Minimum size in bytes of a part that is not the last.
    pub min_part_size: u64,
    /// Maximum concurrent part uploads, for all uploads together.
    pub concurrent_parts: usize,
    /// Ignored; accepted for compatibility with tusd.
    pub max_buffered_parts: usize,
    /// Memory for parts in bytes, for all uploads together.
    pub memory: u64,
    /// Do not sign the content of parts.
    pub disable_content_hashes: bool,
    /// Log each S3 request.
    pub log_api_calls: bool,
    /// Downloads.
    pub download: S3Download,
    /// Format of new upload ids.
    pub upload_ids: UploadIds,
    /// Headers of finished objects.
    pub headers: S3Headers,
}

/// Settings of downloads from a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct S3Download {
    /// Redirect to a presigned URL instead of proxying the bytes.
    pub redirect: bool,
    /// Lifetime of the presigned URL.
    pub lifetime: Duration,
}

/// The format of upload ids in a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UploadIds {
    /// The object name, `+` and the id of the multipart upload, as in tusd.
    #[default]
    Tusd,
    /// The object name only.
    Plain,
}

/// Headers of finished objects, which a hook may override; `None` sends none.
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
    /// Server-side encryption: `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub sse: Option<String>,
    /// KMS key.
    pub sse_kms_key_id: Option<String>,
    /// Canned ACL.
    pub acl: Option<String>,
}

/// Settings of leases.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Leases {
    /// Lease backend.
    pub kind: LeaseKind,
    /// TTL of leases in a bucket, Redis or PostgreSQL; `None` is the backend's default.
    pub ttl: Option<Duration>,
}

/// The lease backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LeaseKind {
    /// Lock files for a directory, memory for a bucket.
    #[default]
    Auto,
    /// Memory, for a single node.
    Memory,
    /// Lock files in the directory, or objects in the bucket.
    Store,
    /// URL of a Redis or Valkey server.
    Redis(Secret),
    /// URL of a PostgreSQL server.
    Postgres(Secret),
}
