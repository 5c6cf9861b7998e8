use std::time::Duration;

use super::table::group;
use crate::settings::types::{Encryption, LeaseKind};
use crate::settings::{bucket, value};

const UPLOAD_IDS: &[(&str, bool)] = &[("tusd", false), ("plain", true)];

const PATH_STYLE: &[(&str, Option<bool>)] =
    &[("auto", None), ("true", Some(true)), ("false", Some(false))];

const DOWNLOAD: &[(&str, bool)] = &[("proxy", false), ("redirect", true)];

const ACLS: &[&str] = &[
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

group! {
    /// Settings of S3 storage.
    pub struct S3 at s3, with {
        /// Headers of finished objects.
        headers: S3Headers,
    };
    bucket: Option<String> = value::optional(bucket::bucket), "s3-bucket", Text("NAME"), "", Common
        => "Store uploads in this bucket instead of a directory. Credentials come from \
            AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile AWS_PROFILE, web identity, \
            the container or the instance.";
    object_prefix: String = bucket::object_prefix, "s3-object-prefix", Text("PREFIX"), ""
        => "Prefix of all object keys; a trailing slash is added.";
    key: Option<String> = value::optional(bucket::key), "s3-key", Text("TEMPLATE"), ""
        => "Key template of finished objects below the prefix, such as {date}/{id}/{filename}. \
            {date} is yyyy/mm/dd of the creation, {meta:NAME} a value of the upload's metadata. \
            Not set: {id}.";
    endpoint: Option<String> = value::optional(bucket::endpoint),
        "s3-endpoint", Text("URL"), "", Common
        => "Endpoint of an S3-compatible service. For example https://s3.example.com. Not set: Amazon \
            S3.";
    region: Option<String> = value::optional(bucket::word), "s3-region", Text("REGION"), ""
        => "Region of the bucket. Not set: AWS_REGION, the region of the profile, or us-east-1.";
    path_style: Option<bool> = |v| value::choice(v, PATH_STYLE),
        "s3-path-style", Text("auto|true|false"), "auto"
        => "Bucket in the URL path (true) or in the host name (false). auto: in the path with \
            --s3-endpoint, otherwise in the host name.";
    disable_ssl: bool = value::boolean, "s3-disable-ssl", Switch, "false"
        => "Use Amazon's endpoints without TLS. For others, the scheme of --s3-endpoint decides.";
    accelerate: bool = value::boolean, "s3-transfer-acceleration", Switch, "false"
        => "Use S3 transfer acceleration, which the bucket must allow.";
    part_size: u64 = bucket::part_size, "s3-part-size", Size, "8MiB"
        => "Preferred part size (tusd: 50MiB). Uploads too long for 10,000 parts of this size use \
            larger ones.";
    min_part_size: u64 = bucket::part_size, "s3-min-part-size", Size, "5MiB"
        => "Minimum size that the service accepts for a part that is not the last.";
    concurrent_parts: usize = value::count, "s3-concurrent-part-uploads", Number("COUNT"), "10"
        => "Maximum concurrent part uploads, for all uploads together.";
    disable_content_hashes: bool = value::boolean, "s3-disable-content-hashes", Switch, "false"
        => "Do not sign the content of parts. This saves a SHA-256 of each byte, but without TLS \
            nothing protects the content on its way to the service.";
    log_api_calls: bool = value::boolean, "s3-log-api-calls", Switch, "false"
        => "Log each S3 request, at any --log-level.";
    plain_ids: bool = |v| value::choice(v, UPLOAD_IDS), "s3-upload-ids", Text("tusd|plain"), "tusd"
        => "Format of new upload ids: object name, plus sign and multipart upload id, so that tusd \
            can resume them (tusd), or the object name only (plain). Both are accepted.";
    redirects: bool = |v| value::choice(v, DOWNLOAD), "s3-download", Text("proxy|redirect"), "proxy"
        => "Respond to GET with the bytes (proxy), or with a redirect to a presigned URL, valid for \
            15 minutes (redirect).";
}

group! {
    /// Headers of finished objects, which a hook may override; `None` sends none.
    pub struct S3Headers at s3.headers;
    content_type: Option<String> = value::optional(bucket::content_type),
        "s3-content-type", Text("TYPE"), ""
        => "Content-Type of all objects. Not set: filetype of the upload's metadata.";
    content_disposition: Option<String> = value::optional(bucket::content_disposition),
        "s3-content-disposition", Text("VALUE"), ""
        => "Content-Disposition of objects.";
    cache_control: Option<String> = value::optional(bucket::cache_control),
        "s3-cache-control", Text("VALUE"), ""
        => "Cache-Control of objects.";
    storage_class: Option<String> = value::optional(bucket::word),
        "s3-storage-class", Text("CLASS"), ""
        => "Storage class of objects, such as STANDARD_IA.";
    tags: Vec<(String, String)> = bucket::tags, "s3-tags", List("KEY=VALUE,..."), ""
        => "Tags of objects, at most 10.";
    sse: Option<Encryption> = value::optional(bucket::encryption),
        "s3-sse", Text("AES256|aws:kms[=KEY]|aws:kms:dsse[=KEY]"), "", Protects
        => "Server-side encryption of objects, by the KMS key with this id or ARN. Not set: the default of the bucket.";
    acl: Option<String> = acl, "s3-acl", Text("ACL"), "", Protects
        => "Canned ACL of objects, such as bucket-owner-full-control. Not set: none is sent, as \
            buckets without ACLs require.";
}

group! {
    /// Settings of leases.
    pub struct Leases at leases;
    kind: LeaseKind = bucket::lease, "lease", Text("auto|memory|store|URL"), "auto", SecretInUrl
        => "Lease backend: memory (single node), store (lock files or bucket objects), a redis://, \
            rediss:// (TLS) or postgres:// URL. auto: store for a directory, memory for a bucket.";
    ttl: Option<Duration> = bucket::lease_ttl, "lease-ttl", Time, "0"
        => "Time after which the leases of a dead node expire, in a bucket, Redis or PostgreSQL. \
            All nodes must use the same. 0: 5s in Redis and PostgreSQL, 15s in a bucket.";
}

pub(super) fn acl(text: &str) -> Result<Option<String>, String> {
    value::or_none(text, |text| named(text, ACLS))
}

fn named(text: &str, known: &[&str]) -> Result<String, String> {
    let known: Vec<_> = known.iter().map(|name| (*name, *name)).collect();
    value::choice(text, &known).map(str::to_owned)
}
