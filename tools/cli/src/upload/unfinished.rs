//! Unfinished uploads: `--list` and `--abort`.

use std::{
    path::{PathBuf, absolute},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream};
use landfall_client::{Client, Error, FileFingerprints, FingerprintStore as _, StoredUpload, Url};
use landfall_protocol::units::size_text;

use crate::{
    arguments::value,
    exit::Failure,
    report::{Record, Report},
    state,
    text::{printable, short_cause, short_duration},
};

/// The longest time for a server to report its offsets.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONCURRENCY: usize = 8;

/// Prints the unfinished uploads of this user, the oldest first, with the offsets of their servers.
pub(super) async fn list(
    client: &Client,
    report: &Report,
    is_json: bool,
) -> Result<ExitCode, Failure> {
    let mut uploads = stored(&store()?)?;
    uploads.sort_by_key(|upload| upload.created);
    let mut offsets = stream::iter(&uploads)
        .map(|upload| async move { (upload, offset(client, upload).await) })
        .buffered(MAX_CONCURRENCY);
    while let Some((upload, offset)) = offsets.next().await {
        let age = SystemTime::now().duration_since(upload.created);
        let age = age.unwrap_or_default();
        let file = upload.source.to_string_lossy();
        let url = upload.url.as_ref().or(upload.parts.first());
        let url = url.map(Url::as_str);
        let known = offset.as_ref().and_then(|sum| sum.as_ref().ok());
        report.record(&Record::Unfinished {
            file: &file,
            url,
            endpoint: &upload.endpoint,
            offset: known.copied(),
            length: upload.length,
            age: age.as_secs(),
        });
        if !is_json {
            let url = url.unwrap_or(&upload.endpoint);
            let (length, age) = (size_text(upload.length), short_duration(age));
            let offset = match offset {
                Some(Ok(offset)) => format!("{} of {length}", size_text(offset)),
                // Rejected, removed or expired.
                Some(Err(Error::Gone(_))) => format!("{length}, not on the server"),
                Some(Err(error @ (Error::Rejected(_) | Error::Unauthorized(_)))) => {
                    let cause = printable(&short_cause(&error.to_string()));
                    format!("{length}, rejected ({cause})")
                }
                _ => format!("unknown of {length}"),
            };
            let file = printable(&file);
            crate::print(&format!("{file}\t{url}\t{offset}\t{age} ago\n"));
        }
    }
    if uploads.is_empty() {
        report.message("no unfinished uploads");
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the bytes that the server has; `None` if it does not respond in time.
async fn offset(client: &Client, upload: &StoredUpload) -> Option<Result<u64, Error>> {
    let sum = async {
        let mut sum = 0;
        for url in upload.url.iter().chain(&upload.parts) {
            sum += client.inspect(url).await?.offset;
        }
        Ok(sum)
    };
    tokio::time::timeout(TIMEOUT, sum).await.ok()
}

/// Removes uploads from their servers, and their state.
pub(super) async fn abort(
    client: &Client,
    report: &Report,
    targets: &[PathBuf],
) -> Result<ExitCode, Failure> {
    let store = store()?;
    let stored = stored(&store)?;
    let terminate = async |url: &Url| {
        client.terminate(url).await?;
        report.record(&Record::Terminated { url: url.as_str() });
        report.message(&format!("removed {url}"));
        Ok::<_, Failure>(())
    };
    let mut result = Ok(());
    for target in targets {
        let text = target.to_string_lossy();
        let url = value::url(&text).ok();
        let path = absolute(target).ok();
        let is_target = |upload: &&StoredUpload| match (&url, &path) {
            (Some(url), _) => upload.parts.iter().chain(&upload.url).any(|one| one == url),
            // The file, or one below the folder.
            (None, Some(path)) => upload.source.starts_with(path),
            (None, None) => false,
        };
        let matching: Vec<_> = stored.iter().filter(is_target).collect();
        match &url {
            // One of another machine or user.
            Some(url) if matching.is_empty() => terminate(url).await?,
            None if matching.is_empty() => {
                let reason = format!("no unfinished upload of {text}; --list shows all");
                return Err(Failure::new(reason));
            }
            _ => {}
        }
        for upload in matching {
            let remove = async {
                for url in upload.parts.iter().chain(&upload.url) {
                    terminate(url).await?;
                }
                store.remove(&upload.name).map_err(state_failure)
            };
            // A failure does not keep the others.
            result = result.and(remove.await);
        }
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn store() -> Result<FileFingerprints, Failure> {
    let missing = || Failure::new("HOME is not set, so there is no state of uploads");
    state::fingerprints().ok_or_else(missing)
}

fn stored(store: &FileFingerprints) -> Result<Vec<StoredUpload>, Failure> {
    store.list().map_err(state_failure)
}

fn state_failure(error: std::io::Error) -> Failure {
    Failure::new(format!("failed to access the state of uploads: {error}"))
}
