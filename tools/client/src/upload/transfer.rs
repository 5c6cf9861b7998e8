//! One upload resource: creates it, appends to it, and recovers from failures.

use std::sync::Arc;

use landfall_protocol::headers::UPLOAD_CONCAT;
use url::Url;

use super::{
    ChunkSender, ChunkSize, Dialect, UploadSettings,
    dialect::{Accepted, AppendHead},
};
use crate::{
    Capabilities, Error, Event, fingerprint::Recorder, retry::Backoff, shared::Shared,
    source::Content,
};

/// Up to this size an upload is created and filled by one request, and sent again as a whole if that fails.
const MAX_SINGLE_REQUEST_BYTES: u64 = 1024 * 1024;
/// The content of one request where a whole file cannot be sent.
const CHUNK_BYTES: u64 = 8 * 1024 * 1024;

/// The state that all resources of one upload share.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) client: Arc<Shared>,
    pub(crate) settings: Arc<UploadSettings>,
    pub(crate) endpoint: Url,
    pub(crate) capabilities: Capabilities,
    pub(crate) sender: ChunkSender,
    pub(crate) recorder: Option<Arc<Recorder>>,
}

/// One upload resource, which receives a range of the source.
pub(crate) struct Transfer {
    pub(super) job: Job,
    pub(super) content: Content,
    /// The range of the source; the end may be unknown.
    pub(super) start: u64,
    pub(super) end: Option<u64>,
    pub(super) dialect: Dialect,
    /// The index in the record; partial uploads have one each.
    pub(super) part: usize,
    pub(super) is_partial: bool,
    pub(super) url: Option<Url>,
    /// True if the resource was created by an earlier run or by the caller.
    pub(super) is_resumed: bool,
    /// The offset of the server; `None` if it has to be requested.
    pub(super) offset: Option<u64>,
    /// The last known offset, for the events.
    pub(super) acknowledged: u64,
    /// The end of the bytes that were sent in this run or stored before: no server can have more.
    sent_end: u64,
    /// True after an append whose response does not say the offset.
    expects_progress: bool,
    /// True if the server knows the length.
    pub(super) is_length_declared: bool,
    /// True if the creation must not have content, since one that had failed.
    pub(super) creates_empty: bool,
    pub(super) failed_request: Option<FailedRequest>,
    pub(super) max_append_size: Option<u64>,
    pub(super) backoff: Backoff,
    pub(super) restarts: u32,
    pub(super) resumed_from: u64,
    pub(super) response: Vec<u8>,
}

/// A request with content that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedRequest {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) sent: u64,
}

/// A resource that has all bytes.
#[derive(Debug)]
pub(crate) struct Transferred {
    pub(crate) url: Url,
    pub(crate) length: u64,
    pub(crate) resumed_from: u64,
    pub(crate) response: Vec<u8>,
}

impl Transfer {
    pub(crate) fn new(job: Job, content: Content, dialect: Dialect) -> Self {
        let backoff = job.client.backoff();
        let end = content.length();
        let max_append_size = job
            .capabilities
            .draft
            .and_then(|limits| limits.max_append_size);
        Self {
            job,
            content,
            start: 0,
            end,
            dialect,
            part: 0,
            is_partial: false,
            url: None,
            is_resumed: false,
            offset: None,
            acknowledged: 0,
            sent_end: 0,
            expects_progress: false,
            is_length_declared: false,
            creates_empty: false,
            failed_request: None,
            max_append_size: max_append_size.filter(|_| dialect != Dialect::Tus),
            backoff,
            restarts: 0,
            resumed_from: 0,
            response: Vec::new(),
        }
    }

    /// Makes it a partial upload of a range of the source.
    pub(crate) fn partial(mut self, part: usize, start: u64, length: u64) -> Self {
        self.part = part;
        self.start = start;
        self.end = Some(start + length);
        self.is_partial = true;
        self
    }

    /// Continues an earlier upload.
    pub(crate) fn resuming(mut self, url: Option<Url>) -> Self {
        self.is_resumed = url.is_some();
        self.url = url;
        self
    }

    /// Runs until the resource has all bytes.
    pub(crate) async fn run(mut self) -> Result<Transferred, Error> {
        let session = self.job.sender.session.clone();
        loop {
            match session.guarded(self.step()).await? {
                Some(Ok(None)) => {}
                Some(Ok(Some(transferred))) => return Ok(transferred),
                Some(Err(error)) => self.recover(error).await?,
                // The request was dropped.
                None => self.offset = None,
            }
        }
    }

    /// Sends one request, or finds that all bytes are there.
    async fn step(&mut self) -> Result<Option<Transferred>, Error> {
        match (self.url.clone(), self.offset) {
            (None, _) => self.create().await,
            (Some(url), None) => self.inspect(url).await,
            (Some(url), Some(offset)) => self.append(url, offset).await,
        }
    }

    /// Returns the length of the resource, if it is known.
    fn length(&self) -> Option<u64> {
        self.end.map(|end| end - self.start)
    }

