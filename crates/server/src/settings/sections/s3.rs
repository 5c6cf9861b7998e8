//! The sections about S3 storage and about leases.

use crate::settings::bucket;
use crate::settings::table::{Section, section};
use crate::settings::types::UploadIds;
use crate::settings::value;

const UPLOAD_IDS: &[(&str, UploadIds)] = &[("tusd", UploadIds::Tusd), ("plain", UploadIds::Plain)];

const PATH_STYLE: &[(&str, Option<bool>)] =
    &[("auto", None), ("true", Some(true)), ("false", Some(false))];

/// The value is whether to redirect.
const DOWNLOAD: &[(&str, bool)] = &[("proxy", false), ("redirect", true)];

const SSE: &[(&str, &str)] = &[
    ("AES256", "AES256"),
    ("aws:kms", "aws:kms"),
    ("aws:kms:dsse", "aws:kms:dsse"),
];

/// The canned ACLs.
const ACLS: &[(&str, &str)] = &[
    ("private", "private"),
    ("public-read", "public-read"),
    ("public-read-write", "public-read-write"),
    ("authenticated-read", "authenticated-read"),
    ("aws-exec-read", "aws-exec-read"),
    ("bucket-owner-read", "bucket-owner-read"),
    ("bucket-owner-full-control", "bucket-owner-full-control"),
];

