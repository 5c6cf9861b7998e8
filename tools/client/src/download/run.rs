//! Runs a download.

use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::try_join_all;
use landfall_protocol::Checksum;
use parking_lot::Mutex;
use url::Url;

use super::{
    Download, Downloaded, Target,
    range::{self, RangeResponse},
    sink::{FileSink, State, WRITE_BYTES, WriterSink},
};
use crate::{
    Error, Event,
    http::Session,
    progress::{Meter, RequestBytes},
    shared::{Shared, parse_url},
};

/// The first range of a parallel download, which shows the size.
const FIRST_RANGE_BYTES: u64 = 1024 * 1024;
const MAX_CONNECTIONS: usize = 64;
/// The number of times that a download starts anew because the file on the server changed.
const MAX_RESTARTS: u32 = 3;

pub(super) async fn run(download: Download) -> Result<Downloaded, Error> {
    let Download {
        client,
        url,
        target,
        headers,
        parallel,
        restart,
        replaces,
        callback,
        control,
    } = download;
    let url = parse_url(&url)?;
    let meter = Meter::new(callback, None);
    let session = Arc::new(client.session(&url, headers, control, meter));
    let job = Job {
        client,
        session: session.clone(),
        url,
        digest: Mutex::new(None),
    };
    let (length, verified) = match target {
        Target::Writer(writer) => job.to_writer(writer).await?,
        Target::File(path) => {
            let sink = FileSink::open(path, replaces, job.url.as_str(), restart).await?;
            let mut restarts = 0;
            loop {
                match job.to_file(&sink, parallel.clamp(1, MAX_CONNECTIONS)).await {
                    Err(Error::SourceChanged(reason)) if restarts < MAX_RESTARTS => {
                        restarts += 1;
                        sink.restart();
                        session.meter.emit(|| Event::StartedAnew { reason });
                    }
                    other => break other?,
                }
            }
        }
    };
    session.meter.emit_progress();
    Ok(Downloaded {
        length,
        bytes_received: session.meter.transferred(),
        verified,
    })
}

struct Job {
    client: Arc<Shared>,
    session: Arc<Session>,
    url: Url,
    /// The digest of the whole, once a response had one.
    digest: Mutex<Option<Checksum>>,
}

impl Job {
    async fn to_file(&self, sink: &FileSink, parallel: usize) -> Result<(u64, bool), Error> {
        let state = match sink.state() {
            Some(state) => {
                let missing: u64 = state.missing.iter().map(|(first, end)| end - first).sum();
                let offset = state.length - missing;
                self.session.meter.set_total(state.length);
                self.session.meter.reset_acknowledged(offset);
                let url = self.url.clone();
                self.session.meter.emit(|| Event::Resumed { url, offset });
                state
            }
            None => {
                self.session.meter.reset_acknowledged(0);
                match self.start(sink, parallel).await? {
                    Some(state) => state,
                    // All bytes were received at once.
                    None => return self.finish_file(sink).await,
                }
            }
        };
        let ranges = state.missing.iter().enumerate();
        let ranges = ranges.filter(|(_, (first, end))| first < end);
        let running = ranges.map(|(number, (first, end))| {
            let mut cursor = Cursor::new(number, *first, Some(*end));
            cursor.validator = Some(state.validator.clone());
            cursor.total = Some(state.length);
            self.receive(sink, cursor)
        });
        try_join_all(running).await?;
        self.finish_file(sink).await
    }

    /// Receives the beginning, and divides the rest into ranges; `None` if there is no rest.
    async fn start(&self, sink: &FileSink, parallel: usize) -> Result<Option<State>, Error> {
        let end = (parallel > 1).then_some(FIRST_RANGE_BYTES);
        let mut backoff = self.client.backoff();
        loop {
            let cursor = Cursor::new(0, 0, end);
            let attempt = self.start_once(sink, parallel, cursor);
            match self.session.guarded(attempt).await? {
                Some(Ok(state)) => return Ok(state),
                Some(Err(error)) => self.session.wait_after(error, &mut backoff).await?,
                None => {}
            }
        }
    }