    /// Returns the maximum content of the next request.
    fn max_chunk(&self, url: &Url) -> u64 {
        let is_stream = matches!(self.content, Content::Stream(_));
        let wanted = match self.job.settings.chunk_size {
            ChunkSize::Fixed(bytes) => bytes.max(1),
            ChunkSize::Auto if is_stream || self.job.sender.checksum.is_some() => CHUNK_BYTES,
            ChunkSize::Auto => u64::MAX,
        };
        wanted
            .min(self.job.client.hosts.max_chunk(url))
            .min(self.max_append_size.unwrap_or(u64::MAX).max(1))
    }

    async fn create(&mut self) -> Result<Option<Transferred>, Error> {
        let endpoint = self.job.endpoint.clone();
        let max = self.max_chunk(&endpoint);
        let defers = self.job.settings.deferred && self.dialect == Dialect::Tus;
        let chunk = self.content.prepare(self.start, self.end, max).await?;
        if self.end.is_none() && chunk.is_last {
            self.set_end(self.start + chunk.length);
        }
        let length = self.length().filter(|_| !defers);
        if length.is_none() && self.dialect == Dialect::Tus && !self.has("creation-defer-length") {
            let what = "uploads of unknown length (creation-defer-length)";
            return Err(Error::Unsupported(what.into()));
        }
        let takes_content = match self.dialect {
            Dialect::Tus => self.has("creation-with-upload"),
            Dialect::Draft(_) => true,
        };
        let has_content = takes_content
            && !self.job.settings.creates_only
            && !self.creates_empty
            // A lost connection must not cost a whole part.
            && !self.is_partial
            && chunk.is_last
            && chunk.length <= MAX_SINGLE_REQUEST_BYTES
            && length.is_some_and(|length| length > 0 || self.dialect != Dialect::Tus);
        let sent = if has_content { chunk.length } else { 0 };
        // The next attempt creates the upload first, so that its bytes need not be sent again.
        self.creates_empty = true;
        let checksum = match has_content {
            true => {
                self.job
                    .sender
                    .head_checksum(&self.content, self.start, sent)
                    .await?
            }
            false => None,
        };
        let head = has_content.then_some(AppendHead {
            offset: 0,
            is_last: true,
            new_length: None,
            checksum: checksum.as_ref(),
        });
        let settings = &self.job.settings;
        let mut request = self.dialect.create(&endpoint, settings, length, head)?;
        if self.is_partial {
            let value = http::HeaderValue::from_static("partial");
            request.headers.insert(UPLOAD_CONCAT, value);
        }
        let (response, sent) = match has_content {
            true => {
                let (sender, content) = (&self.job.sender, &mut self.content);
                sender.send(request, content, self.start, sent, 0).await
            }
            false => (self.job.sender.session.send(request).await, 0),
        };
        self.sent_end = self.sent_end.max(sent);
        let mut response = response?;
        if !response.status.is_success() {
            return self.creation_failed(response.headers.clone(), response.into_error().await);
        }
        let url = response.location();
        let accepted =
            self.dialect
                .accepted(&response, self.length().filter(|_| has_content), true);
        self.response = response.read().await?;
        // A complete upload of the draft may have no URL.
        let url = match accepted.is_complete {
            true => url.unwrap_or(endpoint),
            false => url?,
        };
        self.is_length_declared = length.is_some();
        self.url = Some(url.clone());
        let accepted = Accepted {
            offset: accepted.offset.or(match self.dialect {
                Dialect::Tus => Some(0),
                Dialect::Draft(_) => Some(sent),
            }),
            ..accepted
        };
        let done = self.accept(&url, accepted)?;
        if done.is_none() || self.job.settings.creates_only {
            self.record(Some(&url)).await?;
        }
        // After that: a program that ends now resumes the upload.
        self.job
            .sender
            .session
            .meter
            .emit(|| Event::Created { url });
        Ok(done)
    }

    async fn inspect(&mut self, url: Url) -> Result<Option<Transferred>, Error> {
        let session = self.job.sender.session.clone();
        let status = self.dialect.inspect(&session, url.clone()).await?;
        if let (Some(length), Some(wanted)) = (status.length, self.length())
            && length != wanted
        {
            return Err(Error::SourceChanged(format!(
                "the upload has a length of {length} bytes, the source of {wanted}"
            )));
        }
        self.is_length_declared = status.length.is_some();
        if let Some(max) = status.limits.max_append_size {
            self.max_append_size = Some(max);
        }
        if std::mem::take(&mut self.is_resumed) {
            self.sent_end = status.offset;
            self.resumed_from = status.offset;
            let offset = status.offset;
            session.meter.emit(|| Event::Resumed {
                url: url.clone(),
                offset,
            });
        }
        self.reduce_chunk(&url, status.offset);
        let is_complete = status.complete && self.dialect != Dialect::Tus;
        let accepted = Accepted {
            offset: Some(status.offset),
            is_complete,
        };
        let has_progress = self.backoff.is_progress(status.offset);
        let done = self.accept(&url, accepted)?;
        match std::mem::take(&mut self.expects_progress) && !has_progress && done.is_none() {
            true => Err(no_progress(status.offset)),
            false => Ok(done),
        }
    }

