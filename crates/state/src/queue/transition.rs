//! The transitions of a job: it advances, gets a length, and ends.
//!
//! Knows no SQL. A known length is fixed and bounds the offset; a final state stays. The end of a job turns its
//! reserved quota into used quota or releases it. A repeated offset does not change `updated_at`, so that
//! reconciliation finds stalled uploads.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Completion, Job, JobEnd, JobEventKind, JobState, Report,
    record::smooth_rate,
    unit_of_work::{Part, UnitOfWork},
};
use crate::sql::{from_unix_millis, replace_nul, signed, unix_millis};

const MIN_MEASURED_MILLIS: i64 = 250;

impl UnitOfWork<'_> {
    /// Each job advances once.
    pub(super) fn advance(&mut self, reports: &[Report]) {
        let mut offsets: BTreeMap<i64, (u64, i64)> = BTreeMap::new();
        for report in reports {
            let number = report.job.0;
            let state = self.record(number).map(|record| record.job.state);
            if !matches!(state, Some(JobState::Started | JobState::Progress)) {
                continue;
            }
            let offset = match &report.part {
                Some(part) => self.advance_part(number, replace_nul(part.as_str()), report),
                None => {
                    if let Some(length) = report.length {
                        self.set_size(number, length);
                    }
                    report.offset
                }
            };
            let max = offsets.entry(number).or_default();
            *max = (offset, unix_millis(report.at)).max(*max);
        }
        for (number, (offset, at)) in offsets {
            if self.set_offset(number, offset, at) && self.shared.delivers_progress() {
                self.emit(number, JobEventKind::UploadProgress);
            }
        }
    }

    /// Returns the sum of the offsets of all.
    fn advance_part(&mut self, number: i64, upload: String, report: &Report) -> u64 {
        let parts = self.parts.entry(number).or_default();
        let part = parts.entry(upload).or_insert(Part {
            length: report.length,
            offset: 0,
            created_at: self.now,
            is_changed: true,
        });
        part.is_changed = true;
        part.length = part.length.or(report.length);
        part.offset = part.offset.max(report.offset);
        let offsets = parts.values().map(|part| part.offset);
        offsets.fold(0, u64::saturating_add)
    }

    /// Returns whether the offset increased.
    fn set_offset(&mut self, number: i64, offset: u64, at: i64) -> bool {
        let Some(job) = self.record(number).map(|record| &record.job) else {
            return false;
        };
        let offset = job.size.map_or(offset, |size| size.min(offset));
        let added = offset.saturating_sub(job.offset);
        // Skip unchanged offsets, so that `updated_at` ages and reconciliation finds stalled
        // uploads.
        if added == 0 {
            return false;
        }
        let node = Some(self.shared.settings.node.clone()).filter(|node| !node.is_empty());
        let Some(record) = self.change(number) else {
            return false;
        };
        let elapsed = at
            .saturating_sub(record.rate_measured_at)
            .max(MIN_MEASURED_MILLIS);
        let elapsed = Duration::from_millis(elapsed.unsigned_abs());
        let job = &mut record.job;
        job.rate = smooth_rate(job.rate, added, elapsed);
        job.offset = offset;
        job.node = node;
        job.received_at = Some(from_unix_millis(at));
        if job.state == JobState::Started {
            job.state = JobState::Progress;
        }
        record.rate_measured_at = at;
        // New bytes prove that the upload was not removed.
        record.prepared_end = None;
        self.throughput.bytes = self.throughput.bytes.saturating_add(added);
        true
    }

    /// The upload was granted without a length.
    pub(super) fn set_size(&mut self, number: i64, length: u64) {
        let is_unknown = self
            .record(number)
            .is_some_and(|record| record.job.size.is_none());
        if !is_unknown {
            return;
        }
        let Some(record) = self.change(number) else {
            return;
        };
        set_size(&mut record.job, length);
        if record.job.subject.is_none() {
            return;
        }
        let reserved = std::mem::replace(&mut record.reserved_bytes, length);
        let change = signed(length).saturating_sub(signed(reserved));
        self.adjust_usage(number, change, 0);
    }

    pub(super) fn prepare_end(&mut self, number: i64, end: &JobEnd) {
        let is_changed = self.record(number).is_some_and(|record| {
            !record.job.state.is_terminal() && record.prepared_end.as_ref() != Some(end)
        });
        if is_changed && let Some(record) = self.change(number) {
            record.prepared_end = Some(end.clone());
        }
    }

    /// Returns whether this call did.
    pub(super) fn expire(&mut self, number: i64) -> bool {
        let now = from_unix_millis(self.now);
        let is_due = self.record(number).is_some_and(|record| {
            record.job.state == JobState::Received && record.job.expires_at <= now
        });
        is_due && self.finish(number, &JobEnd::Expired)
    }

    /// Returns whether this call did.
    pub(super) fn finish(&mut self, number: i64, end: &JobEnd) -> bool {
        let now = from_unix_millis(self.now);
        let Some(job) = self.record(number).map(|record| &record.job) else {
            return false;
        };
        if let JobEnd::Removed(why) = end {
            let is_completed = job.state == JobState::Completed;
            if is_completed && let Some(record) = self.change(number) {
                record.job.state = JobState::Removed;
                record.job.reason = Some(replace_nul(why));
            }
            return is_completed;
        }
        let is_denied = matches!(end, JobEnd::Denied(..));
        if job.state.is_terminal() || is_denied && job.state != JobState::Received {
            return false;
        }
        let is_active = job.state != JobState::Received || job.expires_at > now;
        if is_active
            && let Some(subject) = job.subject.clone()
            && let Some(subject) = self.subjects.get_mut(&subject)
        {
            subject.active = subject.active.map(|active| active - 1);
        }
        let (state, kind, reason) = match end {
            JobEnd::Completed(_) => (JobState::Completed, JobEventKind::UploadCompleted, None),
            JobEnd::Cancelled(why) => (
                JobState::Cancelled,
                JobEventKind::UploadCancelled,
                Some(why),
            ),
            JobEnd::Failed(why) | JobEnd::Denied(why, _) => {
                (JobState::Failed, JobEventKind::UploadFailed, Some(why))
            }
            JobEnd::Expired => (JobState::Expired, JobEventKind::UploadExpired, None),
            JobEnd::Removed(_) => return false,
        };
        let mut used = 0;
        if let JobEnd::Completed(Completion { bytes, etag }) = end {
            used = *bytes;
            if let Some(record) = self.change(number) {
                if record.job.size.is_none() {
                    set_size(&mut record.job, *bytes);
                }
                record.job.etag = etag.as_deref().map(replace_nul);
                record.job.started_at = record.job.started_at.or(Some(now));
            }
            self.set_offset(number, *bytes, self.now);
            self.throughput.completed += 1;
        } else if state == JobState::Failed {
            self.throughput.failed += 1;
        }
        let Some(record) = self.change(number) else {
            return false;
        };
        record.job.state = state;
        record.job.reason = reason.map(|why| replace_nul(why));
        record.job.ended_at = Some(now);
        record.prepared_end = None;
        let reserved = std::mem::take(&mut record.reserved_bytes);
        if let JobEnd::Denied(_, client) = end {
            self.set_client(number, *client);
        }
        self.adjust_usage(number, -signed(reserved), signed(used));
        self.emit(number, kind);
        true
    }
}

/// The offset does not exceed the size. Partial uploads that are not in the final one counted before.
fn set_size(job: &mut Job, size: u64) {
    job.size = Some(size);
    job.offset = job.offset.min(size);
}
