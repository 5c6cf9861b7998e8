//! Completion on a service that completes a multipart upload only with all of its parts, such as Ceph.
//!
//! Parts that do not count, of a wrong checksum or of a dead process, can be deleted nowhere. So the multipart upload
//! is completed with them, and the object is replaced by a copy of the ranges that count. These are recorded
//! before, so that the next process continues after a crash; until then the upload is not complete.

use std::{fmt, ops::Range};

use landfall::{
    store::{Result, info::UploadInfo},
    upload::UploadId,
};

use super::{
    Inner,
    concat::{MAX_COPY, PartSource, SourceRange},
    failed,
    session::UploadState,
};
use crate::client::{ObjectRef, Part};

const RANGES: &str = "CountedRanges";

/// The ranges of an object that count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct CountedRanges {
    /// The length of the object.
    pub(super) total: u64,
    ranges: Vec<Range<u64>>,
}

impl CountedRanges {
    fn new(listed: &[Part], counted: &[(u32, String)]) -> Self {
        let mut found = Self::default();
        for part in listed {
            let start = found.total;
            found.total += part.size;
            if counted.iter().any(|(number, _)| *number == part.number) {
                match found.ranges.last_mut() {
                    Some(last) if last.end == start => last.end = found.total,
                    _ => found.ranges.push(start..found.total),
                }
            }
        }
        found
    }

    pub(super) fn recorded(info: &UploadInfo) -> Option<Self> {
        let mut numbers = info.extensions.get(RANGES)?.split(' ').map(str::parse);
        let total = numbers.next()?.ok()?;
        let mut ranges = Vec::new();
        while let Some(start) = numbers.next() {
            ranges.push(start.ok()?..numbers.next()?.ok()?);
        }
        Some(Self { total, ranges })
    }

    pub(super) fn len(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Copies of about the same size within a range, so that none is too small.
    fn copies(&self, max_copy: u64) -> Vec<PartSource> {
        let mut copies = Vec::new();
        for Range { start, end } in self.ranges.iter().cloned() {
            let (len, count) = (end - start, (end - start).div_ceil(max_copy));
            for n in 0..count {
                let range = start + len * n / count..start + len * (n + 1) / count;
                copies.push(PartSource::Copy(SourceRange { source: 0, range }));
            }
        }
        copies
    }
}

impl fmt::Display for CountedRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.total)?;
        self.ranges
            .iter()
            .try_for_each(|range| write!(f, " {} {}", range.start, range.end))
    }
}

impl Inner {
    /// Completes a multipart upload that has uncounted parts, too; returns the entity tag of the object.
    pub(super) async fn complete_all_parts(
        &self,
        state: &mut UploadState,
        multipart: &str,
        listed: Vec<Part>,
    ) -> Result<String> {
        let ranges = CountedRanges::new(&listed, &state.remote.counted.parts);
        let extensions = &mut state.remote.info.extensions;
        extensions.insert(RANGES.into(), ranges.to_string());
        self.save_info(state).await?;
        let all = listed.into_iter().map(|part| (part.number, part.etag));
        let all: Vec<_> = all.collect();
        let object_ref = &state.remote.object_ref;
        let completed = self.client.complete_multipart(object_ref, multipart, &all);
        completed
            .await
            .map_err(|error| failed(state.remote.id(), "completing the multipart upload", error))?;
        self.copy_counted(state, &ranges).await
    }

    /// Replaces the object of [`complete_all_parts`](Self::complete_all_parts) by its ranges that count.
    pub(super) async fn copy_counted(
        &self,
        state: &UploadState,
        ranges: &CountedRanges,
    ) -> Result<String> {
        let (id, object_ref) = (state.remote.id(), &state.remote.object_ref);
        let upload = &state.remote.info.upload;
        let multipart = self.create_multipart(upload, object_ref).await?;
        let replaced = self.copy_into(id, object_ref, &multipart, ranges).await;
        if replaced.is_err() {
            let _ = self.client.abort_multipart(object_ref, &multipart).await;
        }
        replaced
    }

    async fn copy_into(
        &self,
        id: &UploadId,
        object_ref: &ObjectRef,
        multipart: &str,
        ranges: &CountedRanges,
    ) -> Result<String> {
        let copies = ranges.copies(MAX_COPY.min(self.options.max_part));
        let source = std::slice::from_ref(object_ref);
        let parts = self
            .upload_all_parts(id, object_ref, multipart, source, copies)
            .await?;
        let completed = self
            .client
            .complete_multipart(object_ref, multipart, &parts);
        let action = "completing the multipart upload";
        completed.await.map_err(|error| failed(id, action, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_counted_parts() {
        let part = |number, size| Part {
            number,
            size,
            etag: String::new(),
            modified: None,
        };
        let listed = [part(1, 5), part(2, 5), part(3, 7), part(5, 6), part(6, 1)];
        let counted = [1, 2, 5, 6].map(|number| (number, String::new()));
        let ranges = CountedRanges::new(&listed, &counted);
        assert_eq!(ranges.to_string(), "24 0 10 17 24");
        assert_eq!(ranges.len(), 17);
        let copy = |range| PartSource::Copy(SourceRange { source: 0, range });
        assert_eq!(ranges.copies(100), [copy(0..10), copy(17..24)]);
        assert_eq!(ranges.copies(7), [copy(0..5), copy(5..10), copy(17..24)]);
    }
}
