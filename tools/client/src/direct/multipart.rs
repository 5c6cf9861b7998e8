//! Multipart uploads, which can be resumed.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{get, post, route, send_content};
use crate::{
    ChunkSize, Completed, Error, Event,
    fingerprint::{PartRecord, Recorder},
    http::{Request, Session},
    source::Content,
    upload::{OpenedUpload, UploadSettings, open_record},
};

/// Limits of S3.
const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;
const MAX_PARTS: u64 = 10_000;
const PART_BYTES: u64 = 8 * 1024 * 1024;
const MAX_CONCURRENCY: usize = 64;

#[derive(Deserialize)]
struct Created {
    key: String,
    #[serde(rename = "uploadId")]
    upload_id: String,
}

#[derive(Serialize, Deserialize)]
struct Part {
    #[serde(rename = "PartNumber")]
    number: u64,
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(rename = "Size", skip_serializing)]
    size: u64,
}

#[derive(Deserialize)]
struct SignedPart {
    url: Url,
}

#[derive(Deserialize)]
struct CompletedMultipart {
    location: Url,
    #[serde(default)]
    message: String,
}

/// The routes of one multipart upload.
struct Multipart {
    endpoint: Url,
    key: String,
    id: String,
}

impl Multipart {
    fn url(&self, segments: &[&str]) -> Result<Url, Error> {
        let mut url = route(&self.endpoint, "s3/multipart")?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(&self.id).extend(segments);
        }
        url.query_pairs_mut().append_pair("key", &self.key);
        Ok(url)
    }

    /// Returns the parts that S3 has, by number.
    async fn parts(&self, session: &Session) -> Result<BTreeMap<u64, Part>, Error> {
        let listed: Vec<Part> = get(session, &self.url(&[])?).await?;
        Ok(listed.into_iter().map(|part| (part.number, part)).collect())
    }
}

pub(super) async fn run(run: OpenedUpload, length: u64) -> Result<Completed, Error> {
    let session = run.sender.session.clone();
    let (client, settings) = (&run.client, &run.settings);
    let (recorder, record) = open_record(
        client,
        settings,
        &run.endpoint,
        &run.content,
        "multipart",
        &session,
    )
    .await?;
    let recorded = record.and_then(|mut record| {
        let id = record.parts.pop()?.url?;
        let key = record.key?;
        let endpoint = run.endpoint.clone();
        Some(Multipart { endpoint, key, id })
    });
    let mut existing = None;
    if let Some(upload) = recorded {
        match session
            .retried(run.client.backoff(), || upload.parts(&session))
            .await
        {
            Ok(parts) => existing = Some((upload, parts)),
            Err(error @ (Error::Gone(_) | Error::Rejected(_))) => {
                let reason = error.to_string();
                session.meter.emit(|| Event::StartedAnew { reason });
            }
            Err(error) => return Err(error),
        }
    }
    let (upload, stored) = match existing {
        Some(existing) => existing,
        None => (
            create(&run, length, recorder.as_ref()).await?,
            BTreeMap::new(),
        ),
    };
    let size = part_size(settings, length);
    let mut resumed_from = 0;
    let mut done = Vec::new();
    let mut missing = Vec::new();
    for number in 1..=length.div_ceil(size) {
        let offset = (number - 1) * size;
        let bytes = size.min(length - offset);
        match stored.get(&number) {
            Some(part) if part.size == bytes => {
                resumed_from += bytes;
                done.push((number, part.etag.clone()));
            }
            _ => missing.push((number, offset, bytes)),
        }
    }
    session.meter.acknowledge(0, resumed_from);
    if resumed_from > 0 {
        let (url, offset) = (run.endpoint.clone(), resumed_from);
        session.meter.emit(|| Event::Resumed { url, offset });
    }
    let concurrency = settings.parallel.clamp(1, MAX_CONCURRENCY);
    let (run, upload, session) = (&run, &upload, &session);
    let sent: Vec<_> = stream::iter(missing)
        .map(|(number, offset, bytes)| async move {
            let backoff = run.client.backoff();
            let send = || send_part(run, upload, number, offset, bytes);
            let etag = session.retried(backoff, send).await?;
            session.meter.acknowledge(0, bytes);
            Ok::<_, Error>((number, etag))
        })
        .buffer_unordered(concurrency)
        .try_collect()
        .await?;
    done.extend(sent);
    done.sort_unstable();
    if let Content::File(file) = &run.content {
        file.check_unchanged()?;
    }
    let parts: Vec<Value> = done
        .into_iter()
        .map(|(number, etag)| json!({ "PartNumber": number, "ETag": etag }))
        .collect();
    let url = upload.url(&["complete"])?;
    let parts = json!({ "parts": parts });
    let completed: CompletedMultipart = session
        .retried(run.client.backoff(), || post(session, &url, &parts))
        .await?;
    if let Some(recorder) = recorder {
        recorder.remove().await?;
    }
    Ok(Completed {
        url: completed.location,
        length,
        bytes_sent: session.meter.transferred(),
        requests: session.requests(),
        resumed_from,
        response: completed.message.into_bytes(),
    })
}

async fn create(
    run: &OpenedUpload,
    length: u64,
    recorder: Option<&Arc<Recorder>>,
) -> Result<Multipart, Error> {
    let settings = &run.settings;
    let session = &run.sender.session;
    let mut fields = json!({
        "filename": settings.metadata_text("filename").unwrap_or("file"),
        "type": settings.metadata_text("filetype"),
        "size": length,
        "metadata": other_metadata(settings),
    });
    if settings.token.is_none() {
        fields["request_id"] = format!("{:032x}", rand::random::<u128>()).into();
    }
    let url = route(&run.endpoint, "s3/multipart")?;
    let backoff = run.client.backoff();
    let created: Created = session
        .retried(backoff, || post(session, &url, &fields))
        .await?;
    if let (Some(recorder), Content::File(file)) = (recorder, &run.content) {
        let part = PartRecord {
            start: 0,
            length,
            url: None,
        };
        recorder.start("multipart", vec![part]);
        recorder.set_key(&created.key);
        recorder.set_url(0, Some(&created.upload_id), file).await?;
    }
    let url = run.endpoint.clone();
    session.meter.emit(|| Event::Created { url });
    Ok(Multipart {
        endpoint: run.endpoint.clone(),
        key: created.key,
        id: created.upload_id,
    })
}

async fn send_part(
    run: &OpenedUpload,
    upload: &Multipart,
    number: u64,
    offset: u64,
    length: u64,
) -> Result<String, Error> {
    let session = &run.sender.session;
    let signed: SignedPart = get(session, &upload.url(&[&number.to_string()])?).await?;
    let etag = send_content(run, Request::new(Method::PUT, signed.url), offset, length).await?;
    etag.ok_or_else(|| Error::Protocol(format!("the response to part {number} has no ETag")))
}

/// Returns the size of all parts but the last.
fn part_size(settings: &UploadSettings, length: u64) -> u64 {
    let wanted = match settings.chunk_size {
        ChunkSize::Auto => PART_BYTES,
        ChunkSize::Fixed(bytes) => bytes.max(MIN_PART_BYTES),
    };
    wanted.max(length.div_ceil(MAX_PARTS))
}

/// Returns the metadata without the name and the type, which are other fields.
pub(super) fn other_metadata(settings: &UploadSettings) -> Value {
    let pairs = settings.metadata.iter();
    let others = pairs.filter(|(key, _)| !matches!(key.as_str(), "filename" | "filetype"));
    let texts = others.map(|(key, value)| (key.clone(), String::from_utf8_lossy(value).into()));
    Value::Object(texts.collect())
}
