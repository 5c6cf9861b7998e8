//! Rules of Google Cloud Storage and Azure: the one that is used if several are named, and settings without effect on it.
//!
//! As in tusd, the order is S3, Google Cloud Storage, Azure, directory.

use super::{Findings, Settings, s3::FILE_SETTINGS};
use crate::settings::types::DisabledDownloads;

pub(super) fn check(settings: &mut Settings, findings: &mut Findings<'_>) {
    let disabled = settings.protocol.disable_download == DisabledDownloads::All;
    for (main, endpoint, download, is_set) in [
        (
            "gcs-bucket",
            "gcs-endpoint",
            "gcs-download",
            settings.gcs.bucket.is_some(),
        ),
        (
            "azure-storage",
            "azure-endpoint",
            "azure-download",
            settings.azure.container.is_some(),
        ),
    ] {
        let family = &main[..=main.find('-').unwrap_or_default()];
        if is_set {
            findings.without_effect(FILE_SETTINGS, &format!("with --{main}"));
            findings.without_effect_if(disabled, &[download], "with --disable-download");
            continue;
        }
        if findings.is_given(endpoint) {
            // Uploads would go to a disk that may be lost with its container.
            let reason =
                format!("has no effect without --{main}; write it, or leave --{endpoint} out");
            findings.problem(endpoint, reason);
        }
        for name in findings.given(family) {
            if name != endpoint && name != main {
                findings.without_effect(&[name], &format!("without --{main}"));
            }
        }
    }
    let stores = [
        ("s3-bucket", settings.s3.bucket.is_some()),
        ("gcs-bucket", settings.gcs.bucket.is_some()),
        ("azure-storage", settings.azure.container.is_some()),
    ];
    let mut named = stores.into_iter().filter(|(_, is_set)| *is_set);
    if let Some((used, _)) = named.next() {
        for (name, _) in named {
            findings.warning(name, format!("has no effect with --{used}"));
        }
    }
    if settings.s3.bucket.is_some() {
        settings.gcs.bucket = None;
    }
    if settings.s3.bucket.is_some() || settings.gcs.bucket.is_some() {
        settings.azure.container = None;
    }
    let is_archive = settings.azure.tier == Some(landfall_azure::AccessTier::Archive);
    if settings.azure.container.is_some() && is_archive {
        let downloads = settings.protocol.disable_download != DisabledDownloads::All;
        let reason = "archive: finished files cannot be downloaded; write --disable-download, or another tier";
        match settings.protocol.compat_tusd {
            // tusd starts, and downloads fail.
            true if downloads => findings.warning("azure-blob-access-tier", reason),
            _ => findings.problem_if(downloads, "azure-blob-access-tier", reason),
        }
    }
}
