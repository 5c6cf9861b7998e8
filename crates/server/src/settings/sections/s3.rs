//! The sections about S3 storage and about leases.

use super::put;
use crate::settings::arguments::Verb;
use crate::settings::bucket;
use crate::settings::table::{Kind, Section, Setting};
use crate::settings::types::UploadIds;
use crate::settings::value;

/// The words for [`UploadIds`].
const UPLOAD_IDS: &[(&str, UploadIds)] = &[("tusd", UploadIds::Tusd), ("plain", UploadIds::Plain)];

/// The words for the two ways of address.
const PATH_STYLE: &[(&str, Option<bool>)] =
    &[("auto", None), ("true", Some(true)), ("false", Some(false))];

/// The words for downloads; the value is whether to redirect.
const DOWNLOAD: &[(&str, bool)] = &[("proxy", false), ("redirect", true)];

/// The kinds of encryption that Amazon names.
const SSE: &[(&str, &str)] = &[
    ("AES256", "AES256"),
    ("aws:kms", "aws:kms"),
    ("aws:kms:dsse", "aws:kms:dsse"),
];

/// The ACLs that have a name.
const ACLS: &[(&str, &str)] = &[
    ("private", "private"),
    ("public-read", "public-read"),
    ("public-read-write", "public-read-write"),
    ("authenticated-read", "authenticated-read"),
    ("aws-exec-read", "aws-exec-read"),
    ("bucket-owner-read", "bucket-owner-read"),
    ("bucket-owner-full-control", "bucket-owner-full-control"),
];

/// Who makes use of leases.
const VERBS: &[Verb] = &[Verb::Serve, Verb::Sweep, Verb::DoctorS3];

