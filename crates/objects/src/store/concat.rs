//! Concatenates uploads inside S3, by copies of ranges. Only pieces that are too small to copy are read.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use landfall::{
    lease::Fence,
    store::{Concatenate, Result, StoreError},
    upload::{Upload, UploadId},
};
use tokio::task::JoinSet;

use super::{
    During as _, Inner, ObjectStore, Payload,
    part_upload::send_part,
    session::{CachedState, PartUploadResult, UploadState},
};
use crate::cloud::Cloud;
use crate::{MemoryPermit, ObjectRef};

pub(super) const COMPLETING: &str = "completing the multipart upload";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceRange {
    source: usize,
    range: Range<u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum PartSource {
    Copy(SourceRange),
    Upload(Vec<SourceRange>),
}

/// Divides a range into copies of about the same size, so that none is too small.
pub(super) fn copies(
    source: usize,
    Range { start, end }: Range<u64>,
    max_copy: u64,
) -> impl Iterator<Item = PartSource> {
    let (len, count) = (end - start, (end - start).div_ceil(max_copy));
    (0..count).map(move |n| {
        let range = start + len * n / count..start + len * (n + 1) / count;
        PartSource::Copy(SourceRange { source, range })
    })
}

/// Divides the sources into parts of at least `min_size` and copies of at most `max_copy` bytes.
///
/// Only the last part may be smaller.
fn plan_parts(lengths: &[u64], min_size: u64, max_copy: u64) -> Vec<PartSource> {
    let mut parts = Vec::new();
    let mut small: Vec<SourceRange> = Vec::new();
    let mut small_len = 0;
    for (source, &length) in lengths.iter().enumerate() {
        let mut start = 0;
        if small_len > 0 || length < min_size {
            // Enough to reach the minimum size; all of it if the remainder would be too small.
            let wanted = min_size.saturating_sub(small_len);
            let leaves_enough = length >= wanted.saturating_add(min_size);
            let taken = if leaves_enough { wanted } else { length };
            if taken > 0 {
                let range = 0..taken;
                small.push(SourceRange { source, range });
                small_len += taken;
                start = taken;
            }
            if small_len >= min_size {
                parts.push(PartSource::Upload(std::mem::take(&mut small)));
                small_len = 0;
            }
        }
        parts.extend(copies(source, start..length, max_copy));
    }
    if !small.is_empty() {
        parts.push(PartSource::Upload(small));
    }
    parts
}

#[async_trait]
impl<C: Cloud> Concatenate for ObjectStore<C> {
    async fn concatenate(
        &self,
        target: &Upload,
        parts: &[Arc<Upload>],
        fence: Fence,
    ) -> Result<u64> {
        let store = &self.0;
        let (mut sources, mut lengths) = (Vec::new(), Vec::new());
        for part in parts {
            // Completes the upload if that is still to do.
            let snapshot = store.load(&part.id).await?;
            if part.length != Some(snapshot.offset) {
                // Garage may list no parts of an upload that another process has just completed.
                let why = format!("upload {} is not complete now", part.id);
                return Err(StoreError::Unavailable(why.into()));
            }
            sources.push(store.layout.uploaded_object(&snapshot.upload));
            lengths.push(snapshot.offset);
        }
        let sum = (lengths.iter()).fold(0_u64, |sum, length| sum.saturating_add(*length));
        store.check_size(sum)?;
        let session = store.sessions.get_or_insert(&target.id);
        let mut cached = store.lock_for_change(&session, fence).await?;
        let CachedState::Known(state) = &mut *cached else {
            return Err(StoreError::NotFound(target.id.clone()));
        };
        // Readers do not wait for the concatenation.
        session.publish(state.snapshot());
        let _writing = session.writer(fence);
        let options = &store.options;
        let min_size = options.min_part.max(options.min_copy);
        let plan = plan_parts(&lengths, min_size, store.max_copy());
        let concatenated = store.concatenate_objects(state, &sources, plan).await;
        match concatenated {
            Ok(()) => {
                state.boundary = sum;
                state.remote.counted.offset = sum;
                state.committed = sum;
                session.publish(state.snapshot());
                Ok(sum)
            }
            Err(error) => {
                *cached = CachedState::Unknown;
                Err(error)
            }
        }
    }
}

impl<C: Cloud> Inner<C> {
    async fn concatenate_objects(
        &self,
        state: &mut UploadState,
        sources: &[ObjectRef],
        plan: Vec<PartSource>,
    ) -> Result<()> {
        let id = state.remote.id().clone();
        if plan.len() > usize::try_from(self.options.max_parts).unwrap_or(usize::MAX) {
            let limit = self.max_size();
            return Err(StoreError::TooLarge { limit });
        }
        if self.rules.implicit_multipart && state.remote.complete {
            // Of an earlier concatenation. It is not replaced, so that another program's is not.
            let deleted = self.client.delete_object(&state.remote.object_ref);
            deleted.await.during("deleting the earlier object", &id)?;
            state.remote.complete = false;
        }
        if plan.is_empty() {
            state.boundary = 0;
            state.offloaded = 0;
            return self.put_empty_object(state).await;
        }
        // A multipart upload that was used before may have other parts.
        let unused = state.remote.counted.highest == 0
            && !state.remote.complete
            && !state.remote.is_in_doubt;
        // If this call is dropped, its parts are still in flight.
        state.remote.is_in_doubt = true;
        let (upload, object_ref) = (&state.remote.info.upload, &state.remote.object_ref);
        let multipart = match state.remote.multipart.clone().filter(|_| unused) {
            Some(multipart) => multipart,
            None => self.create_multipart(upload, object_ref).await?,
        };
        let parts = self.upload_all_parts(&id, object_ref, &multipart, sources, plan);
        let completed = match parts.await {
            Ok(parts) => {
                let completed = self.complete_multipart(upload, object_ref, &multipart, &parts);
                completed.await.during(COMPLETING, &id)
            }
            Err(error) => Err(error),
        };
        let is_own = state.remote.multipart.as_ref() == Some(&multipart);
        let etag = match completed {
            Ok(etag) => etag,
            Err(error) => {
                // The upload's own stays: the next attempt overwrites its parts.
                if !is_own {
                    let _ = self.client.abort_multipart(object_ref, &multipart).await;
                }
                return Err(error);
            }
        };
        state.remote.is_in_doubt = false;
        state.remote.complete = true;
        state.remote.object_etag = Some(etag);
        if is_own {
            state.remote.multipart = None;
            return Ok(());
        }
        self.abort_unused_multipart(state).await
    }

    pub(super) async fn abort_unused_multipart(&self, state: &mut UploadState) -> Result<()> {
        let remote = &mut state.remote;
        // The object has replaced one that nothing names.
        if self.rules.implicit_multipart && remote.counted.highest == 0 {
            return Ok(());
        }
        if let Some(multipart) = &remote.multipart {
            let aborted = self.client.abort_multipart(&remote.object_ref, multipart);
            let aborted = aborted.await;
            aborted.during("aborting the multipart upload", remote.id())?;
            remote.multipart = None;
        }
        Ok(())
    }

    pub(super) async fn upload_all_parts(
        &self,
        id: &UploadId,
        object_ref: &ObjectRef,
        multipart: &str,
        sources: &[ObjectRef],
        plan: Vec<PartSource>,
    ) -> Result<Vec<(u32, String)>> {
        let mut in_flight: JoinSet<PartUploadResult> = JoinSet::new();
        let mut parts = Vec::with_capacity(plan.len());
        let mut on_part_uploaded =
            |result: Result<PartUploadResult, tokio::task::JoinError>| -> Result<()> {
                let (number, made) = result.map_err(|error| {
                    StoreError::other(format!("concatenating upload {id}"), error)
                })?;
                parts.push((number, made.during("concatenating", id)?));
                Ok(())
            };
        for (number, part) in (1..).zip(plan) {
            while let Some(result) = in_flight.try_join_next() {
                on_part_uploaded(result)?;
            }
            let (client, object_ref) = (self.client.clone(), object_ref.clone());
            let multipart = multipart.to_owned();
            match part {
                PartSource::Copy(SourceRange { source, range }) => {
                    let slot = self.part_slots.clone().acquire_owned().await;
                    let (from, range) = (sources[source].clone(), range);
                    in_flight.spawn(async move {
                        let (_slot, to) = (slot, object_ref);
                        let copy = client.copy_part(&to, &multipart, number, &from, range);
                        (number, copy.await)
                    });
                }
                PartSource::Upload(ranges) => {
                    let (payload, memory) = self.read_ranges(id, sources, ranges).await?;
                    let slot = self.part_slots.clone().acquire_owned().await;
                    let target = (object_ref, multipart, number);
                    in_flight.spawn(send_part(client, target, payload, (slot, memory)));
                }
            }
        }
        while let Some(result) = in_flight.join_next().await {
            on_part_uploaded(result)?;
        }
        parts.sort_by_key(|(number, _)| *number);
        Ok(parts)
    }

    async fn read_ranges(
        &self,
        id: &UploadId,
        sources: &[ObjectRef],
        ranges: Vec<SourceRange>,
    ) -> Result<(Payload, MemoryPermit)> {
        let mut buffer = self.new_buffer();
        for range in ranges {
            let len = usize::try_from(range.range.end - range.range.start).unwrap_or(usize::MAX);
            let memory = self.acquire_memory(&buffer, len, id).await?;
            let action = "reading a small source";
            let source = &sources[range.source];
            let object = self.client.get_object(source, Some(range.range)).await;
            let read = buffer.push_stream(object.during(action, id)?.body, len, memory);
            if read.await.during(action, id)? != len {
                let why = "a source of the concatenation has the wrong length";
                return Err(StoreError::damaged(id, why));
            }
        }
        Ok(buffer.take())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copy(source: usize, range: Range<u64>) -> PartSource {
        PartSource::Copy(SourceRange { source, range })
    }

    fn send(ranges: &[(usize, Range<u64>)]) -> PartSource {
        let ranges = ranges.iter().cloned();
        PartSource::Upload(
            ranges
                .map(|(source, range)| SourceRange { source, range })
                .collect(),
        )
    }

    #[test]
    fn large_sources_are_copied_and_small_ones_uploaded_together() {
        assert_eq!(plan_parts(&[], 5, 50), []);
        assert_eq!(plan_parts(&[0, 0], 5, 50), []);
        assert_eq!(plan_parts(&[7, 9], 5, 50), [copy(0, 0..7), copy(1, 0..9)]);
        assert_eq!(plan_parts(&[3], 5, 50), [send(&[(0, 0..3)])]);
        assert_eq!(
            plan_parts(&[7, 3], 5, 50),
            [copy(0, 0..7), send(&[(1, 0..3)])]
        );
        // A small source is filled up from the next one.
        assert_eq!(
            plan_parts(&[3, 20], 5, 50),
            [send(&[(0, 0..3), (1, 0..2)]), copy(1, 2..20)]
        );
        // The next one would be too small.
        assert_eq!(plan_parts(&[3, 6], 5, 50), [send(&[(0, 0..3), (1, 0..6)])]);
        assert_eq!(
            plan_parts(&[2, 2, 2, 8], 5, 50),
            [send(&[(0, 0..2), (1, 0..2), (2, 0..2)]), copy(3, 0..8)]
        );
        // Too large for one copy.
        assert_eq!(
            plan_parts(&[101], 5, 50),
            [copy(0, 0..33), copy(0, 33..67), copy(0, 67..101)]
        );
    }

    proptest! {
        #[test]
        fn parts_cover_all_bytes_once_and_none_is_too_small(
            lengths in proptest::collection::vec(prop_oneof![0..12_u64, 0..300_u64], 0..20),
        ) {
            let parts = plan_parts(&lengths, 5, 50);
            let mut covered = Vec::new();
            for (n, part) in parts.iter().enumerate() {
                let ranges = match part {
                    PartSource::Copy(range) => {
                        prop_assert!(lengths[range.source] >= 5, "copied from a small one");
                        std::slice::from_ref(range)
                    }
                    PartSource::Upload(ranges) => ranges,
                };
                let len: u64 = ranges.iter().map(|p| p.range.end - p.range.start).sum();
                prop_assert!(len >= 5 || n + 1 == parts.len(), "{parts:?}");
                prop_assert!(len <= 50 + 2, "{parts:?}");
                for range in ranges {
                    covered.extend(range.range.clone().map(|byte| (range.source, byte)));
                }
            }
            let all: Vec<_> = (0..).zip(&lengths).flat_map(|(n, len)| (0..*len).map(move |b| (n, b))).collect();
            prop_assert_eq!(covered, all);
        }
    }
}
