//! Joining uploads inside of S3.
//!
//! Finished objects are copied part by part, in parallel, by S3 itself. Parts below the smallest size
//! can't stand in the middle of an object, and some services don't copy from objects that small; so
//! those are read and sent together with the beginning of what follows.

use std::{collections::VecDeque, ops::Range, pin::pin, sync::Arc};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use landfall::{
    lease::Fence,
    store::{Concatenate, Result, StoreError},
    upload::{Upload, UploadId},
};
use tokio::{task::JoinSet, time::timeout};

use super::{
    Inner, Payload, S3Store,
    failure::{damaged, failed},
    memory::{Memory, PATIENCE},
    read::place_of,
    session::{Known, Landing, State},
};
use crate::client::{ErrorKind, Place};

/// S3's limit for what one call copies.
const LARGEST_COPY: u64 = 5 << 30;

/// A range of an upload's object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// Which of the uploads.
    source: usize,
    range: Range<u64>,
}

/// One part of the whole.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Copied inside of S3.
    Copy(Piece),
    /// Read and sent.
    Send(Vec<Piece>),
}

/// Cuts the row of uploads into parts of at least `least` bytes (but for the last one) and copies of
/// at most `most`.
fn cut(lengths: &[u64], least: u64, most: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut small: Vec<Piece> = Vec::new();
    let mut small_len = 0;
    for (source, &length) in lengths.iter().enumerate() {
        let mut start = 0;
        if small_len > 0 || length < least {
            // As much as makes the small ones large enough; all of it if too little would be left.
            let wanted = least.saturating_sub(small_len);
            let taken = if length >= wanted.saturating_add(least) {
                wanted
            } else {
                length
            };
            if taken > 0 {
                small.push(Piece {
                    source,
                    range: 0..taken,
                });
                small_len += taken;
                start = taken;
            }
            if small_len >= least {
                parts.push(Part::Send(std::mem::take(&mut small)));
                small_len = 0;
            }
        }
        // Copies of about the same size, so that none is too small.
        let left = length - start;
        let count = left.div_ceil(most);
        for n in 0..count {
            let from = start + left * n / count;
            let to = start + left * (n + 1) / count;
            parts.push(Part::Copy(Piece {
                source,
                range: from..to,
            }));
        }
    }
    if !small.is_empty() {
        parts.push(Part::Send(small));
    }
    parts
}

#[async_trait]
impl Concatenate for S3Store {
    async fn concatenate(
        &self,
        target: &Upload,
        parts: &[Arc<Upload>],
        fence: Fence,
    ) -> Result<u64> {
        let store = &self.0;
        let mut sources = Vec::with_capacity(parts.len());
        let mut lengths = Vec::with_capacity(parts.len());
        for part in parts {
            // Completed on the way, if it has to be.
            let snapshot = store.load(&part.id).await?;
            sources.push(place_of(store, &snapshot.upload));
            lengths.push(snapshot.offset);
        }
        let sum = lengths
            .iter()
            .fold(0, |sum: u64, length| sum.saturating_add(*length));
        store.fits(sum)?;
        let session = store.sessions.enter(&target.id);
        let mut known = store.change(&session, fence).await?;
        let Known::State(state) = &mut *known else {
            return Err(StoreError::NotFound(target.id.clone()));
        };
        // Readers do not wait for it.
        session.publish(state.snapshot());
        let _writing = session.writer(fence);
        let plan = cut(
            &lengths,
            store.options.min_part.max(store.options.min_copy),
            LARGEST_COPY.min(store.options.max_part),
        );
        let joined = store.join(state, &sources, plan).await;
        match joined {
            Ok(()) => {
                state.boundary = sum;
                state.at.counted.offset = sum;
                state.committed = sum;
                session.publish(state.snapshot());
                Ok(sum)
            }
            Err(error) => {
                *known = Known::Nothing;
                Err(error)
            }
        }
    }
}

