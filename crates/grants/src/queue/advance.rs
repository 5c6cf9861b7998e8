//! How jobs get on, and how they end.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Completion, End, Report,
    book::{Book, Needs, Part},
    record::{clean, signed, smooth_rate},
    time::time,
    work::Work,
};
use crate::{JobId, JobState, job::JobEventKind};

/// A rate isn't measured over less, in milliseconds.
const SHORTEST: i64 = 250;

/// The end of a job.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) job: JobId,
    pub(super) end: End,
}

impl Work for Finish {
    type Answer = bool;

    fn needs(&self, needs: &mut Needs) {
        needs.jobs.insert(self.job.0);
    }

    fn apply(&self, book: &mut Book<'_>) -> bool {
        book.finish(self.job.0, &self.end)
    }
}

/// Stores the end that a job has if its upload is gone.
#[derive(Debug)]
pub(super) struct SetEnding {
    pub(super) job: JobId,
    pub(super) end: End,
}

impl Work for SetEnding {
    type Answer = ();

    fn needs(&self, needs: &mut Needs) {
        needs.jobs.insert(self.job.0);
    }

    fn apply(&self, book: &mut Book<'_>) {
        let number = self.job.0;
        let is_changed = book.record(number).is_some_and(|record| {
            !record.job.state.is_terminal() && record.ending.as_ref() != Some(&self.end)
        });
        if is_changed && let Some(record) = book.change(number) {
            record.ending = Some(self.end.clone());
        }
    }
}

/// Expires what of these wasn't begun in time; says how many.
#[derive(Debug)]
pub(super) struct Lapse(pub(super) Vec<i64>);

impl Work for Lapse {
    type Answer = u64;

    fn needs(&self, needs: &mut Needs) {
        needs.jobs.extend(&self.0);
    }

    fn apply(&self, book: &mut Book<'_>) -> u64 {
        let lapsed = self.0.iter().filter(|number| book.lapse(**number));
        u64::try_from(lapsed.count()).unwrap_or(u64::MAX)
    }
}

/// Says which rows reports need.
pub(super) fn needs(reports: &[Report], needs: &mut Needs) {
    for report in reports {
        needs.jobs.insert(report.job.0);
        if report.part.is_some() {
            needs.parts.insert(report.job.0);
        }
    }
}

impl Book<'_> {
    /// Takes in how far uploads got: each job advances once.
    pub(super) fn advance(&mut self, reports: &[Report]) {
        let mut reached: BTreeMap<i64, u64> = BTreeMap::new();
        for report in reports {
            let number = report.job.0;
            let state = self.record(number).map(|record| record.job.state);
            if !matches!(state, Some(JobState::Started | JobState::Progress)) {
                continue;
            }
            let offset = match &report.part {
                Some(part) => self.note_part(number, clean(part.as_str()), report),
                None => {
                    if let Some(length) = report.length {
                        self.learn_size(number, length);
                    }
                    report.offset
                }
            };
            let so_far = reached.entry(number).or_default();
            *so_far = offset.max(*so_far);
        }
        for (number, offset) in reached {
            if self.store(number, offset) > 0 && self.delivers_progress {
                self.tell(number, JobEventKind::UploadProgress);
            }
        }
    }

    /// Notes how far a part got; gives back what all of them have.
    fn note_part(&mut self, number: i64, upload: String, report: &Report) -> u64 {
        let noted = self.now;
        let parts = self.parts.entry(number).or_default();
        let part = parts.entry(upload).or_insert(Part {
            length: report.length,
            stored: 0,
            noted,
            is_changed: true,
        });
        part.is_changed = true;
        part.length = part.length.or(report.length);
        part.stored = part.stored.max(report.offset);
        let all = parts.values().map(|part| part.stored);
        all.fold(0, u64::saturating_add)
    }

    /// Notes that a job's upload has so many bytes; gives back how many of them are new.
    fn store(&mut self, number: i64, offset: u64) -> u64 {
        let now = self.now;
        let Some(job) = self.record(number).map(|record| &record.job) else {
            return 0;
        };
        let offset = job.size.map_or(offset, |size| size.min(offset));
        let more = offset.saturating_sub(job.offset);
        // What isn't news isn't written, so that an upload that stands still is seen to.
        if more == 0 {
            return 0;
        }
        let node = Some(self.settings.node.clone()).filter(|node| !node.is_empty());
        let Some(record) = self.change(number) else {
            return 0;
        };
        let passed = now.saturating_sub(record.measured).max(SHORTEST);
        let passed = Duration::from_millis(passed.unsigned_abs());
        let job = &mut record.job;
        job.rate = smooth_rate(job.rate, more, passed);
        job.offset = offset;
        job.node = node;
        if job.state == JobState::Started {
            job.state = JobState::Progress;
        }
        record.measured = now;
        // It was not removed after all.
        record.ending = None;
        self.flow.bytes = self.flow.bytes.saturating_add(more);
        more
    }

    /// Learns the length of an upload that was granted without one.
    pub(super) fn learn_size(&mut self, number: i64, length: u64) {
        let is_news = self
            .record(number)
            .is_some_and(|record| record.job.size.is_none());
        if !is_news {
            return;
        }
        let Some(record) = self.change(number) else {
            return;
        };
        record.job.size = Some(length);
        if record.job.subject.is_none() {
            return;
        }
        let before = std::mem::replace(&mut record.reserved, length);
        let change = signed(length).saturating_sub(signed(before));
        self.charge(number, change, 0);
    }

    /// Expires a job that wasn't begun in time; says whether this did it.
    pub(super) fn lapse(&mut self, number: i64) -> bool {
        let now = time(self.now);
        let is_late = self.record(number).is_some_and(|record| {
            record.job.state == JobState::Received && record.job.expires_at <= now
        });
        is_late && self.finish(number, &End::Expired)
    }

    /// Ends a job unless it has ended; says whether this did it.
    fn finish(&mut self, number: i64, end: &End) -> bool {
        let now = time(self.now);
        let Some(job) = self.record(number).map(|record| &record.job) else {
            return false;
        };
        if job.state.is_terminal() {
            return false;
        }
        let is_counted = job.state != JobState::Received || job.expires_at > now;
        if is_counted
            && let Some(subject) = job.subject.clone()
            && let Some(active) = self.active.get_mut(&subject)
        {
            *active -= 1;
        }
        let (state, kind, reason) = match end {
            End::Completed(_) => (JobState::Completed, JobEventKind::UploadCompleted, None),
            End::Cancelled(why) => (
                JobState::Cancelled,
                JobEventKind::UploadCancelled,
                Some(why),
            ),
            End::Failed(why) => (JobState::Failed, JobEventKind::UploadFailed, Some(why)),
            End::Expired => (JobState::Expired, JobEventKind::UploadExpired, None),
        };
        let mut used = 0;
        if let End::Completed(Completion { bytes, etag }) = end {
            used = *bytes;
            if let Some(record) = self.change(number) {
                record.job.size = record.job.size.or(Some(*bytes));
                record.job.etag = etag.as_deref().map(clean);
                record.job.started_at = record.job.started_at.or(Some(now));
            }
            self.store(number, *bytes);
            self.flow.completed += 1;
        } else if state == JobState::Failed {
            self.flow.failed += 1;
        }
        let Some(record) = self.change(number) else {
            return false;
        };
        record.job.state = state;
        record.job.reason = reason.map(|why| clean(why));
        record.job.ended_at = Some(now);
        record.ending = None;
        let reserved = std::mem::take(&mut record.reserved);
        self.charge(number, -signed(reserved), signed(used));
        self.tell(number, kind);
        true
    }
}
