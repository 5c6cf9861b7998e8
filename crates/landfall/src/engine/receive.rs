//! Receives the body of one request into an open [`Append`], and decides which of its bytes count.
//!
//! All work is dropped when the lease is lost. Unverified bytes do not count before their checksum matches. Bytes whose
//! offset was published are not discarded. The final offset is published after the commit.

use std::{
    mem,
    ops::Range,
    pin::{Pin, pin},
    sync::Arc,
};

use futures_core::Stream;
use http::HeaderMap;
use landfall_protocol::{Checksum, ChecksumPlacement, Problem, ProblemKind};

use super::{
    Engine, Error, RequestContext, add,
    ends::log_stop,
    live::{LiveUpload, Visibility},
    log_request,
    transfer::{BoxedObserver, Interruption, Transfer, TransferOutcome, WriteBatch},
    verifier::Verifier,
};
use crate::{
    REQUEST_LOG,
    lease::Lease,
    request_body::RequestBody,
    store::{Append, Read, now_or_later},
    upload::{Upload, UploadId},
};

pub(super) struct BodyStream<'a, B> {
    pub(super) body: &'a mut B,
    pub(super) content_length: Option<u64>,
    /// True if a limit of the request ends it before the upload is full.
    pub(super) limits_request: bool,
    pub(super) checksum: &'a mut ChecksumPlacement,
    pub(super) observer: Option<&'a BoxedObserver<'a>>,
}

pub(super) struct Received {
    pub(super) offset: u64,
    /// The largest offset that was told meanwhile.
    pub(super) told: u64,
    pub(super) interruption: Option<Interruption>,
}

impl RequestContext {
    /// Logs why the content of a request ends early.
    fn log_interruption(&self, upload: &Upload, offset: u64, cause: &Interruption) {
        if !tracing::enabled!(target: REQUEST_LOG, tracing::Level::DEBUG) {
            return;
        }
        let (request, id) = (self.log(), upload.id.as_str());
        let kind = match cause {
            Interruption::Overrun => ProblemKind::SizeExceeded,
            Interruption::Yielded => ProblemKind::Interrupted,
            Interruption::Stopped(_) => ProblemKind::Stopped,
            Interruption::Connection(fault) => ProblemKind::from(*fault),
            Interruption::TooLarge
            | Interruption::Lost
            | Interruption::Evicted
            | Interruption::Checksum(_) => return,
        };
        if matches!(cause, Interruption::Yielded) {
            let offset = request
                .is_none_or(|request| !request.is_lenient())
                .then_some(offset);
            log_request!(request, "UploadInterrupted", id, offset);
        }
        let error = Problem::from(kind).to_string();
        log_request!(request, "BodyReadError", id, error = error.trim_end());
    }
}

impl Engine {
    /// The bytes written before an error of the store still count.
    pub(super) async fn receive<B: RequestBody + Unpin>(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: &Arc<Upload>,
        append: Box<dyn Append>,
        lease: &Lease,
        remaining: u64,
        // By reference, since the futures would store it twice.
        body_stream: &mut BodyStream<'_, B>,
    ) -> Result<Received, Error> {
        let start = append.offset();
        let visibility = if body_stream.checksum.is_present() {
            Visibility::Verified
        } else if body_stream.content_length.is_some() {
            Visibility::Immediate
        } else {
            Visibility::AtEnd
        };
        let live = self.live.enter(upload.clone(), start, visibility, context);
        if self.in_flight.is_shutting_down() {
            live.shut_down();
        }
        self.start_progress();
        let length = body_stream.content_length;
        // As tusd, which limits the body to the length that the client states.
        let max = length.filter(|length| *length > 0).unwrap_or(remaining);
        let id = upload.id.as_str();
        log_request!(
            context.log(),
            "ChunkWriteStart",
            id,
            maxSize = max,
            offset = start
        );
        let length = length.map(|length| length.min(remaining));
        let mut transfer = Transfer {
            append,
            live: &live,
            signal: lease.signal(),
            remaining,
            limits_request: body_stream.limits_request,
            holds_last: visibility == Visibility::AtEnd,
            timeout: self.config.body_timeout,
            publish: visibility == Visibility::Immediate,
            observer: body_stream.observer,
            verifier: Verifier::new(body_stream.checksum),
            is_staged: false,
            batch: WriteBatch::new(&self.memory, length),
        };
        let transfer = &mut transfer;
        let work = async {
            match transfer.run(body_stream.body).await {
                Ok(outcome) => {
                    let checksum = &mut *body_stream.checksum;
                    self.complete_body(context, transfer, &live, start, checksum, outcome)
                        .await
                }
                Err(error) => {
                    // Boxed because it is rare: the largest branch sets the size of every request's future.
                    Box::pin(self.keep_received(transfer, visibility, start)).await;
                    Err(error)
                }
            }
        };
        // A store call that outlives the lease could overwrite data of the next holder.
        let received = lease.signal().unless_lost(pin!(work)).await;
        received.unwrap_or(Ok(Received {
            offset: start,
            told: start,
            interruption: Some(Interruption::Lost),
        }))
    }

