//! The sections about S3 storage and about leases.

use super::assign;
use crate::settings::bucket;
use crate::settings::cli::Subcommand;
use crate::settings::table::{Kind, Section, Setting};
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

pub(super) const S3: Section = Section {
    title: "S3 storage",
    subcommands: &[
        Subcommand::Serve,
        Subcommand::Sweep,
        Subcommand::DoctorS3,
        Subcommand::SetCors,
    ],
    settings: &[
        Setting::new(
            "s3-bucket",
            Kind::Text("NAME"),
            "",
            "Store uploads in this bucket instead of a directory. Credentials come from \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile AWS_PROFILE, web identity, \
             the container or the instance.",
            |s, v| assign(&mut s.s3.bucket, bucket::or_none(v, bucket::bucket)),
        )
        .common(),
        Setting::new(
            "s3-object-prefix",
            Kind::Text("PREFIX"),
            "",
            "Prefix of all object keys; a trailing slash is added.",
            |s, v| assign(&mut s.s3.object_prefix, bucket::object_prefix(v)),
        ),
        Setting::new(
            "s3-key",
            Kind::Text("TEMPLATE"),
            "",
            "Key template of finished objects below the prefix, such as {date}/{id}/{filename}. \
             {date} is yyyy/mm/dd of the creation, {meta:NAME} a value of the upload's metadata. \
             Not set: {id}.",
            |s, v| assign(&mut s.s3.key, bucket::or_none(v, bucket::key)),
        ),
        Setting::new(
            "s3-endpoint",
            Kind::Text("URL"),
            "",
            "Endpoint of an S3-compatible service, such as https://s3.example.com. Not set: \
             Amazon S3.",
            |s, v| assign(&mut s.s3.endpoint, bucket::or_none(v, bucket::endpoint)),
        )
        .common(),
        Setting::new(
            "s3-region",
            Kind::Text("REGION"),
            "",
            "Region of the bucket. Not set: AWS_REGION, the region of the profile, or us-east-1.",
            |s, v| assign(&mut s.s3.region, bucket::or_none(v, bucket::word)),
        ),
        Setting::new(
            "s3-path-style",
            Kind::Text("auto|true|false"),
            "auto",
            "Bucket in the URL path (true) or in the host name (false). auto: in the path with \
             --s3-endpoint, otherwise in the host name.",
            |s, v| assign(&mut s.s3.path_style, value::choice(v, PATH_STYLE)),
        ),
        Setting::new(
            "s3-disable-ssl",
            Kind::Switch,
            "false",
            "Use Amazon's endpoints without TLS. For others, the scheme of --s3-endpoint decides.",
            |s, v| assign(&mut s.s3.disable_ssl, value::boolean(v)),
        ),
        Setting::new(
            "s3-transfer-acceleration",
            Kind::Switch,
            "false",
            "Use S3 transfer acceleration, which the bucket must allow.",
            |s, v| assign(&mut s.s3.accelerate, value::boolean(v)),
        ),
        Setting::new(
            "s3-part-size",
            Kind::Size,
            "8MiB",
            "Preferred part size (tusd: 50MiB). Uploads too long for 10,000 parts of this size \
             use larger ones.",
            |s, v| assign(&mut s.s3.part_size, bucket::part_size(v)),
        ),
        Setting::new(
            "s3-min-part-size",
            Kind::Size,
            "5MiB",
            "Minimum size that the service accepts for a part that is not the last.",
            |s, v| assign(&mut s.s3.min_part_size, bucket::part_size(v)),
        ),
        Setting::new(
            "s3-concurrent-part-uploads",
            Kind::Number("COUNT"),
            "10",
            "Maximum concurrent part uploads, for all uploads together.",
            |s, v| assign(&mut s.s3.concurrent_parts, value::count(v)),
        ),
        Setting::new(
            "s3-memory",
            Kind::Size,
            "256MiB",
            "Memory for parts, for all uploads together. When it is full, clients are slowed \
             down (backpressure); nothing is written to a local disk. It limits uploads to 5,000 \
             times this size.",
            |s, v| assign(&mut s.s3.memory, value::size_within(v, 16 << 20, 1 << 40)),
        ),
        Setting::new(
            "s3-max-buffered-parts",
            Kind::Number("COUNT"),
            "20",
            "Accepted for compatibility with tusd, without effect. Parts are never buffered on \
             disk, and --s3-memory limits those in memory.",
            |s, v| assign(&mut s.s3.max_buffered_parts, value::number(v)),
        ),
        Setting::new(
            "s3-disable-content-hashes",
            Kind::Switch,
            "false",
            "Do not sign the content of parts. This saves a SHA-256 of each byte, but without \
             TLS nothing protects the content on its way to the service.",
            |s, v| assign(&mut s.s3.disable_content_hashes, value::boolean(v)),
        ),
        Setting::new(
            "s3-log-api-calls",
            Kind::Switch,
            "false",
            "Log each S3 request, at any --log-level.",
            |s, v| assign(&mut s.s3.log_api_calls, value::boolean(v)),
        ),
        Setting::new(
            "s3-upload-ids",
            Kind::Text("tusd|plain"),
            "tusd",
            "Format of new upload ids: object name, plus sign and multipart upload id, so that \
             tusd can resume them (tusd), or the object name only (plain). Both are accepted.",
            |s, v| assign(&mut s.s3.upload_ids, value::choice(v, UPLOAD_IDS)),
        ),
        Setting::new(
            "s3-download",
            Kind::Text("proxy|redirect"),
            "proxy",
            "Respond to GET with the bytes (proxy), or with a redirect to a presigned URL \
             (redirect).",
            |s, v| assign(&mut s.s3.download.redirect, value::choice(v, DOWNLOAD)),
        ),
        Setting::new(
            "s3-redirect-lifetime",
            Kind::Time,
            "15m",
            "Lifetime of that presigned URL.",
            |s, v| assign(&mut s.s3.download.lifetime, bucket::url_lifetime(v)),
        ),
        Setting::new(
            "s3-content-type",
            Kind::Text("TYPE"),
            "",
            "Content-Type of all objects. Not set: filetype of the upload's metadata.",
            |s, v| {
                assign(
                    &mut s.s3.headers.content_type,
                    bucket::or_none(v, bucket::content_type),
                )
            },
        ),
        Setting::new(
            "s3-content-disposition",
            Kind::Text("VALUE"),
            "",
            "Content-Disposition of objects.",
            |s, v| {
                assign(
                    &mut s.s3.headers.content_disposition,
                    bucket::or_none(v, bucket::content_disposition),
                )
            },
        ),
        Setting::new(
            "s3-cache-control",
            Kind::Text("VALUE"),
            "",
            "Cache-Control of objects.",
            |s, v| {
                assign(
                    &mut s.s3.headers.cache_control,
                    bucket::or_none(v, bucket::cache_control),
                )
            },
        ),
        Setting::new(
            "s3-storage-class",
            Kind::Text("CLASS"),
            "",
            "Storage class of objects, such as STANDARD_IA.",
            |s, v| {
                assign(
                    &mut s.s3.headers.storage_class,
                    bucket::or_none(v, bucket::word),
                )
            },
        ),
        Setting::new(
            "s3-tags",
            Kind::List("KEY=VALUE,..."),
            "",
            "Tags of objects, at most 10.",
            |s, v| assign(&mut s.s3.headers.tags, bucket::tags(v)),
        ),
        Setting::new(
            "s3-sse",
            Kind::Text("AES256|aws:kms|aws:kms:dsse"),
            "",
            "Server-side encryption of objects. Not set: the default of the bucket.",
            |s, v| assign(&mut s.s3.headers.sse, bucket::or_none(v, |v| named(v, SSE))),
        )
        .protects(),
        Setting::new(
            "s3-sse-kms-key-id",
            Kind::Text("KEY"),
            "",
            "Id or ARN of the KMS key. Implies aws:kms, unless --s3-sse is aws:kms:dsse.",
            |s, v| {
                assign(
                    &mut s.s3.headers.sse_kms_key_id,
                    bucket::or_none(v, bucket::kms_key),
                )
            },
        )
        .protects(),
        Setting::new(
            "s3-acl",
            Kind::Text("ACL"),
            "",
            "Canned ACL of objects, such as bucket-owner-full-control. Not set: none is sent, as \
             buckets without ACLs require.",
            |s, v| assign(&mut s.s3.headers.acl, acl(v)),
        )
        .protects(),
    ],
};

