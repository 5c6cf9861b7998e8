//! The table of settings of the bucket, of the headers of its objects, and of leases for any storage.
//!
//! Credentials are not settings: they come from AWS's variables, profiles and metadata services.

use std::time::Duration;

use landfall_s3::client::ObjectHeaders;

use super::table::group;
use crate::settings::types::LeaseKind;
use crate::settings::{bucket, value};

const UPLOAD_IDS: &[(&str, bool)] = &[("tusd", false), ("plain", true)];

const PATH_STYLE: &[(&str, Option<bool>)] =
    &[("auto", None), ("true", Some(true)), ("false", Some(false))];

const DOWNLOAD: &[(&str, bool)] = &[("proxy", false), ("redirect", true)];

group! {
    /// Settings of S3 storage.
    pub struct S3 at s3;
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
    headers: ObjectHeaders = bucket::object_headers, "s3-headers", Text("NAME: VALUE, ..."), "", Protects
        => "Headers of objects, such as Cache-Control: private, max-age=3600, x-amz-tagging: team=video&env=prod. \
            The names are Content-Type (not set: filetype of the upload's metadata), Content-Disposition, \
            Cache-Control, x-amz-storage-class, x-amz-tagging, x-amz-acl, x-amz-server-side-encryption (AES256, \
            aws:kms or aws:kms:dsse) and x-amz-server-side-encryption-aws-kms-key-id. A comma in quotes, or without \
            a name after it, belongs to the value.";
}

group! {
    /// Settings of leases.
    pub struct Leases at leases;
    kind: LeaseKind = bucket::lease, "lease", Text("auto|memory|store|URL"), "auto", SecretInUrl
        => "Lease backend: memory (single node), store (lock files or bucket objects), a redis://, \
            rediss:// (TLS) or postgres:// URL. auto: store for a directory, memory for a bucket. \
            Servers that share a directory on NFS need --durability every, too.";
    ttl: Option<Duration> = bucket::lease_ttl, "lease-ttl", Time, "0"
        => "Time after which the leases of a dead node expire, in a bucket, Redis or PostgreSQL. \
            All nodes must use the same. 0: 5s in Redis and PostgreSQL, 15s in a bucket.";
}
