//! What has to hold between the settings of S3 storage and of leases.

use super::{Layers, Problem, Settings};
use crate::settings::types::LeaseKind;

/// What counts for a directory only.
const OF_DIRECTORIES: &[&str] = &[
    "upload-dir",
    "dir-perms",
    "file-perms",
    "durability",
    "preallocate",
    "filelock-holder-poll-interval",
    "filelock-acquirer-poll-interval",
];

/// The names that begin with `s3-` or count like one of those.
fn is_of_buckets(name: &str) -> bool {
    name.starts_with("s3-") && name != "s3-bucket"
}

/// Looks for settings that don't go together, and for those that have no effect.
pub(super) fn check(
    settings: &mut Settings,
    layers: &Layers,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) {
    let mut without_effect = |name: &str, reason: &str| {
        if let Some(given) = layers.get(name) {
            warnings.push(format!("{}: has no effect {reason}", given.source));
        }
    };
    let s3 = &mut settings.s3;
    if s3.bucket.is_some() {
        for name in OF_DIRECTORIES {
            without_effect(name, "with s3-bucket");
        }
        without_effect(
            "s3-max-buffered-parts",
            "here: parts wait in memory only, and s3-memory bounds it",
        );
        if s3.endpoint.is_some() {
            without_effect("s3-disable-ssl", "with s3-endpoint, whose URL says it");
        }
        if !s3.download.redirect {
            without_effect("s3-redirect-lifetime", "without s3-download redirect");
        } else if settings.protocol.disable_download {
            without_effect("s3-download", "with disable-download");
        }
    } else {
        let given: Vec<_> = layers.names().filter(|name| is_of_buckets(name)).collect();
        for name in given {
            without_effect(name, "without s3-bucket");
        }
    }
    match settings.leases.kind {
        LeaseKind::Store if s3.bucket.is_some() => {}
        LeaseKind::Redis(_) => {}
        LeaseKind::Auto | LeaseKind::Memory | LeaseKind::Store => without_effect(
            "lease-ttl",
            "without leases in a bucket or in Redis, which alone have a lifetime",
        ),
    }

    let place = |name: &str| match layers.get(name) {
        Some(given) => given.source.to_string(),
        None => name.to_owned(),
    };
    let mut problem = |name: &str, reason: String| problems.push(Problem::new(place(name), reason));
    let is_given = |name: &str| layers.get(name).is_some();

    if !cfg!(feature = "s3") && s3.bucket.is_some() {
        problem("s3-bucket", "this build has no S3 storage".to_owned());
    }
    if !cfg!(feature = "redis") && matches!(settings.leases.kind, LeaseKind::Redis(_)) {
        problem("lease", "this build has no leases in Redis".to_owned());
    }
    if s3.part_size < s3.min_part_size {
        if is_given("s3-part-size") {
            problem(
                "s3-part-size",
                format!(
                    "is less than s3-min-part-size, which is {} bytes",
                    s3.min_part_size
                ),
            );
        } else {
            s3.part_size = s3.min_part_size;
        }
    }
    if s3.memory < 2 * s3.part_size {
        problem(
            if is_given("s3-memory") {
                "s3-memory"
            } else {
                "s3-part-size"
            },
            format!(
                "s3-memory is {} bytes and must hold two parts of {} bytes: one fills while the \
                 other is sent",
                s3.memory, s3.part_size
            ),
        );
    }
    let longest = s3.memory / 2 * 10_000;
    if let Some(max_size) = settings.protocol.max_size
        && s3.bucket.is_some()
        && max_size > longest
    {
        warnings.push(format!(
            "{}: uploads end at {longest} bytes all the same, for which s3-memory is enough; \
             raise it",
            place("max-size")
        ));
    }
    if s3.accelerate {
        if s3.endpoint.is_some() {
            problem(
                "s3-transfer-acceleration",
                "can't go with s3-endpoint: only Amazon's own endpoints have it".to_owned(),
            );
        } else if s3.path_style == Some(true) {
            problem(
                "s3-transfer-acceleration",
                "can't go with s3-path-style true: the bucket stands before the host there"
                    .to_owned(),
            );
        } else if s3.bucket.as_ref().is_some_and(|name| name.contains('.')) {
            problem(
                "s3-transfer-acceleration",
                "can't go with a bucket that has a dot in its name".to_owned(),
            );
        }
    }
    if let Some(key) = &s3.key
        && s3.bucket.is_some()
        && !key.contains("{id}")
    {
        warnings.push(format!(
            "{}: without {{id}} in it, two uploads may have the same key, and the later one \
             replaces the other",
            place("s3-key")
        ));
    }
    if s3.headers.sse_kms_key_id.is_some() {
        match s3.headers.sse.as_deref() {
            None => s3.headers.sse = Some("aws:kms".to_owned()),
            Some("AES256") => problem(
                "s3-sse-kms-key-id",
                "can't go with s3-sse AES256, which has no keys of its own; write aws:kms"
                    .to_owned(),
            ),
            Some(_) => {}
        }
    }
}