    async fn start_once(
        &self,
        sink: &FileSink,
        parallel: usize,
        mut cursor: Cursor,
    ) -> Result<Option<State>, Error> {
        let request = |end| range::request_first(&self.session, &self.url, end);
        let mut first = request(cursor.end).await?;
        if first.is_partial
            && first.validator.is_none()
            && first.total > cursor.end
            && cursor.end.is_some()
        {
            // Ranges cannot be put together: one response has to have all bytes.
            cursor.end = None;
            first = request(None).await?;
        }
        self.digest.lock().clone_from(&first.digest);
        if let Some(total) = first.total {
            self.session.meter.set_total(total);
        }
        let state = match (first.total, &first.validator) {
            (Some(length), Some(validator)) => {
                let received = cursor.end.unwrap_or(length).min(length);
                cursor.end = Some(received);
                let mut missing = vec![(0, received)];
                missing.extend(divide(received, length, parallel));
                Some(State {
                    url: self.url.to_string(),
                    validator: validator.clone(),
                    length,
                    missing,
                })
            }
            _ => {
                // The response is the whole.
                cursor.end = first.total;
                cursor.is_whole = true;
                None
            }
        };
        sink.start(state.clone(), first.total.unwrap_or_default())
            .await?;
        let can_resume = state.is_some();
        match self.read(sink, &mut cursor, first).await {
            Ok(()) => {}
            // The rest is requested like other ranges.
            Err(error) if can_resume && error.is_transient() => {}
            Err(error) => return Err(error),
        }
        Ok(sink.state())
    }

    /// Receives a range, with retries.
    async fn receive(&self, sink: &FileSink, mut cursor: Cursor) -> Result<(), Error> {
        let mut backoff = self.client.backoff();
        while cursor.end.is_none_or(|end| cursor.offset < end) {
            backoff.reached(cursor.offset);
            let attempt = async {
                let validator = cursor.validator.as_deref();
                let (start, end) = (cursor.offset, cursor.end);
                let response = range::request(&self.session, &self.url, start, end, validator);
                let response = response.await?;
                let is_other = response
                    .total
                    .is_some_and(|total| Some(total) != cursor.total);
                if is_other || response.start != start {
                    return Err(Error::SourceChanged(
                        "the file on the server changed".into(),
                    ));
                }
                if response.digest.is_some() {
                    self.digest.lock().clone_from(&response.digest);
                }
                self.read(sink, &mut cursor, response).await
            };
            if let Some(Err(error)) = self.session.guarded(attempt).await? {
                backoff.reached(cursor.offset);
                self.session.wait_after(error, &mut backoff).await?;
            }
        }
        Ok(())
    }