pub(super) const LEASES: Section = Section {
    title: "Leases",
    subcommands: &[Subcommand::Serve, Subcommand::Sweep, Subcommand::DoctorS3],
    settings: &[
        Setting::new(
            "lease",
            Kind::Text("auto|memory|store|URL"),
            "auto",
            "Lease backend: memory (single node), store (lock files or bucket objects), a \
             redis://, rediss:// (TLS) or postgres:// URL. auto: store for a directory, memory \
             for a bucket.",
            |s, v| assign(&mut s.leases.kind, bucket::lease(v)),
        )
        .secret_in_url(),
        Setting::new(
            "lease-ttl",
            Kind::Time,
            "0",
            "Time after which the leases of a dead node expire, in a bucket, Redis or \
             PostgreSQL. All nodes must use the same. 0: 5s in Redis and PostgreSQL, 15s in a \
             bucket.",
            |s, v| assign(&mut s.leases.ttl, bucket::lease_ttl(v)),
        ),
    ],
};

/// Parses a canned ACL.
pub(super) fn acl(text: &str) -> Result<Option<String>, String> {
    bucket::or_none(text, |text| named(text, ACLS))
}

fn named(text: &str, known: &[(&str, &'static str)]) -> Result<String, String> {
    value::choice(text, known).map(str::to_owned)
}
