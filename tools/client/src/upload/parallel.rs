//! Parallel uploads by concatenation (tus).

use futures_util::future::try_join_all;
use http::HeaderValue;
use landfall_protocol::headers::{UPLOAD_CONCAT, UPLOAD_DEFER_LENGTH};
use url::Url;

use super::{
    Dialect,
    transfer::{Job, Transfer, Transferred},
};
use crate::{Error, Event, fingerprint::PartRecord, source::Content};

const MIN_PART_BYTES: u64 = 1024 * 1024;
const MAX_PARTS: usize = 64;

/// Divides a source into the parts of a new upload: one, unless the settings, server and source allow more.
pub(super) fn plan(job: &Job, content: &Content, dialect: Dialect) -> Vec<PartRecord> {
    let length = content.length().unwrap_or_default();
    let can_divide = dialect == Dialect::Tus
        && job.capabilities.has("concatenation")
        && job.settings.url.is_none()
        && !job.settings.deferred
        && !job.settings.creates_only
        && !matches!(content, Content::Stream(_));
    let wanted = job.settings.parallel.clamp(1, MAX_PARTS) as u64;
    let count = match can_divide {
        true => wanted.min(length / MIN_PART_BYTES).max(1),
        false => 1,
    };
    let size = length / count;
    (0..count)
        .map(|number| PartRecord {
            start: number * size,
            length: match number + 1 == count {
                true => length - number * size,
                false => size,
            },
            url: None,
        })
        .collect()
}

/// Uploads the parts, and concatenates them.
pub(super) async fn run(
    job: &mut Job,
    content: Content,
    parts: &[PartRecord],
) -> Result<Transferred, Error> {
    let transfers = parts.iter().enumerate().map(|(number, part)| {
        let content = content.try_clone();
        let content = content.ok_or_else(|| Error::Unsupported("parts of a stream".into()));
        let job = job.clone();
        async move {
            let transfer = Transfer::new(job, content?, Dialect::Tus)
                .partial(number, part.start, part.length)
                .resuming(part.parsed_url());
            transfer.run().await
        }
    });
    let transferred = try_join_all(transfers).await?;
    let mut resumed_from = 0;
    let mut urls = String::from("final;");
    for (number, part) in transferred.iter().enumerate() {
        resumed_from += part.resumed_from;
        if number > 0 {
            urls.push(' ');
        }
        urls.push_str(part.url.as_str());
    }
    let concat = HeaderValue::try_from(urls)
        .map_err(|_| Error::Protocol("the URL of a partial upload is invalid".into()))?;
    let length = parts.iter().map(|part| part.length).sum();
    let session = job.sender.session.clone();
    let created = session
        .retried(job.client.backoff(), || concatenate(job, &concat))
        .await;
    if let (Err(Error::Gone(_)), Some(recorder)) = (&created, &job.recorder) {
        // The next run starts anew.
        recorder.remove().await?;
    }
    let (url, response) = created?;
    session
        .retried(job.client.backoff(), || expect_joined(job, &url, length))
        .await?;
    Ok(Transferred {
        url,
        length,
        resumed_from,
        response,
    })
}

/// Creates the final upload.
async fn concatenate(job: &Job, concat: &HeaderValue) -> Result<(Url, Vec<u8>), Error> {
    let request = Dialect::Tus.create(&job.endpoint, &job.settings, None, None)?;
    let mut request = request.with(UPLOAD_CONCAT, concat.clone());
    request.headers.remove(UPLOAD_DEFER_LENGTH);
    let response = job.sender.session.send(request).await?;
    let mut response = response.successful().await?;
    let url = response.location()?;
    let body = response.read().await?;
    job.sender
        .session
        .meter
        .emit(|| Event::Created { url: url.clone() });
    Ok((url, body))
}

/// Verifies that the final upload has the bytes of all parts. A server may join them later.
async fn expect_joined(job: &Job, url: &Url, length: u64) -> Result<(), Error> {
    let status = match Dialect::Tus.inspect(&job.sender.session, url.clone()).await {
        Ok(status) => status,
        // Before the parts are joined, there is no Upload-Offset.
        Err(Error::Protocol(reason)) => return Err(Error::Connection(reason.into())),
        Err(error) => return Err(error),
    };
    match status.length {
        Some(other) if other != length => Err(Error::Protocol(format!(
            "the final upload has a length of {other} bytes, its parts of {length}"
        ))),
        _ if status.offset < length => {
            let text = format!("the final upload has {} of {length} bytes", status.offset);
            Err(Error::Connection(text.into()))
        }
        _ => Ok(()),
    }
}