    async fn append(&mut self, url: Url, offset: u64) -> Result<Option<Transferred>, Error> {
        let max = self.max_chunk(&url);
        let at = self.start + offset;
        let chunk = self.content.prepare(at, self.end, max).await?;
        if self.end.is_none() && chunk.is_last {
            self.set_end(at + chunk.length);
        }
        let checksum = self
            .job
            .sender
            .head_checksum(&self.content, at, chunk.length)
            .await?;
        let needs_length = !self.is_length_declared
            && match self.dialect {
                Dialect::Tus => chunk.is_last,
                Dialect::Draft(_) => false,
            };
        let head = AppendHead {
            offset,
            is_last: chunk.is_last,
            new_length: self.length().filter(|_| needs_length),
            checksum: checksum.as_ref(),
        };
        let request = self.dialect.append(&url, &head);
        let read_ahead = max.saturating_mul(2);
        let sent_before = self.sent_end;
        // Stays if the request is dropped.
        self.sent_end = sent_before.max(offset + chunk.length);
        let (sender, content) = (&self.job.sender, &mut self.content);
        let (response, sent) = sender
            .send(request, content, at, chunk.length, read_ahead)
            .await;
        self.sent_end = sent_before.max(offset + sent);
        // Stays if the request fails.
        self.failed_request = Some(FailedRequest {
            offset,
            length: chunk.length,
            sent,
        });
        self.offset = None;
        let mut response = response?;
        if !response.status.is_success() {
            return self.append_failed(&url, chunk.length, response).await;
        }
        self.failed_request = None;
        self.job.client.hosts.succeeded(&url, chunk.length);
        self.is_length_declared |= needs_length;
        let accepted =
            self.dialect
                .accepted(&response, self.length().filter(|_| chunk.is_last), false);
        if let Some(stored) = accepted.offset
            && stored < offset
        {
            return Err(Error::Protocol(format!(
                "Upload-Offset is {stored} after {sent} bytes at {offset}"
            )));
        }
        self.response = response.read().await?;
        if accepted.is_complete || accepted.offset.is_some() {
            let stored = accepted.offset.unwrap_or(offset + sent);
            let accepted = Accepted {
                offset: Some(stored),
                ..accepted
            };
            let done = self.accept(&url, accepted)?;
            return match done.is_none() && stored == offset {
                true => Err(no_progress(offset)),
                false => Ok(done),
            };
        }
        self.expects_progress = true;
        Ok(None)
    }

    /// Records the state that the server reports.
    ///
    /// # Errors
    /// [`Error::Protocol`] if it cannot be: bytes that were never sent, or an upload that is over without all bytes.
    fn accept(&mut self, url: &Url, accepted: Accepted) -> Result<Option<Transferred>, Error> {
        let offset = accepted.offset.unwrap_or_default();
        let length = self.length();
        if offset > self.sent_end.min(length.unwrap_or(u64::MAX)) {
            return Err(Error::Protocol(format!(
                "Upload-Offset is {offset}, and the client has sent {} bytes",
                self.sent_end
            )));
        }
        if accepted.is_complete && length != Some(offset) {
            return Err(Error::Protocol(match length {
                Some(length) => format!(
                    "the upload is complete at {offset} of {length} bytes, so the rest is lost"
                ),
                None => format!("the upload is complete at {offset} bytes, before its end"),
            }));
        }
        let meter = &self.job.sender.session.meter;
        meter.acknowledge(self.acknowledged, offset);
        self.acknowledged = offset;
        self.offset = Some(offset);
        self.backoff.reached(offset);
        let has_all = length == Some(offset) && self.is_length_declared;
        let is_complete = match self.dialect {
            Dialect::Tus => has_all,
            Dialect::Draft(_) => accepted.is_complete,
        };
        Ok(
            (is_complete || self.job.settings.creates_only).then(|| Transferred {
                url: url.clone(),
                length: length.unwrap_or(offset),
                resumed_from: self.resumed_from,
                response: std::mem::take(&mut self.response),
            }),
        )
    }

    /// Begins a new resource, which has nothing of the earlier one.
    pub(super) fn forget_sent(&mut self) {
        self.sent_end = 0;
        self.expects_progress = false;
    }

    fn set_end(&mut self, end: u64) {
        self.end = Some(end);
        self.job.sender.session.meter.set_total(end);
    }

    fn has(&self, extension: &str) -> bool {
        self.job.capabilities.has(extension)
    }

    pub(super) async fn record(&self, url: Option<&Url>) -> Result<(), Error> {
        match (&self.job.recorder, &self.content) {
            (Some(recorder), Content::File(file)) => {
                recorder
                    .set_url(self.part, url.map(Url::as_str), file)
                    .await
            }
            _ => Ok(()),
        }
    }
}

/// Returns the error of a success without effect, which counts as a failed attempt.
fn no_progress(offset: u64) -> Error {
    let text = format!("the server accepts the content, and Upload-Offset stays {offset}");
    Error::Connection(text.into())
}