    /// After an error of the store.
    async fn keep_received(&self, transfer: &mut Transfer<'_>, visibility: Visibility, start: u64) {
        transfer.batch.clear(Vec::new());
        let append = &mut transfer.append;
        let _ = if visibility == Visibility::Verified {
            append.discard_unverified().await
        } else {
            append.commit().await.map(drop)
        };
        add(
            &self.counters.bytes_received,
            append.offset().saturating_sub(start),
        );
    }

    async fn complete_body(
        self: &Arc<Self>,
        context: &RequestContext,
        transfer: &mut Transfer<'_>,
        live: &Arc<LiveUpload>,
        start: u64,
        checksum: &mut ChecksumPlacement,
        outcome: TransferOutcome,
    ) -> Result<Received, Error> {
        let (upload, visibility) = (&live.upload, live.visibility);
        let append = &mut transfer.append;
        let is_staged = transfer.is_staged;
        let mut interruption = match outcome {
            Ok(None) if !checksum.is_present() => None,
            Ok(trailers) => {
                let range = start..append.offset();
                let verifier = mem::take(&mut transfer.verifier);
                let checksum = mem::replace(checksum, ChecksumPlacement::None);
                let verified = self.verify(upload, range, visibility, verifier, checksum, trailers);
                // Boxed because it is rare: the largest branch sets the size of every request's future.
                let verified = Box::pin(async {
                    let verified = verified.await;
                    if verified.is_err() {
                        // Unverified bytes do not count.
                        let _ = append.discard_unverified().await;
                    }
                    verified
                });
                verified.await?.err().map(Interruption::Checksum)
            }
            Err(interruption) => Some(interruption),
        };
        if interruption.is_none() && visibility == Visibility::Verified && !live.start_write() {
            interruption = Some(Interruption::Yielded);
        }
        match &interruption {
            Some(Interruption::Lost) => {
                return Ok(Received {
                    offset: start,
                    told: start,
                    interruption,
                });
            }
            None if is_staged => append.accept_unverified().await?,
            None => {
                let mut bytes = transfer.batch.take();
                if !bytes.is_empty() {
                    now_or_later!(append.write_now(&mut bytes), append.write(&mut bytes))?;
                }
            }
            // Their offset may have been published, so they stay.
            Some(Interruption::Checksum(_)) if visibility == Visibility::Immediate => {}
            // Bytes that could not be verified do not count (`tus/checksum/large-mismatch`).
            Some(Interruption::Checksum(_)) => append.discard_unverified().await?,
            Some(_) if is_staged => append.discard_unverified().await?,
            // A rejected request changes nothing, unless another process has seen its bytes.
            Some(Interruption::Overrun)
                if visibility == Visibility::AtEnd && live.offset() == start =>
            {
                append.discard_unverified().await?;
            }
            Some(_) => {}
        }
        transfer.batch.clear(Vec::new());
        let offset = now_or_later!(append.commit_now(), append.commit())?;
        add(&self.counters.bytes_received, offset.saturating_sub(start));
        live.publish(offset);
        live.receive(offset);
        if let Some(cause) = &interruption {
            context.log_interruption(upload, offset, cause);
        }
        let (id, written) = (upload.id.as_str(), offset.saturating_sub(start));
        log_request!(
            context.log(),
            "ChunkWriteComplete",
            id,
            bytesWritten = written
        );
        if self.event_kinds.progress && upload.is_complete_at(offset) {
            // The last progress event precedes the completion event.
            self.emit_progress(live);
        }
        if offset > start && !upload.is_complete_at(offset) {
            for sink in &self.config.sinks {
                sink.record_offset(upload, offset);
            }
        }
        Ok(Received {
            offset,
            told: live.told(),
            interruption,
        })
    }

