//! The rules that bind uploads to jobs, and that create jobs for uploads without a grant.
//!
//! A job has at most one upload, which is replaced only if the caller has found that it does not exist; and before it,
//! up to `MAX_PARTS` partial uploads within the granted length. A repeated start succeeds and emits no event.

use std::time::SystemTime;

use landfall::upload::{Upload, UploadId};

use super::{
    Job, JobEventKind, JobId, JobState, StartOutcome, StartRequest,
    record::Record,
    unit_of_work::{Part, UnitOfWork},
};
use crate::sql::{from_unix_millis, replace_nul, unix_millis};

const MAX_PARTS: usize = 1000;
/// An empty partial upload may be replaced: the response to its creation was lost.
const ABANDONED_PART_MILLIS: i64 = 10_000;

impl UnitOfWork<'_> {
    /// Binds an upload to a job.
    pub(super) fn start(&mut self, number: i64, start: &StartRequest) -> StartOutcome {
        if self.expire(number) {
            return StartOutcome::Expired;
        }
        let Some(record) = self.record(number) else {
            return StartOutcome::NotFound;
        };
        if record.job.state.is_terminal() {
            return StartOutcome::Ended(record.job.state);
        }
        if let Some(rejection) = check(start, record) {
            return rejection;
        }
        if start.is_part && !self.add_part(number, start) {
            return StartOutcome::TooLarge;
        }
        if !start.is_part
            && let Some(length) = start.length
        {
            self.set_size(number, length);
        }
        if !self.bind(number, start) {
            return StartOutcome::NotFound;
        }
        self.mark_started(number);
        self.extra_statements.extend(start.extra_statement.clone());
        StartOutcome::Bound
    }

    /// Returns whether the grant allows it.
    fn add_part(&mut self, number: i64, start: &StartRequest) -> bool {
        let max = self
            .record(number)
            .and_then(|record| record.job.size.or(record.job.max_size))
            .unwrap_or(u64::MAX);
        let now = self.now;
        let parts = self.parts.entry(number).or_default();
        let upload = replace_nul(start.upload.as_str());
        if parts.contains_key(&upload) {
            return true;
        }
        let length = start.length.unwrap_or_default();
        while parts.len() >= MAX_PARTS
            || sum_of_lengths(parts.values()).saturating_add(length) > max
        {
            let oldest = parts
                .iter()
                .filter(|(_, part)| {
                    part.offset == 0 && part.created_at.saturating_add(ABANDONED_PART_MILLIS) <= now
                })
                .min_by_key(|(_, part)| part.created_at)
                .map(|(upload, _)| upload.clone());
            let Some(oldest) = oldest else {
                return false;
            };
            parts.remove(&oldest);
            self.deleted_parts.push((number, oldest));
        }
        let part = Part {
            length: start.length,
            offset: 0,
            created_at: now,
            is_changed: true,
        };
        parts.insert(upload, part);
        true
    }

    /// Returns the job of an upload without a grant, and creates it if there is none.
    pub(super) fn track(&mut self, job: &Job, created: Option<SystemTime>) -> JobId {
        let newest = self.uploads.get(&job.request_id).copied().flatten();
        if let Some(record) = newest.and_then(|number| self.record(number)) {
            let ended = record.job.ended_at.map(unix_millis);
            // An upload id can be reused after the earlier upload ended.
            let is_this = match (ended, created.map(unix_millis)) {
                (Some(ended), Some(created)) => created <= ended,
                (ended, _) => ended.is_none(),
            };
            if is_this {
                return record.job.id;
            }
        }
        let id = self.add(Record::new(job.clone(), self.now)).id;
        self.mark_started(id.0);
        id
    }

    fn mark_started(&mut self, number: i64) {
        let (now, rate_measured_at) = (from_unix_millis(self.now), self.now);
        let settings = &self.shared.settings;
        let Some(record) = self.change(number) else {
            return;
        };
        record.job.node = Some(settings.node.clone()).filter(|node| !node.is_empty());
        if record.job.state != JobState::Received {
            return;
        }
        let is_granted = record.job.subject.is_some();
        record.job.state = JobState::Started;
        record.job.started_at = Some(now);
        record.rate_measured_at = rate_measured_at;
        self.throughput.started += 1;
        if !(settings.started_at_grant && is_granted) {
            self.emit(number, JobEventKind::UploadStarted);
        }
    }
}

fn check(start: &StartRequest, record: &Record) -> Option<StartOutcome> {
    let job = &record.job;
    if start.is_part {
        // The whole upload is already bound.
        return job.upload_id.as_ref().map(|_| StartOutcome::Conflict);
    }
    if let (Some(bound), Some(fingerprint)) = (&job.upload_id, &record.upload_fingerprint) {
        if *fingerprint != start.fingerprint {
            return Some(StartOutcome::Conflict);
        }
        let is_same = bound == start.upload.as_str();
        let is_replaced = start.replaces.as_ref().map(AsRef::as_ref) == Some(bound.as_str());
        if !is_same && !is_replaced {
            let other = UploadId::new(bound).ok()?;
            return Some(StartOutcome::Other(other));
        }
    }
    match (start.length, job.size, job.max_size) {
        (Some(length), Some(size), _) if length > size => Some(StartOutcome::TooLarge),
        (Some(length), Some(size), _) if length < size => Some(StartOutcome::Conflict),
        (Some(length), None, Some(max)) if length > max => Some(StartOutcome::TooLarge),
        _ => None,
    }
}

fn sum_of_lengths<'a>(parts: impl Iterator<Item = &'a Part>) -> u64 {
    parts
        .map(|part| part.length.unwrap_or(part.offset).max(part.offset))
        .fold(0, u64::saturating_add)
}

/// Returns the job of an upload without a grant.
pub(super) fn job_of(upload: &Upload, now: SystemTime) -> Job {
    let mut metadata = serde_json::Map::new();
    for (key, _) in upload.metadata.iter() {
        if let Some(value) = upload.metadata.get_text(key) {
            metadata.insert(key.to_owned(), value.into_owned().into());
        }
    }
    let mut take = |keys: [&str; 3]| {
        let stated = keys.into_iter().find_map(|key| metadata.remove(key));
        stated.and_then(|value| value.as_str().map(replace_nul))
    };
    let id = upload.id.to_string();
    Job {
        filename: take(["filename", "name", "fileName"]),
        filetype: take(["filetype", "type", "contentType"]),
        size: upload.length,
        metadata,
        upload_id: Some(id.clone()),
        created_at: upload.created.unwrap_or(now),
        ..Job::new(id, now)
    }
}