impl Inner {
    async fn join(&self, state: &mut State, sources: &[Place], plan: Vec<Part>) -> Result<()> {
        let id = state.at.id().clone();
        if plan.len() > usize::try_from(self.options.max_parts).unwrap_or(usize::MAX) {
            return Err(StoreError::TooLarge {
                limit: self.max_size(),
            });
        }
        if plan.is_empty() {
            state.boundary = 0;
            state.skipped = 0;
            self.put_whole(state, Payload::default()).await?;
            return self.end_multipart(state).await;
        }
        // A multipart upload that was used before may have other parts.
        let unused = state.at.counted.highest == 0 && !state.at.complete && !state.at.is_in_doubt;
        // If this is dropped, its parts are still on their way.
        state.at.is_in_doubt = true;
        let multipart = match state.at.multipart.clone().filter(|_| unused) {
            Some(multipart) => multipart,
            None => self.begin(&state.at.info.upload, &state.at.place).await?,
        };
        let parts = self
            .fill(&id, &state.at.place, &multipart, sources, plan)
            .await;
        let completed = match parts {
            Ok(parts) => {
                let completed = self
                    .client
                    .complete_multipart(&state.at.place, &multipart, &parts);
                completed
                    .await
                    .map_err(|error| failed(&id, "completing", error))
            }
            Err(error) => Err(error),
        };
        let is_own = state.at.multipart.as_ref() == Some(&multipart);
        let etag = match completed {
            Ok(etag) => etag,
            Err(error) => {
                // One of its own stays: the next attempt overwrites what is in it.
                if !is_own {
                    let _ = self
                        .client
                        .abort_multipart(&state.at.place, &multipart)
                        .await;
                }
                return Err(error);
            }
        };
        state.at.is_in_doubt = false;
        state.at.complete = true;
        state.at.object_etag = Some(etag);
        if is_own {
            state.at.multipart = None;
            return Ok(());
        }
        self.end_multipart(state).await
    }

    /// Ends the multipart upload that was not needed.
    pub(super) async fn end_multipart(&self, state: &mut State) -> Result<()> {
        if let Some(multipart) = &state.at.multipart {
            let aborted = self
                .client
                .abort_multipart(&state.at.place, multipart)
                .await;
            aborted.map_err(|error| failed(state.at.id(), "ending the multipart upload", error))?;
            state.at.multipart = None;
        }
        Ok(())
    }

    /// Makes all parts, as many at one time as may be on their way.
    async fn fill(
        &self,
        id: &UploadId,
        place: &Place,
        multipart: &str,
        sources: &[Place],
        plan: Vec<Part>,
    ) -> Result<Vec<(u32, String)>> {
        let mut flights: JoinSet<Landing> = JoinSet::new();
        let mut parts = Vec::with_capacity(plan.len());
        let mut land = |landing: Result<Landing, tokio::task::JoinError>| -> Result<()> {
            let (number, made) = landing.map_err(|error| StoreError::Other {
                action: format!("joining upload {id}"),
                source: error.into(),
            })?;
            match made {
                Ok(etag) => parts.push((number, etag)),
                Err(error) if *error.kind() == ErrorKind::NoSuchKey => {
                    return Err(StoreError::NotFound(id.clone()));
                }
                Err(error) => return Err(failed(id, "joining", error)),
            }
            Ok(())
        };
        for (number, part) in (1..).zip(plan) {
            while let Some(landing) = flights.try_join_next() {
                land(landing)?;
            }
            let (client, place) = (self.client.clone(), place.clone());
            let multipart = multipart.to_owned();
            match part {
                Part::Copy(Piece { source, range }) => {
                    let slot = self.slots.clone().acquire_owned().await;
                    let source = sources[source].clone();
                    flights.spawn(async move {
                        let range = Some(range);
                        let copied =
                            client.upload_part_copy(&place, &multipart, number, &source, range);
                        let copied = copied.await;
                        drop(slot);
                        (number, copied)
                    });
                }
                Part::Send(pieces) => {
                    let (payload, memory) = self.read_pieces(id, sources, pieces).await?;
                    let slot = self.slots.clone().acquire_owned().await;
                    flights.spawn(async move {
                        let sent = client
                            .upload_part(&place, &multipart, number, payload)
                            .await;
                        drop((slot, memory));
                        (number, sent)
                    });
                }
            }
        }
        while let Some(landing) = flights.join_next().await {
            land(landing)?;
        }
        parts.sort_by_key(|(number, _)| *number);
        Ok(parts)
    }

