//! Rules of the bucket, its part sizes and memory, and of leases.
//!
//! Changes one setting: a default part size below `--s3-min-part-size` is raised to it. An endpoint without a bucket is
//! an error, because uploads would be stored in a directory that may be lost.

use super::{Findings, Settings};
use crate::settings::{
    CLOUD_MAX_PARTS, CLOUD_PART_SIZE,
    types::{DisabledDownloads, LeaseKind},
};

pub(super) const FILE_SETTINGS: &[&str] = &[
    "upload-dir",
    "data-dirs",
    "dir-perms",
    "file-perms",
    "durability",
    "preallocate",
    "filelock-holder-poll-interval",
    "filelock-acquirer-poll-interval",
];

pub(super) fn check(settings: &mut Settings, findings: &mut Findings<'_>) {
    if settings.s3.bucket.is_none() && findings.is_given("s3-endpoint") {
        // Uploads would go to a disk that may be lost with its container.
        let dir = settings.storage.upload_dir.display();
        let effect = format!("uploads would be stored in the directory {dir}");
        let fix = "write --s3-bucket NAME, or leave --s3-endpoint out";
        let reason = format!("has no effect without --s3-bucket: {effect}; {fix}");
        findings.problem("s3-endpoint", reason);
    }
    let is_directory = settings.uses_directory();
    let s3 = &mut settings.s3;
    if s3.bucket.is_some() {
        findings.without_effect(FILE_SETTINGS, "with --s3-bucket");
        let reason = "with --s3-endpoint: its URL has the scheme";
        findings.without_effect_if(s3.endpoint.is_some(), &["s3-disable-ssl"], reason);
        let disabled = settings.protocol.disable_download == DisabledDownloads::All;
        findings.without_effect_if(disabled, &["s3-download"], "with --disable-download");
    } else {
        for name in findings.given("s3-") {
            // Reported above.
            if name != "s3-endpoint" {
                findings.without_effect(&[name], "without --s3-bucket");
            }
        }
    }
    let (has_bucket, kind) = (!is_directory, &settings.leases.kind);
    let in_redis = matches!(kind, LeaseKind::Redis(_));
    let in_postgres = matches!(kind, LeaseKind::Postgres(_));
    let uses_files = matches!(kind, LeaseKind::Auto | LeaseKind::Store);
    let names = findings.given("filelock-");
    let reason = "with leases in memory, Redis or PostgreSQL, which use no lock files";
    findings.without_effect_if(!has_bucket && !uses_files, &names, reason);
    let has_ttl = in_redis || in_postgres || has_bucket && *kind == LeaseKind::Store;
    let reason = "without leases in a bucket, Redis or PostgreSQL: others have no TTL";
    findings.without_effect_if(!has_ttl, &["lease-ttl"], reason);

    if s3.part_size < s3.min_part_size {
        let min = s3.min_part_size;
        let reason = format!("is less than --s3-min-part-size, {min} bytes");
        match findings.is_given("s3-part-size") {
            true => findings.problem("s3-part-size", reason),
            false => s3.part_size = s3.min_part_size,
        }
    }
    let memory = settings.limits.max_buffered_bytes;
    let (part_size, parts) = match s3.bucket {
        Some(_) => (s3.part_size, 10_000),
        None => (CLOUD_PART_SIZE, u64::from(CLOUD_MAX_PARTS)),
    };
    let name = findings.place_of("max-buffered-bytes", "s3-part-size");
    let size = format!("less than two parts of {part_size} bytes");
    let reason = format!("{size}: one fills while the other is sent");
    let reason = format!("--max-buffered-bytes is {memory} bytes, {reason}");
    findings.problem_if(has_bucket && memory / 2 < part_size, name, reason);
    let longest = (memory / 2).saturating_mul(parts);
    if has_bucket && settings.protocol.max_size > Some(longest) {
        let effect = format!("--max-buffered-bytes {memory} limits uploads to {longest} bytes");
        let reason = format!("{effect}, less than --max-size; raise --max-buffered-bytes");
        findings.warning("max-size", reason);
    }
    let conflict = if s3.endpoint.is_some() {
        Some("conflicts with --s3-endpoint: only Amazon's endpoints support it")
    } else if s3.path_style == Some(true) {
        Some("conflicts with --s3-path-style true: it requires the bucket in the host name")
    } else if s3.bucket.as_ref().is_some_and(|name| name.contains('.')) {
        Some("does not support bucket names with a dot")
    } else {
        None
    };
    if let Some(reason) = conflict.filter(|_| s3.accelerate) {
        findings.problem("s3-transfer-acceleration", reason);
    }
    if s3.bucket.is_some() && s3.key.as_ref().is_some_and(|key| !key.contains("{id}")) {
        let effect = "two uploads may have the same key, and the later one replaces the other";
        findings.warning("s3-key", format!("has no {{id}}: {effect}"));
    }
    let names = settings.storage.file_names.as_ref();
    if names.is_some_and(|names| !names.contains("{id}")) {
        let effect = "of two uploads with the same name, the later one is refused";
        findings.warning("file-names", format!("has no {{id}}: {effect}"));
    }
}
