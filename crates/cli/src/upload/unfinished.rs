//! Unfinished uploads: `--list` and `--abort`.

use std::{
    path::{Path, PathBuf, absolute},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use indicatif::HumanBytes;
use landfall_client::{Client, FileFingerprints, FingerprintStore as _, StoredUpload};

use crate::{
    arguments::value,
    exit::{Failure, FailureClass},
    report::{Record, Report, printable, short_duration},
    state,
};

/// Prints the unfinished uploads of this user, the oldest first.
pub(super) fn list(report: &Report, is_json: bool) -> Result<ExitCode, Failure> {
    let mut uploads = stored(&store()?)?;
    uploads.sort_by_key(|upload| upload.created);
    for upload in &uploads {
        let age = SystemTime::now()
            .duration_since(upload.created)
            .unwrap_or_default();
        let source = upload.source.as_deref().map(Path::to_string_lossy);
        let url = upload.url.as_ref().or(upload.parts.first());
        report.record(&Record::Unfinished {
            file: source.as_deref(),
            url: url.map(|url| url.as_str()),
            endpoint: &upload.endpoint,
            offset: upload.offset,
            length: upload.length,
            age: age.as_secs(),
        });
        if !is_json {
            let url = url.map_or(upload.endpoint.as_str(), |url| url.as_str());
            let line = line(source.as_deref().unwrap_or("-"), url, upload, age);
            crate::print(&format!("{line}\n"));
        }
    }
    if uploads.is_empty() {
        report.message("no unfinished uploads");
    }
    Ok(ExitCode::SUCCESS)
}

fn line(source: &str, url: &str, upload: &StoredUpload, age: Duration) -> String {
    let offset = HumanBytes(upload.offset);
    let length = match upload.length {
        Some(length) => HumanBytes(length).to_string(),
        None => "unknown".to_owned(),
    };
    let age = short_duration(age);
    printable(&format!("{source}\t{url}\t{offset} of {length}\t{age} ago"))
}

/// Removes uploads from their servers, and their state.
pub(super) async fn abort(
    client: &Client,
    report: &Report,
    targets: &[PathBuf],
) -> Result<ExitCode, Failure> {
    let store = store()?;
    let stored = stored(&store)?;
    for target in targets {
        let text = target.to_string_lossy();
        let url = value::url(&text).ok();
        let path = absolute(target).ok();
        let matching: Vec<_> = stored
            .iter()
            .filter(|upload| match &url {
                Some(url) => upload.url.iter().chain(&upload.parts).any(|one| one == url),
                None => path.is_some() && upload.source == path,
            })
            .collect();
        let mut urls: Vec<_> = matching
            .iter()
            .flat_map(|upload| upload.parts.iter().chain(&upload.url))
            .collect();
        match &url {
            // One of another machine or user.
            Some(url) if matching.is_empty() => urls.push(url),
            None if matching.is_empty() => {
                return Err(Failure::new(
                    FailureClass::Failed,
                    format!("no unfinished upload of {text}; --list shows all"),
                ));
            }
            _ => {}
        }
        urls.dedup();
        for url in urls {
            client.terminate(url).await?;
            report.record(&Record::Terminated { url: url.as_str() });
            report.message(&format!("removed {url}"));
        }
        for upload in matching {
            store.remove(&upload.name).map_err(state_failure)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn store() -> Result<FileFingerprints, Failure> {
    state::fingerprints().ok_or_else(|| {
        Failure::new(
            FailureClass::Failed,
            "HOME is not set, so there is no state of uploads",
        )
    })
}

fn stored(store: &FileFingerprints) -> Result<Vec<StoredUpload>, Failure> {
    store.list().map_err(state_failure)
}

fn state_failure(error: std::io::Error) -> Failure {
    Failure::new(
        FailureClass::Failed,
        format!("failed to access the state of uploads: {error}"),
    )
}