    /// Writes the body of a response to the file, up to the end of the range.
    async fn read(
        &self,
        sink: &FileSink,
        cursor: &mut Cursor,
        mut range: RangeResponse,
    ) -> Result<(), Error> {
        let bytes = RequestBytes::new(self.session.meter.clone());
        let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
        loop {
            let rest = cursor
                .end
                .map(|end| end - cursor.offset - buffer.len() as u64);
            let chunk = match rest {
                Some(0) if !cursor.is_whole => None,
                _ => match range.response.chunk().await {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        // Received bytes are not requested again.
                        self.flush(sink, cursor, &mut buffer, &bytes).await?;
                        return Err(error);
                    }
                },
            };
            let Some(mut chunk) = chunk else { break };
            if cursor.is_whole && rest.is_some_and(|rest| chunk.len() as u64 > rest) {
                return Err(too_long(cursor.end));
            }
            let rest = rest.and_then(|rest| usize::try_from(rest).ok());
            chunk.truncate(rest.unwrap_or(chunk.len()));
            self.client.limit(chunk.len()).await;
            bytes.add(chunk.len() as u64);
            buffer.extend_from_slice(&chunk);
            if buffer.len() >= WRITE_BYTES {
                self.flush(sink, cursor, &mut buffer, &bytes).await?;
            }
        }
        self.flush(sink, cursor, &mut buffer, &bytes).await?;
        match cursor.end {
            Some(end) if cursor.offset < end => Err(Error::Connection("the response ended".into())),
            _ => Ok(()),
        }
    }

    async fn flush(
        &self,
        sink: &FileSink,
        cursor: &mut Cursor,
        buffer: &mut BytesMut,
        bytes: &RequestBytes,
    ) -> Result<(), Error> {
        if buffer.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(buffer).freeze();
        let size = block.len() as u64;
        sink.write(cursor.number, block, cursor.offset).await?;
        cursor.offset += size;
        bytes.acknowledge(size);
        self.session.meter.acknowledge(0, size);
        buffer.reserve(WRITE_BYTES);
        Ok(())
    }

    async fn finish_file(&self, sink: &FileSink) -> Result<(u64, bool), Error> {
        let wanted = self.digest.lock().clone();
        let digest = match &wanted {
            Some(wanted) => Some(sink.digest(wanted).await?),
            None => None,
        };
        if wanted.as_ref().map(|wanted| &wanted.digest) != digest.as_ref() {
            sink.discard().await?;
            return Err(Error::DigestMismatch);
        }
        sink.finish().await?;
        Ok((self.session.meter.acknowledged(), digest.is_some()))
    }

    async fn to_writer(
        &self,
        writer: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    ) -> Result<(u64, bool), Error> {
        let mut sink = WriterSink::new(writer);
        let mut cursor = Cursor::new(0, 0, None);
        let mut buffer = BytesMut::new();
        let mut backoff = self.client.backoff();
        loop {
            let attempt = self.write_from(&mut sink, &mut cursor, &mut buffer);
            match self.session.guarded(attempt).await? {
                Some(Ok(())) => break,
                None => {}
                Some(Err(error)) => {
                    backoff.reached(cursor.offset);
                    self.session.wait_after(error, &mut backoff).await?;
                }
            }
        }
        let wanted = self.digest.lock().clone();
        let digest = sink.finish(wanted.as_ref()).await?;
        if wanted.as_ref().map(|wanted| &wanted.digest) != digest.as_ref() {
            return Err(Error::DigestMismatch);
        }
        Ok((cursor.offset, digest.is_some()))
    }

    /// Writes from the offset of the cursor to the end of the file.
    async fn write_from(
        &self,
        sink: &mut WriterSink,
        cursor: &mut Cursor,
        buffer: &mut BytesMut,
    ) -> Result<(), Error> {
        sink.write(buffer, &mut cursor.offset).await?;
        if cursor.offset > 0 && cursor.validator.is_none() {
            // Written bytes cannot be taken back.
            let reason = "the server has no ranges, so the download cannot continue";
            return Err(Error::Unsupported(reason.into()));
        }
        if cursor.offset > 0 && cursor.total == Some(cursor.offset) {
            return Ok(());
        }
        let validator = cursor.validator.as_deref();
        let mut range = match cursor.offset {
            0 => range::request_first(&self.session, &self.url, None).await?,
            offset => range::request(&self.session, &self.url, offset, None, validator).await?,
        };
        if cursor.offset == 0 {
            cursor.validator.clone_from(&range.validator);
            cursor.total = range.total;
            self.digest.lock().clone_from(&range.digest);
            sink.start(range.digest.as_ref());
            if let Some(total) = range.total {
                self.session.meter.set_total(total);
            }
        } else if range.total.is_some_and(|total| Some(total) != cursor.total) {
            return Err(Error::SourceChanged(
                "the file on the server changed".into(),
            ));
        }
        let bytes = RequestBytes::new(self.session.meter.clone());
        if range.total != Some(0) {
            while let Some(chunk) = range.response.chunk().await? {
                let end = cursor.offset + chunk.len() as u64;
                if cursor.total.is_some_and(|total| end > total) {
                    return Err(too_long(cursor.total));
                }
                self.client.limit(chunk.len()).await;
                bytes.add(chunk.len() as u64);
                buffer.extend_from_slice(&chunk);
                sink.write(buffer, &mut cursor.offset).await?;
                bytes.acknowledge(chunk.len() as u64);
                self.session.meter.acknowledge(0, chunk.len() as u64);
            }
        }
        match cursor.total {
            Some(total) if cursor.offset < total => {
                Err(Error::Connection("the response ended".into()))
            }
            _ => Ok(()),
        }
    }
}

/// The position in a range.
struct Cursor {
    number: usize,
    offset: u64,
    end: Option<u64>,
    validator: Option<String>,
    total: Option<u64>,
    /// True if one response has all bytes, and nothing else.
    is_whole: bool,
}

impl Cursor {
    fn new(number: usize, offset: u64, end: Option<u64>) -> Self {
        Self {
            number,
            offset,
            end,
            validator: None,
            total: None,
            is_whole: false,
        }
    }
}

fn too_long(length: Option<u64>) -> Error {
    let length = length.unwrap_or_default();
    Error::Protocol(format!(
        "the response has more than the {length} bytes of the file"
    ))
}

/// Divides the bytes between two offsets into ranges.
fn divide(start: u64, end: u64, parts: usize) -> Vec<(u64, u64)> {
    let size = (end - start).div_ceil(parts.max(1) as u64);
    let mut ranges = Vec::new();
    let mut at = start;
    while at < end {
        let next = at.saturating_add(size).min(end);
        ranges.push((at, next));
        at = next;
    }
    ranges
}