    /// Reads small pieces into memory.
    async fn read_pieces(
        &self,
        id: &UploadId,
        sources: &[Place],
        pieces: Vec<Piece>,
    ) -> Result<(Payload, Memory)> {
        let mut gather = self.gather();
        let mut pieces = VecDeque::from(pieces);
        while let Some(piece) = pieces.pop_front() {
            let len = usize::try_from(piece.range.end - piece.range.start).unwrap_or(usize::MAX);
            let mut share = pin!(self.budget.take(len));
            let mut turn = pin!(self.spare());
            let memory = loop {
                if gather.is_beyond_budget() {
                    break Memory::default();
                }
                if let Ok(memory) = timeout(PATIENCE, &mut share).await {
                    break memory;
                }
                self.reclaim(len, id).await;
                if let Some(memory) = (&mut turn).now_or_never() {
                    break memory;
                }
            };
            let reading = |error| failed(id, "reading a small part", error);
            let object = self
                .client
                .get_object(&sources[piece.source], Some(piece.range))
                .await
                .map_err(reading)?;
            let read = gather.push_object(object, len, memory).await;
            if read.map_err(reading)? != len {
                return Err(damaged(id, "a small part has the wrong length"));
            }
        }
        Ok(gather.take())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copy(source: usize, range: Range<u64>) -> Part {
        Part::Copy(Piece { source, range })
    }

    fn send(pieces: &[(usize, Range<u64>)]) -> Part {
        let pieces = pieces.iter().cloned();
        Part::Send(
            pieces
                .map(|(source, range)| Piece { source, range })
                .collect(),
        )
    }

    #[test]
    fn large_ones_are_copied_and_small_ones_are_sent_together() {
        assert_eq!(cut(&[], 5, 50), []);
        assert_eq!(cut(&[0, 0], 5, 50), []);
        assert_eq!(cut(&[7, 9], 5, 50), [copy(0, 0..7), copy(1, 0..9)]);
        assert_eq!(cut(&[3], 5, 50), [send(&[(0, 0..3)])]);
        assert_eq!(cut(&[7, 3], 5, 50), [copy(0, 0..7), send(&[(1, 0..3)])]);
        // A small one takes what it lacks from the next.
        assert_eq!(
            cut(&[3, 20], 5, 50),
            [send(&[(0, 0..3), (1, 0..2)]), copy(1, 2..20)]
        );
        // But leaves none too small behind.
        assert_eq!(cut(&[3, 6], 5, 50), [send(&[(0, 0..3), (1, 0..6)])]);
        assert_eq!(
            cut(&[2, 2, 2, 8], 5, 50),
            [send(&[(0, 0..2), (1, 0..2), (2, 0..2)]), copy(3, 0..8)]
        );
        // Too large for one copy.
        assert_eq!(
            cut(&[101], 5, 50),
            [copy(0, 0..33), copy(0, 33..67), copy(0, 67..101)]
        );
    }

    proptest! {
        #[test]
        fn all_bytes_are_there_once_and_no_part_is_too_small(
            lengths in proptest::collection::vec(prop_oneof![0..12_u64, 0..300_u64], 0..20),
        ) {
            let parts = cut(&lengths, 5, 50);
            let mut at = Vec::new();
            for (n, part) in parts.iter().enumerate() {
                let pieces = match part {
                    Part::Copy(piece) => {
                        prop_assert!(lengths[piece.source] >= 5, "copied from a small one");
                        std::slice::from_ref(piece)
                    }
                    Part::Send(pieces) => pieces,
                };
                let len: u64 = pieces.iter().map(|p| p.range.end - p.range.start).sum();
                prop_assert!(len >= 5 || n + 1 == parts.len(), "{parts:?}");
                prop_assert!(len <= 50 + 2, "{parts:?}");
                for piece in pieces {
                    at.extend(piece.range.clone().map(|byte| (piece.source, byte)));
                }
            }
            let all: Vec<_> = (0..).zip(&lengths).flat_map(|(n, len)| (0..*len).map(move |b| (n, b))).collect();
            prop_assert_eq!(at, all);
        }
    }
}
