use super::{Findings, Settings, not_compiled_in};
use crate::settings::types::LeaseKind;

const FILE_SETTINGS: &[&str] = &[
    "upload-dir",
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
        findings.problem(
            "s3-endpoint",
            format!(
                "has no effect without --s3-bucket: uploads would be stored in the directory {}; write \
                 --s3-bucket NAME, or leave --s3-endpoint out",
                settings.storage.upload_dir.display()
            ),
        );
    }
    let s3 = &mut settings.s3;
    if s3.bucket.is_some() {
        findings.without_effect(FILE_SETTINGS, "with --s3-bucket");
        findings.without_effect(
            &["s3-max-buffered-parts"],
            "in Landfall: parts are buffered in memory only, limited by --s3-memory",
        );
        if s3.endpoint.is_some() {
            let reason = "with --s3-endpoint: its URL has the scheme";
            findings.without_effect(&["s3-disable-ssl"], reason);
        }
        if !s3.download.redirect {
            findings.without_effect(&["s3-redirect-lifetime"], "without --s3-download redirect");
        } else if settings.protocol.disable_download {
            findings.without_effect(&["s3-download"], "with --disable-download");
        }
    } else {
        for name in findings.given("s3-") {
            // Reported above.
            if name != "s3-endpoint" {
                findings.without_effect(&[name], "without --s3-bucket");
            }
        }
    }
    let uses_files = matches!(settings.leases.kind, LeaseKind::Auto | LeaseKind::Store);
    if s3.bucket.is_none() && !uses_files {
        let reason = "with leases in memory, Redis or PostgreSQL, which use no lock files";
        findings.without_effect(&findings.given("filelock-"), reason);
    }
    match settings.leases.kind {
        LeaseKind::Store if s3.bucket.is_some() => {}
        LeaseKind::Redis(_) | LeaseKind::Postgres(_) => {}
        LeaseKind::Auto | LeaseKind::Memory | LeaseKind::Store => findings.without_effect(
            &["lease-ttl"],
            "without leases in a bucket, Redis or PostgreSQL: others have no TTL",
        ),
    }

    if !cfg!(feature = "s3") && s3.bucket.is_some() {
        findings.problem("s3-bucket", not_compiled_in("S3 storage", "s3"));
    }
    if !cfg!(feature = "redis") && matches!(settings.leases.kind, LeaseKind::Redis(_)) {
        findings.problem("lease", not_compiled_in("Redis support", "redis"));
    }
    if !cfg!(feature = "postgres") && matches!(settings.leases.kind, LeaseKind::Postgres(_)) {
        findings.problem("lease", not_compiled_in("PostgreSQL support", "postgres"));
    }
    if s3.part_size < s3.min_part_size {
        if findings.is_given("s3-part-size") {
            let min = s3.min_part_size;
            let reason = format!("is less than --s3-min-part-size, {min} bytes");
            findings.problem("s3-part-size", reason);
        } else {
            s3.part_size = s3.min_part_size;
        }
    }
    if s3.memory < 2 * s3.part_size {
        let name = match findings.is_given("s3-memory") {
            true => "s3-memory",
            false => "s3-part-size",
        };
        findings.problem(
            name,
            format!(
                "--s3-memory is {} bytes, less than two parts of {} bytes: one fills while the other \
                 is sent",
                s3.memory, s3.part_size
            ),
        );
    }
    let longest = s3.memory / 2 * 10_000;
    if let Some(max_size) = settings.protocol.max_size
        && s3.bucket.is_some()
        && max_size > longest
    {
        findings.warning(
            "max-size",
            format!(
                "--s3-memory {} limits uploads to {longest} bytes, less than --max-size; raise --s3-memory",
                s3.memory
            ),
        );
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
    if let Some(key) = &s3.key
        && s3.bucket.is_some()
        && !key.contains("{id}")
    {
        findings.warning(
            "s3-key",
            "has no {id}: two uploads may have the same key, and the later one replaces the other",
        );
    }
    if s3.headers.sse_kms_key_id.is_some() {
        match s3.headers.sse.as_deref() {
            None => s3.headers.sse = Some("aws:kms".to_owned()),
            Some("AES256") => findings.problem(
                "s3-sse-kms-key-id",
                "conflicts with --s3-sse AES256, which has no KMS keys; write aws:kms".to_owned(),
            ),
            Some(_) => {}
        }
    }
}