pub(super) const S3: Section = section! { "S3 storage", [Serve, Sweep, DoctorS3, SetCors];
    "s3-bucket", Text("NAME"), "", s3.bucket = |v| value::or_none(v, bucket::bucket), Common
        => "Store uploads in this bucket instead of a directory. Credentials come from \
            AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile AWS_PROFILE, web identity, \
            the container or the instance.";
    "s3-object-prefix", Text("PREFIX"), "", s3.object_prefix = bucket::object_prefix
        => "Prefix of all object keys; a trailing slash is added.";
    "s3-key", Text("TEMPLATE"), "", s3.key = |v| value::or_none(v, bucket::key)
        => "Key template of finished objects below the prefix, such as {date}/{id}/{filename}. \
            {date} is yyyy/mm/dd of the creation, {meta:NAME} a value of the upload's metadata. \
            Not set: {id}.";
    "s3-endpoint", Text("URL"), "", s3.endpoint = |v| value::or_none(v, bucket::endpoint), Common
        => "Endpoint of an S3-compatible service, such as https://s3.example.com. Not set: Amazon \
            S3.";
    "s3-region", Text("REGION"), "", s3.region = |v| value::or_none(v, bucket::word)
        => "Region of the bucket. Not set: AWS_REGION, the region of the profile, or us-east-1.";
    "s3-path-style", Text("auto|true|false"), "auto",
        s3.path_style = |v| value::choice(v, PATH_STYLE)
        => "Bucket in the URL path (true) or in the host name (false). auto: in the path with \
            --s3-endpoint, otherwise in the host name.";
    "s3-disable-ssl", Switch, "false", s3.disable_ssl = value::boolean
        => "Use Amazon's endpoints without TLS. For others, the scheme of --s3-endpoint decides.";
    "s3-transfer-acceleration", Switch, "false", s3.accelerate = value::boolean
        => "Use S3 transfer acceleration, which the bucket must allow.";
    "s3-part-size", Size, "8MiB", s3.part_size = bucket::part_size
        => "Preferred part size (tusd: 50MiB). Uploads too long for 10,000 parts of this size use \
            larger ones.";
    "s3-min-part-size", Size, "5MiB", s3.min_part_size = bucket::part_size
        => "Minimum size that the service accepts for a part that is not the last.";
    "s3-concurrent-part-uploads", Number("COUNT"), "10", s3.concurrent_parts = value::count
        => "Maximum concurrent part uploads, for all uploads together.";
    "s3-memory", Size, "256MiB", s3.memory = |v| value::size_within(v, 16 << 20, 1 << 40)
        => "Memory for parts, for all uploads together. When it is full, clients are slowed down \
            (backpressure); nothing is written to a local disk. It limits uploads to 5,000 times \
            this size.";
    "s3-max-buffered-parts", Number("COUNT"), "20", s3.max_buffered_parts = value::number
        => "Accepted for compatibility with tusd, without effect. Parts are never buffered on \
            disk, and --s3-memory limits those in memory.";
    "s3-disable-content-hashes", Switch, "false", s3.disable_content_hashes = value::boolean
        => "Do not sign the content of parts. This saves a SHA-256 of each byte, but without TLS \
            nothing protects the content on its way to the service.";
    "s3-log-api-calls", Switch, "false", s3.log_api_calls = value::boolean
        => "Log each S3 request, at any --log-level.";
    "s3-upload-ids", Text("tusd|plain"), "tusd", s3.upload_ids = |v| value::choice(v, UPLOAD_IDS)
        => "Format of new upload ids: object name, plus sign and multipart upload id, so that tusd \
            can resume them (tusd), or the object name only (plain). Both are accepted.";
    "s3-download", Text("proxy|redirect"), "proxy",
        s3.download.redirect = |v| value::choice(v, DOWNLOAD)
        => "Respond to GET with the bytes (proxy), or with a redirect to a presigned URL \
            (redirect).";
    "s3-redirect-lifetime", Time, "15m", s3.download.lifetime = bucket::url_lifetime
        => "Lifetime of that presigned URL.";
    "s3-content-type", Text("TYPE"), "",
        s3.headers.content_type = |v| value::or_none(v, bucket::content_type)
        => "Content-Type of all objects. Not set: filetype of the upload's metadata.";
    "s3-content-disposition", Text("VALUE"), "",
        s3.headers.content_disposition = |v| value::or_none(v, bucket::content_disposition)
        => "Content-Disposition of objects.";
    "s3-cache-control", Text("VALUE"), "",
        s3.headers.cache_control = |v| value::or_none(v, bucket::cache_control)
        => "Cache-Control of objects.";
    "s3-storage-class", Text("CLASS"), "",
        s3.headers.storage_class = |v| value::or_none(v, bucket::word)
        => "Storage class of objects, such as STANDARD_IA.";
    "s3-tags", List("KEY=VALUE,..."), "", s3.headers.tags = bucket::tags
        => "Tags of objects, at most 10.";
    "s3-sse", Text("AES256|aws:kms|aws:kms:dsse"), "",
        s3.headers.sse = |v| value::or_none(v, |v| named(v, SSE)), Protects
        => "Server-side encryption of objects. Not set: the default of the bucket.";
    "s3-sse-kms-key-id", Text("KEY"), "",
        s3.headers.sse_kms_key_id = |v| value::or_none(v, bucket::kms_key), Protects
        => "Id or ARN of the KMS key. Implies aws:kms, unless --s3-sse is aws:kms:dsse.";
    "s3-acl", Text("ACL"), "", s3.headers.acl = acl, Protects
        => "Canned ACL of objects, such as bucket-owner-full-control. Not set: none is sent, as \
            buckets without ACLs require.";
};

pub(super) const LEASES: Section = section! { "Leases", [Serve, Sweep, DoctorS3];
    "lease", Text("auto|memory|store|URL"), "auto", leases.kind = bucket::lease, SecretInUrl
        => "Lease backend: memory (single node), store (lock files or bucket objects), a redis://, \
            rediss:// (TLS) or postgres:// URL. auto: store for a directory, memory for a bucket.";
    "lease-ttl", Time, "0", leases.ttl = bucket::lease_ttl
        => "Time after which the leases of a dead node expire, in a bucket, Redis or PostgreSQL. \
            All nodes must use the same. 0: 5s in Redis and PostgreSQL, 15s in a bucket.";
};

/// Parses a canned ACL.
pub(super) fn acl(text: &str) -> Result<Option<String>, String> {
    value::or_none(text, |text| named(text, ACLS))
}

fn named(text: &str, known: &[(&str, &'static str)]) -> Result<String, String> {
    value::choice(text, known).map(str::to_owned)
}
