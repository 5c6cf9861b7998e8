//! Completion on a service that completes a multipart upload only with all of its parts, such as Ceph.
//!
//! Parts that do not count, of a wrong checksum or of a dead process, can be deleted nowhere. So the multipart upload
//! is completed with them, and the object is replaced by a copy of the ranges that count. These are recorded
//! before, so that the next process continues after a crash; until then the upload is not complete. A part that is too
//! small to be in the middle is replaced by a larger one before.
//!
//! A multipart upload is completed at its key. So the key has the longer object until the copy has replaced it: programs
//! that read the bucket wait for the event of the completion.

use landfall::{store::Result, upload::Upload};

use super::{
    During as _, Inner,
    concat::{COMPLETING, copies},
    session::UploadState,
};
use crate::cloud::Cloud;
use crate::{CountedRanges, RANGES};
use crate::{ObjectRef, Part, PartCondition};

impl<C: Cloud> Inner<C> {
    /// Completes a multipart upload that has uncounted parts, too; returns the entity tag of the object.
    pub(super) async fn complete_all_parts(
        &self,
        state: &mut UploadState,
        multipart: &str,
        mut listed: Vec<Part>,
    ) -> Result<String> {
        self.enlarge_uncounted(state, multipart, &mut listed)
            .await?;
        let ranges = CountedRanges::new(&listed, &state.remote.counted.parts);
        let extensions = &mut state.remote.info.extensions;
        extensions.insert(RANGES.into(), ranges.to_string());
        self.save_info(state).await?;
        let all = listed.into_iter().map(|part| (part.number, part.etag));
        let all: Vec<_> = all.collect();
        let object_ref = &state.remote.object_ref;
        let upload = &state.remote.info.upload;
        let completed = self.complete_multipart(upload, object_ref, multipart, &all);
        completed.await.during(COMPLETING, &upload.id)?;
        self.copy_counted(state, &ranges).await
    }

    /// Only the last part of an object may be small.
    async fn enlarge_uncounted(
        &self,
        state: &UploadState,
        multipart: &str,
        listed: &mut [Part],
    ) -> Result<()> {
        let remote = &state.remote;
        let Some((_, before_last)) = listed.split_last_mut() else {
            return Ok(());
        };
        for part in before_last {
            let is_counted = |(number, _): &(u32, String)| *number == part.number;
            if part.size >= self.options.min_part || remote.counted.parts.iter().any(is_counted) {
                continue;
            }
            let _memory = self.budget.overcommit().await;
            part.size = self.options.min_part;
            let filler = vec![0; usize::try_from(part.size).unwrap_or_default()];
            let (number, filler) = (part.number, self.payload(filler));
            let sent = self.client.upload_part(
                &remote.object_ref,
                multipart,
                number,
                filler,
                PartCondition::default(),
            );
            part.etag = sent.await.during("replacing a part", remote.id())?;
        }
        Ok(())
    }

    /// Replaces the object of [`complete_all_parts`](Self::complete_all_parts) by its ranges that count.
    pub(super) async fn copy_counted(
        &self,
        state: &UploadState,
        ranges: &CountedRanges,
    ) -> Result<String> {
        let object_ref = &state.remote.object_ref;
        let upload = &state.remote.info.upload;
        let multipart = self.create_multipart(upload, object_ref).await?;
        let replaced = self.copy_into(upload, object_ref, &multipart, ranges).await;
        if replaced.is_err() {
            let _ = self.client.abort_multipart(object_ref, &multipart).await;
        }
        replaced
    }

    async fn copy_into(
        &self,
        upload: &Upload,
        object_ref: &ObjectRef,
        multipart: &str,
        ranges: &CountedRanges,
    ) -> Result<String> {
        let max_copy = self.max_copy();
        let ranges = ranges.ranges.iter();
        let copies = ranges.flat_map(|range| copies(0, range.clone(), max_copy));
        let copies = copies.collect();
        let source = std::slice::from_ref(object_ref);
        let parts = self
            .upload_all_parts(&upload.id, object_ref, multipart, source, copies)
            .await?;
        let completed = self.complete_multipart(upload, object_ref, multipart, &parts);
        completed.await.during(COMPLETING, &upload.id)
    }
}
