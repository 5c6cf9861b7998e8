//! Taking in one body under a lease: transfer, verification, acknowledgement.

use std::{ops::Range, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_core::Stream;
use http_body::Body;
use landfall_protocol::{Checksum, ChecksumPlacement, Problem, ProblemKind};

use super::{
    Engine, Error, RequestBodyError, RequestContext, add,
    live::{LiveUpload, Visibility},
    transfer::{Transfer, TransferOutcome, TransferReport},
};
use crate::{
    BoxError,
    checksum::{Hasher, Verifier},
    event::TerminationReason,
    hook::ClientResponse,
    lease::Lease,
    store::Append,
    upload::{Upload, UploadId},
};

/// A body and what its head said of it.
pub(super) struct Incoming<'a, B> {
    pub(super) body: &'a mut B,
    pub(super) content_length: Option<u64>,
    pub(super) checksum: ChecksumPlacement,
}

/// A body whose transfer has ended.
struct ReceivedBody<'a> {
    upload: &'a Arc<Upload>,
    append: &'a mut dyn Append,
    live: &'a Arc<LiveUpload>,
    /// The offset of its first byte.
    start: u64,
    visibility: Visibility,
    checksum: ChecksumPlacement,
}

/// What became of a body.
pub(super) struct Received {
    /// The upload's offset, acknowledged by the store.
    pub(super) offset: u64,
    /// Why the body wasn't taken in whole.
    pub(super) interruption: Option<Interruption>,
}

/// Why a body wasn't taken in whole.
#[derive(Debug)]
pub(super) enum Interruption {
    Overrun,
    Yielded,
    Lost,
    Stopped(ClientResponse),
    Evicted,
    Connection(RequestBodyError),
    Checksum(Problem),
}