    /// The bytes of a body whose trailer was not declared were not hashed: they are read back. A body of
    /// known length cannot be verified so, because its offset may have been published.
    async fn verify(
        &self,
        upload: &Upload,
        range: Range<u64>,
        visibility: Visibility,
        verifier: Verifier,
        checksum: ChecksumPlacement,
        trailers: Option<Box<HeaderMap>>,
    ) -> Result<Result<(), Problem>, Error> {
        let stated = match checksum.with_trailers(trailers.as_deref()) {
            Ok(Some(stated)) => stated,
            Ok(None) => return Ok(Ok(())),
            Err(problem) => return Ok(Err(problem)),
        };
        let matches = match visibility {
            Visibility::Verified => Some(verifier.matches(&stated)),
            Visibility::AtEnd => self.read_back(upload, range, &stated).await?,
            Visibility::Immediate => None,
        };
        let Some(matches) = matches else {
            return Ok(Err(ProblemKind::InvalidChecksum.with_detail(
                "declare the trailer with `Trailer: Upload-Checksum`",
            )));
        };
        if !matches {
            add(&self.counters.checksum_mismatches, 1);
            return Ok(Err(ProblemKind::ChecksumMismatch.into()));
        }
        Ok(Ok(()))
    }

    async fn read_back(
        &self,
        upload: &Upload,
        range: Range<u64>,
        stated: &Checksum,
    ) -> Result<Option<bool>, Error> {
        let reader = self.composer.reader();
        let Some(reader) = reader.filter(|reader| reader.reads_unfinished()) else {
            return Ok(None);
        };
        Ok(Some(matches_digest(reader, upload, range, stated).await?))
    }

    pub(super) fn interruption_error(
        &self,
        id: &UploadId,
        offset: u64,
        interruption: Interruption,
    ) -> Error {
        match interruption {
            Interruption::Overrun => ProblemKind::SizeExceeded.into(),
            Interruption::TooLarge => ProblemKind::AppendTooLarge.into(),
            Interruption::Yielded => {
                add(&self.counters.takeovers, 1);
                ProblemKind::Interrupted.into()
            }
            Interruption::Lost => ProblemKind::Unavailable.into(),
            Interruption::Evicted => {
                add(&self.counters.evictions, 1);
                tracing::debug!(%id, offset, "UploadEvicted");
                ProblemKind::TooManyUploads.into()
            }
            Interruption::Stopped(reply) => Error::Rejected(ProblemKind::Stopped, reply),
            Interruption::Connection(fault) => ProblemKind::from(fault).into(),
            Interruption::Checksum(problem) => problem.into(),
        }
    }

    /// Removes a stopped upload.
    pub(super) async fn interrupted(
        self: &Arc<Self>,
        context: &RequestContext,
        upload: &Arc<Upload>,
        offset: u64,
        lease: Lease,
        interruption: Interruption,
    ) -> Error {
        if let Interruption::Stopped(reply) = &interruption {
            let removed = self.remove_detached(context, upload.clone(), offset, lease, &**reply);
            if let Err(error) = removed.await {
                return error;
            }
            log_stop(upload, reply, context);
        }
        self.interruption_error(&upload.id, offset, interruption)
    }
}

/// Reads stored bytes, and returns whether they have this digest.
pub(super) async fn matches_digest(
    reader: &dyn Read,
    upload: &Upload,
    range: Range<u64>,
    stated: &Checksum,
) -> Result<bool, Error> {
    let mut hasher = stated.algorithm.hasher();
    let mut bytes = reader.read(upload, range).await?;
    while let Some(chunk) = std::future::poll_fn(|cx| Pin::new(&mut bytes).poll_next(cx)).await {
        hasher.update(&chunk?);
        // A store in memory always has more, and hashing takes long.
        tokio::task::yield_now().await;
    }
    Ok(hasher.digest(stated.digest.len()) == stated.digest)
}