/// Uploads in a bucket.
pub(super) const S3: Section = Section {
    title: "S3 storage",
    verbs: &[Verb::Serve, Verb::Sweep, Verb::DoctorS3, Verb::SetCors],
    settings: &[
        Setting::new(
            "s3-bucket",
            Kind::Text("NAME"),
            "",
            "Keep uploads in this bucket instead of a directory. Credentials come from the usual \
             places: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile that AWS_PROFILE \
             names, web identity, container, instance.",
            |s, v| put(&mut s.s3.bucket, bucket::or_none(v, bucket::bucket)),
        ),
        Setting::new(
            "s3-object-prefix",
            Kind::Text("PREFIX"),
            "",
            "What all keys begin with; a slash is added at its end if there is none.",
            |s, v| put(&mut s.s3.object_prefix, bucket::object_prefix(v)),
        ),
        Setting::new(
            "s3-key",
            Kind::Text("TEMPLATE"),
            "",
            "Key of finished objects below the prefix, such as {date}/{id}/{filename}. {date} is \
             yyyy/mm/dd of the creation, {meta:NAME} an entry of the upload's metadata. Not set: \
             {id}.",
            |s, v| put(&mut s.s3.key, bucket::or_none(v, bucket::key)),
        ),
        Setting::new(
            "s3-endpoint",
            Kind::Text("URL"),
            "",
            "Service to use instead of Amazon's, such as https://s3.example.com.",
            |s, v| put(&mut s.s3.endpoint, bucket::or_none(v, bucket::endpoint)),
        ),
        Setting::new(
            "s3-region",
            Kind::Text("REGION"),
            "",
            "Region of the bucket. Not set: AWS_REGION, or what the profile says, or us-east-1.",
            |s, v| put(&mut s.s3.region, bucket::or_none(v, bucket::word)),
        ),
        Setting::new(
            "s3-path-style",
            Kind::Text("auto|true|false"),
            "auto",
            "Whether URLs have the bucket in their path (true) or before the host (false). auto: \
             in the path with --s3-endpoint, else before the host.",
            |s, v| put(&mut s.s3.path_style, value::choice(v, PATH_STYLE)),
        ),
        Setting::new(
            "s3-disable-ssl",
            Kind::Switch,
            "false",
            "Speak to Amazon without TLS. An endpoint's URL says so itself.",
            |s, v| put(&mut s.s3.disable_ssl, value::boolean(v)),
        ),
        Setting::new(
            "s3-transfer-acceleration",
            Kind::Switch,
            "false",
            "Use Amazon's accelerated endpoints; the bucket must allow it.",
            |s, v| put(&mut s.s3.accelerate, value::boolean(v)),
        ),
        Setting::new(
            "s3-part-size",
            Kind::Size,
            "8MiB",
            "Size of a part (tusd: 50MiB). An upload too long for 10,000 of them has larger ones.",
            |s, v| put(&mut s.s3.part_size, bucket::part_size(v)),
        ),
        Setting::new(
            "s3-min-part-size",
            Kind::Size,
            "5MiB",
            "The least that the service takes for a part that isn't the last.",
            |s, v| put(&mut s.s3.min_part_size, bucket::part_size(v)),
        ),
        Setting::new(
            "s3-concurrent-part-uploads",
            Kind::Number("COUNT"),
            "10",
            "Parts on their way to the service at one time, all uploads together.",
            |s, v| put(&mut s.s3.concurrent_parts, value::count(v)),
        ),
        Setting::new(
            "s3-memory",
            Kind::Size,
            "256MiB",
            "Memory for parts, all uploads together; nothing is written to a local disk. When it \
             is full, clients are slowed down. The longest upload is 5,000 times as much.",
            |s, v| put(&mut s.s3.memory, value::size_within(v, 16 << 20, 1 << 40)),
        ),
        Setting::new(
            "s3-max-buffered-parts",
            Kind::Number("COUNT"),
            "20",
            "Taken for tusd's sake and without effect: parts never wait on a disk, and --s3-memory \
             bounds those in memory.",
            |s, v| put(&mut s.s3.max_buffered_parts, value::number(v)),
        ),
        Setting::new(
            "s3-disable-content-hashes",
            Kind::Switch,
            "false",
            "Don't sign the content of parts. Saves a SHA-256 of each byte; without TLS nothing \
             then protects content on its way to the service.",
            |s, v| put(&mut s.s3.disable_content_hashes, value::boolean(v)),
        ),
        Setting::new(
            "s3-log-api-calls",
            Kind::Switch,
            "false",
            "Log each call to the service, whatever --log-level says.",
            |s, v| put(&mut s.s3.log_api_calls, value::boolean(v)),
        ),
        Setting::new(
            "s3-upload-ids",
            Kind::Text("tusd|plain"),
            "tusd",
            "What ids of new uploads look like: the object's name, a plus sign and the id of the \
             multipart upload (tusd), so that tusd can go on with them; or the object's name \
             alone (plain). Either is read.",
            |s, v| put(&mut s.s3.upload_ids, value::choice(v, UPLOAD_IDS)),
        ),
        Setting::new(
            "s3-download",
            Kind::Text("proxy|redirect"),
            "proxy",
            "Answer GET with the bytes (proxy), or with a presigned URL of the service (redirect).",
            |s, v| put(&mut s.s3.download.redirect, value::choice(v, DOWNLOAD)),
        ),
        Setting::new(
            "s3-redirect-lifetime",
            Kind::Time,
            "15m",
            "How long such a URL works.",
            |s, v| put(&mut s.s3.download.lifetime, bucket::redirect_lifetime(v)),
        ),
        Setting::new(
            "s3-content-type",
            Kind::Text("TYPE"),
            "",
            "Content-Type of all objects. Not set: filetype in the upload's metadata.",
            |s, v| {
                put(
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
                put(
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
                put(
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
                put(
                    &mut s.s3.headers.storage_class,
                    bucket::or_none(v, bucket::word),
                )
            },
        ),
        Setting::new(
            "s3-tags",
            Kind::List("KEY=VALUE,..."),
            "",
            "Tags of objects, 10 at most.",
            |s, v| put(&mut s.s3.headers.tags, bucket::tags(v)),
        ),
        Setting::new(
            "s3-sse",
            Kind::Text("AES256|aws:kms|aws:kms:dsse"),
            "",
            "Encryption of objects by the service. Not set: as the bucket says.",
            |s, v| put(&mut s.s3.headers.sse, bucket::or_none(v, |v| named(v, SSE))),
        )
        .protects(),
        Setting::new(
            "s3-sse-kms-key-id",
            Kind::Text("KEY"),
            "",
            "Id or ARN of the key to encrypt with; means aws:kms unless --s3-sse says \
             aws:kms:dsse.",
            |s, v| {
                put(
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
            "ACL of objects, such as bucket-owner-full-control. Not set: none is sent, as buckets \
             without ACLs want it.",
            |s, v| put(&mut s.s3.headers.acl, acl(v)),
        )
        .protects(),
    ],
};

/// Who writes an upload.
pub(super) const LEASES: Section = Section {
    title: "Several servers on one storage",
    verbs: VERBS,
    settings: &[
        Setting::new(
            "lease",
            Kind::Text("auto|memory|store|URL"),
            "auto",
            "How servers agree on who writes an upload: by the storage itself (store: locks in a \
             directory, objects in a bucket), by a Redis or Valkey (redis://host:6379, rediss:// \
             with TLS), by a PostgreSQL (postgres://user@host/database), or not at all, for a server that is the only one (memory). auto: store \
             for a directory, memory for a bucket.",
            |s, v| put(&mut s.leases.kind, bucket::lease(v)),
        )
        .secret_in_url(),
        Setting::new(
            "lease-ttl",
            Kind::Time,
            "0",
            "How long an upload stays taken after the server that wrote it died, with leases in a \
             bucket, Redis or PostgreSQL; all servers must have the same. 0: 5s in Redis and \
             PostgreSQL, 15s in a bucket.",
            |s, v| put(&mut s.leases.ttl, bucket::lease_ttl(v)),
        ),
    ],
};

/// One of the ACLs that have a name, or none.
pub(super) fn acl(text: &str) -> Result<Option<String>, String> {
    bucket::or_none(text, |text| named(text, ACLS))
}

/// One of the words that a service knows.
fn named(text: &str, words: &[(&str, &'static str)]) -> Result<String, String> {
    value::choice(text, words).map(str::to_owned)
}