impl Engine {
    /// Takes in a body. After an error of the store, what was written before it still counts.
    pub(super) async fn receive<B>(
        self: &Arc<Self>,
        caller: &RequestContext,
        upload: &Arc<Upload>,
        mut append: Box<dyn Append>,
        lease: &Lease,
        room: u64,
        incoming: Incoming<'_, B>,
    ) -> Result<Received, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let start = append.offset();
        let visibility = if incoming.checksum.has_length() {
            Visibility::Verified
        } else if incoming.content_length.is_some() {
            Visibility::Immediate
        } else {
            Visibility::AtEnd
        };
        let live = self.live.enter(upload.clone(), start, visibility, caller);
        if self.in_flight.is_shutting_down() {
            live.shut_down();
        }
        self.start_progress();
        let work = async {
            let transfer = Transfer {
                append: &mut *append,
                live: &live,
                signal: lease.signal(),
                memory: &self.memory,
                remaining: room,
                body_length: incoming.content_length,
                timeout: self.body_timeout,
                publish: visibility == Visibility::Immediate,
                verifier: Verifier::new(&incoming.checksum),
                is_staged: false,
            };
            let report = transfer.run(incoming.body).await;
            let body = ReceivedBody {
                upload,
                append: &mut *append,
                live: &live,
                start,
                visibility,
                checksum: incoming.checksum,
            };
            self.settle_body(body, report).await
        };
        // A call of the store that outlives the lease could overwrite what the next writer stores.
        tokio::select! {
            biased;
            received = work => received,
            () = lease.signal().lost() => Ok(Received {
                offset: start,
                interruption: Some(Interruption::Lost),
            }),
        }
    }

    /// Verifies, commits and acknowledges a body.
    async fn settle_body(
        self: &Arc<Self>,
        body: ReceivedBody<'_>,
        report: Result<TransferReport<'_>, Error>,
    ) -> Result<Received, Error> {
        let ReceivedBody {
            upload,
            append,
            live,
            start,
            visibility,
            checksum,
        } = body;
        let TransferReport {
            outcome,
            verifier,
            is_staged,
            mut unwritten,
        } = match report {
            Ok(report) => report,
            Err(error) => {
                let _ = if visibility == Visibility::Verified {
                    append.discard_unverified().await
                } else {
                    append.commit().await.map(drop)
                };
                add(
                    &self.counters.bytes_received,
                    append.offset().saturating_sub(start),
                );
                return Err(error);
            }
        };
        let mut interruption = match outcome {
            TransferOutcome::End(trailers) => {
                let stated = checksum.with_trailers(trailers.as_ref());
                let range = start..append.offset();
                match self
                    .verify(upload, range, visibility, verifier, stated)
                    .await
                {
                    Ok(verified) => verified.err().map(Interruption::Checksum),
                    Err(error) => {
                        // Whether they count isn't known, so they don't.
                        let _ = append.discard_unverified().await;
                        return Err(error);
                    }
                }
            }
            TransferOutcome::Overrun => Some(Interruption::Overrun),
            TransferOutcome::Yielded => Some(Interruption::Yielded),
            TransferOutcome::Lost => Some(Interruption::Lost),
            TransferOutcome::Stopped(reply) => Some(Interruption::Stopped(reply)),
            TransferOutcome::Evicted => Some(Interruption::Evicted),
            TransferOutcome::Failed(fault) => Some(Interruption::Connection(fault)),
        };
        if interruption.is_none() && visibility == Visibility::Verified && !live.start_write() {
            interruption = Some(Interruption::Yielded);
        }
        match &interruption {
            Some(Interruption::Lost) => {
                return Ok(Received {
                    offset: start,
                    interruption,
                });
            }
            None if is_staged => append.accept_unverified().await?,
            None => {
                let mut bytes = unwritten.take();
                if !bytes.is_empty() {
                    append.write(&mut bytes).await?;
                }
            }
            // Others may have been told of them, so they stay.
            Some(Interruption::Checksum(_)) if visibility == Visibility::Immediate => {}
            // Bytes that couldn't be verified don't count (T-SUM-7, E-26).
            Some(Interruption::Checksum(_)) => append.discard_unverified().await?,
            Some(_) if is_staged => append.discard_unverified().await?,
            Some(_) => {}
        }
        drop(unwritten);
        let offset = append.commit().await?;
        add(&self.counters.bytes_received, offset.saturating_sub(start));
        live.publish(offset);
        live.receive(offset);
        if self.wants.progress && upload.is_complete_at(offset) {
            // Before anybody hears that it is complete.
            self.emit_progress(live);
        }
        if offset > start && !upload.is_complete_at(offset) {
            for sink in &self.sinks {
                sink.record_offset(upload, offset);
            }
        }
        Ok(Received {
            offset,
            interruption,
        })
    }

    /// Compares the checksum stated, in the head or in the trailer section, with that of the bytes. A
    /// trailer that was not announced costs reading the bytes back: they were not hashed on the way. It
    /// comes too late for a body whose length was known, because others may have been told of its bytes.
    async fn verify(
        &self,
        upload: &Upload,
        range: Range<u64>,
        visibility: Visibility,
        verifier: Verifier,
        stated: Result<Option<Checksum>, Problem>,
    ) -> Result<Result<(), Problem>, Error> {
        let stated = match stated {
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
                "announce the trailer with `Trailer: Upload-Checksum`",
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
        let reader = self.parts.get_reader();
        let Some(reader) = reader.filter(|reader| reader.reads_unfinished()) else {
            return Ok(None);
        };
        let mut hasher = Hasher::new(stated.algorithm);
        let mut bytes = reader.read(upload, range).await?;
        while let Some(chunk) = std::future::poll_fn(|cx| Pin::new(&mut bytes).poll_next(cx)).await
        {
            hasher.update(&chunk?);
        }
        Ok(Some(hasher.digest(stated.digest.len()) == stated.digest))
    }

    /// Counts an eviction; the error for its client.
    pub(super) fn evicted(&self, id: &UploadId, offset: u64) -> Error {
        add(&self.counters.evictions, 1);
        tracing::debug!(%id, offset, "UploadEvicted");
        ProblemKind::TooManyUploads.into()
    }

    /// What to answer when a body wasn't taken in whole; a stopped upload is removed on the way.
    pub(super) async fn interrupted(
        self: &Arc<Self>,
        caller: &RequestContext,
        upload: &Arc<Upload>,
        offset: u64,
        lease: Lease,
        interruption: Interruption,
    ) -> Error {
        match interruption {
            Interruption::Overrun => ProblemKind::SizeExceeded.into(),
            Interruption::Yielded => {
                add(&self.counters.takeovers, 1);
                tracing::debug!(id = %upload.id, offset, "UploadInterrupted");
                ProblemKind::Interrupted.into()
            }
            Interruption::Lost => ProblemKind::Unavailable.into(),
            Interruption::Evicted => self.evicted(&upload.id, offset),
            Interruption::Stopped(reply) => {
                let upload = upload.clone();
                match self
                    .remove_detached(caller, upload, offset, lease, TerminationReason::Hook)
                    .await
                {
                    Ok(()) => Error::Refused(ProblemKind::Stopped, Box::new(reply)),
                    Err(error) => error,
                }
            }
            Interruption::Connection(fault) => ProblemKind::from(fault).into(),
            Interruption::Checksum(problem) => problem.into(),
        }
    }
}
