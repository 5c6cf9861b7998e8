//! Taking in one body under a lease: transfer, verification, acknowledgement.

use std::{ops::Range, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use http_body::Body;
use landfall_protocol::{Announced, Checksum, Fault, Problem};

use super::{
    BodyFault, Caller, Engine, Error, add,
    transfer::{Ending, Transfer},
};
use crate::{
    BoxError,
    checksum::{Hasher, Verifier},
    event::Removal,
    hook::Reply,
    lease::Lease,
    store::Append,
    upload::Upload,
};

/// A body and what its head said of it.
pub(super) struct Incoming<'a, B> {
    pub(super) body: &'a mut B,
    pub(super) content_length: Option<u64>,
    pub(super) checksum: Announced,
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
    Stopped(Reply),
    Connection(BodyFault),
    Checksum(Problem),
}

impl Engine {
    /// Takes in a body. After an error of the store, what was written before it still counts.
    pub(super) async fn receive<B>(
        &self,
        caller: &Caller,
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
        let live = self.live.enter(upload.clone(), start);
        let tell = |offset| self.tell_progress(&live, offset, caller);
        let is_verified = incoming.checksum != Announced::Nothing;
        let transfer = Transfer {
            append: &mut *append,
            live: &live,
            signal: lease.signal(),
            budget: &self.budget,
            room,
            // Without a length there may be a trailer with a checksum that nobody announced: until
            // the end nothing is sure.
            publish: incoming.content_length.is_some(),
            verifier: Verifier::new(&incoming.checksum),
            progress: self
                .wants
                .progress
                .then_some((self.progress_interval, &tell as _)),
        };
        let transferred = match transfer.run(incoming.body).await {
            Ok(transferred) => transferred,
            Err(error) => {
                if is_verified {
                    let _ = append.discard().await;
                } else {
                    let _ = append.commit().await;
                }
                add(
                    &self.counters.bytes_received,
                    append.offset().saturating_sub(start),
                );
                return Err(error);
            }
        };
        let mut unwritten = transferred.unwritten;
        let interruption = match transferred.ending {
            Ending::End(trailers) => {
                let range = start..append.offset();
                let verifier = transferred.verifier;
                self.verify(
                    upload,
                    range,
                    verifier,
                    incoming.checksum,
                    trailers.as_ref(),
                )
                .await?
                .err()
                .map(Interruption::Checksum)
            }
            Ending::Overrun => Some(Interruption::Overrun),
            Ending::Yielded => Some(Interruption::Yielded),
            Ending::Lost => Some(Interruption::Lost),
            Ending::Stopped(reply) => Some(Interruption::Stopped(reply)),
            Ending::Failed(fault) => Some(Interruption::Connection(fault)),
        };
        match &interruption {
            Some(Interruption::Lost) => {
                return Ok(Received {
                    offset: start,
                    interruption,
                });
            }
            None if transferred.held => append.confirm().await?,
            None if !unwritten.is_empty() => append.write(&mut unwritten).await?,
            None => {}
            // Bytes that couldn't be verified don't count (T-SUM-7, E-26).
            Some(Interruption::Checksum(_)) => append.discard().await?,
            Some(_) if transferred.held => append.discard().await?,
            Some(_) => {}
        }
        let offset = append.commit().await?;
        add(&self.counters.bytes_received, offset.saturating_sub(start));
        live.publish(offset);
        if offset > start && !upload.is_complete_at(offset) {
            for sink in &self.sinks {
                sink.stored(upload, offset);
            }
        }
        Ok(Received {
            offset,
            interruption,
        })
    }

    /// Compares the checksum stated, in the head or in the trailer section, with that of the bytes. A
    /// trailer that was not announced costs reading the bytes back: they were not hashed on the way.
    async fn verify(
        &self,
        upload: &Upload,
        written: Range<u64>,
        verifier: Verifier,
        announced: Announced,
        trailers: Option<&HeaderMap>,
    ) -> Result<Result<(), Problem>, Error> {
        let stated = match announced.with_trailers(trailers) {
            Ok(Some(stated)) => stated,
            Ok(None) => return Ok(Ok(())),
            Err(problem) => return Ok(Err(problem)),
        };
        let matches = if verifier.is_on() {
            verifier.matches(&stated)
        } else {
            match self.read_back(upload, written, &stated).await? {
                Some(matches) => matches,
                None => {
                    return Ok(Err(Fault::InvalidChecksum
                        .because("announce the trailer with `Trailer: Upload-Checksum`")));
                }
            }
        };
        if !matches {
            add(&self.counters.checksum_mismatches, 1);
            return Ok(Err(Fault::ChecksumMismatch.into()));
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

    /// What to answer when a body wasn't taken in whole; a stopped upload is removed on the way.
    pub(super) async fn interrupted(
        &self,
        caller: &Caller,
        upload: &Arc<Upload>,
        offset: u64,
        lease: &Lease,
        interruption: Interruption,
    ) -> Error {
        match interruption {
            Interruption::Overrun => Fault::SizeExceeded.into(),
            Interruption::Yielded => {
                add(&self.counters.takeovers, 1);
                tracing::debug!(id = %upload.id, offset, "UploadInterrupted");
                Fault::Interrupted.into()
            }
            Interruption::Lost => Fault::Unavailable.into(),
            Interruption::Stopped(reply) => {
                match self
                    .remove(caller, upload, offset, lease, Removal::Hook)
                    .await
                {
                    Ok(()) => Error::Refused(Fault::Stopped, Box::new(reply)),
                    Err(error) => error,
                }
            }
            Interruption::Connection(fault) => Fault::from(fault).into(),
            Interruption::Checksum(problem) => problem.into(),
        }
    }
}
