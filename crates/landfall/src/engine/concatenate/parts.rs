//! Checks the parts of a final upload: access, kind, completeness, and the sum of their lengths.
//!
//! It changes no upload. At most 16 parts are loaded at a time. The sum may be four times that of the distinct parts,
//! so a small request cannot fill the storage. A missing part is final: such an upload can never be concatenated.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt as _, stream};
use landfall_protocol::ProblemKind;

use super::PartsProgress;
use crate::{
    engine::{Engine, Error, RequestContext, is_missing},
    hook::Intent,
    upload::{Snapshot, Upload, UploadId, UploadKind},
};

const MAX_LOADS: usize = 16;
/// A final upload may be as many times as large as its parts, each counted once: a small request that names a
/// part again and again must not fill the storage.
const MAX_REPETITION: u64 = 4;

/// Returns for each part whether it is not named before.
pub(super) fn first_occurrences(parts: &[UploadId]) -> Vec<bool> {
    let mut seen = HashSet::with_capacity(parts.len());
    parts.iter().map(|part| seen.insert(part)).collect()
}

impl PartsProgress {
    /// Returns the length of the final upload, if the lengths of all parts are known.
    pub(super) fn sum_of(
        &self,
        parts: &[UploadId],
        max: Option<u64>,
    ) -> Result<Option<u64>, Error> {
        if self.measured < parts.len() {
            return Ok(None);
        }
        if max.is_some_and(|max| self.sum > max) {
            return Err(ProblemKind::MaxSizeExceeded.into());
        }
        if self.sum > self.distinct.saturating_mul(MAX_REPETITION) {
            let (sum, distinct) = (self.sum, self.distinct);
            return Err(ProblemKind::InvalidConcat
                .with_detail(format_args!(
                    "parts are named again too often: {sum} bytes of {distinct}, at most \
                     {MAX_REPETITION} times as many"
                ))
                .into());
        }
        Ok(Some(self.sum))
    }

    /// Returns whether all lengths up to `at` are known.
    pub(super) fn measure(
        &mut self,
        at: usize,
        length: Option<u64>,
        is_first: bool,
    ) -> Result<bool, Error> {
        if at == self.measured
            && let Some(length) = length
        {
            let sum = self.sum.checked_add(length);
            self.sum = sum.ok_or(ProblemKind::MaxSizeExceeded)?;
            if is_first {
                self.distinct += length;
            }
            self.measured += 1;
        }
        Ok(at < self.measured)
    }

    /// Counts part number `at` if it and all before it are complete; returns whether they are.
    fn count(&mut self, at: usize, part: &Snapshot, is_first: bool) -> Result<bool, Error> {
        self.measure(at, part.upload.length, is_first)?;
        if at == self.complete && part.has_exact_length() {
            self.complete += 1;
        }
        Ok(at < self.complete)
    }
}

impl Engine {
    /// The client must have access to the parts, and they must be partial uploads.
    pub(super) async fn admit_parts(
        self: &Arc<Self>,
        context: &RequestContext,
        parts: &[UploadId],
    ) -> Result<PartsProgress, Error> {
        let firsts = first_occurrences(parts);
        let mut known = PartsProgress::default();
        let mut loads = stream::iter(0..parts.len())
            .map(|at| self.admit_part(context, &parts[at]))
            .buffered(MAX_LOADS);
        let mut at = 0;
        while let Some(part) = loads.next().await {
            known.count(at, &part?, firsts[at])?;
            at += 1;
        }
        Ok(known)
    }

    async fn admit_part(
        self: &Arc<Self>,
        context: &RequestContext,
        id: &UploadId,
    ) -> Result<Snapshot, Error> {
        self.check_access(context, Intent::Concatenate, Some(id))
            .await?;
        let part = self.load(id).await?;
        let is_lenient = self.config.lenient && part.upload.kind == UploadKind::Regular;
        if part.upload.kind != UploadKind::Partial && !is_lenient {
            return Err(ProblemKind::InvalidConcat
                .with_detail(format_args!("{id} was not created as a partial upload"))
                .into());
        }
        Ok(part)
    }

    /// Starts from the cached progress, and updates it.
    pub(super) async fn check_parts(&self, upload: &Upload) -> Result<PartsProgress, Error> {
        let checked = self.count_parts(upload).await;
        if let Err(error) = &checked
            && matches!(error.problem().kind, ProblemKind::Gone)
        {
            self.final_uploads.remove(&upload.id);
        }
        checked
    }

    async fn count_parts(&self, upload: &Upload) -> Result<PartsProgress, Error> {
        let parts = upload.parts();
        let mut known = self.final_uploads.progress(&upload.id);
        let (start, firsts) = (known.complete, first_occurrences(parts));
        self.scan_parts(parts, start, |at, part| known.count(at, part, firsts[at]))
            .await?;
        if known.complete == parts.len() {
            // Parts counted as complete before may have been removed since.
            self.scan_parts(&parts[..start], 0, |_, _| Ok(true)).await?;
        }
        if upload.length.is_none() {
            let start = known.measured;
            self.scan_parts(parts, start, |at, part| {
                known.measure(at, part.upload.length, firsts[at])
            })
            .await?;
        }
        if let Some(part) = parts.get(known.complete) {
            self.final_uploads.insert(upload, part.clone(), known);
        }
        known.sum_of(parts, self.max_size(upload))?;
        Ok(known)
    }

    pub(super) async fn load_complete_parts(
        &self,
        upload: &Upload,
    ) -> Result<Vec<Arc<Upload>>, Error> {
        let parts = upload.parts();
        let mut complete = Vec::with_capacity(parts.len());
        self.scan_parts(parts, 0, |_, part| {
            if !part.has_exact_length() {
                return Err(ProblemKind::NotFinished.into());
            }
            complete.push(part.upload.clone());
            Ok(true)
        })
        .await?;
        Ok(complete)
    }

    /// Loads parts until `visit` returns false. The first one is loaded alone, because it is usually the
    /// missing one.
    async fn scan_parts(
        &self,
        parts: &[UploadId],
        start: usize,
        mut visit: impl FnMut(usize, &Snapshot) -> Result<bool, Error> + Send,
    ) -> Result<(), Error> {
        let Some(first) = parts.get(start) else {
            return Ok(());
        };
        if !visit(start, &self.load_part(first).await?)? {
            return Ok(());
        }
        let mut at = start + 1;
        let mut loads = stream::iter(at..parts.len())
            .map(|at| self.load_part(&parts[at]))
            .buffered(MAX_LOADS);
        while let Some(part) = loads.next().await {
            if !visit(at, &part?)? {
                break;
            }
            at += 1;
        }
        Ok(())
    }

    async fn load_part(&self, id: &UploadId) -> Result<Snapshot, Error> {
        match self.load_present(id).await {
            // A part was removed: this upload can never be concatenated.
            Err(error) if is_missing(&error) => Err(ProblemKind::Gone.into()),
            part => Ok(part?),
        }
    }
}
