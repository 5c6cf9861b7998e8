//! Binding uploads to jobs.

use std::time::SystemTime;

use landfall::upload::Upload;

use super::{
    Start, Started,
    book::{Book, Needs, Part},
    record::{Record, clean},
    time::{millis, time},
    work::Work,
};
use crate::{Job, JobId, JobState, job::JobEventKind};

/// Parts of one job.
const MOST_PARTS: usize = 1000;
/// After so many milliseconds a part of which nothing came makes room for others: the answer to its
/// creation was lost.
const FORGETTABLE: i64 = 10_000;

/// Binds an upload to a job.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) job: JobId,
    pub(super) start: Start,
}

impl Work for Bind {
    type Answer = Started;

    fn needs(&self, needs: &mut Needs) {
        needs.jobs.insert(self.job.0);
        if self.start.is_part {
            needs.parts.insert(self.job.0);
        }
    }

    fn apply(&self, book: &mut Book<'_>) -> Started {
        let number = self.job.0;
        if book.lapse(number) {
            return Started::TooLate;
        }
        let Some(record) = book.record(number) else {
            return Started::Unknown;
        };
        if record.job.state.is_terminal() {
            return Started::Ended(record.job.state);
        }
        if let Some(answer) = self.refusal(record) {
            return answer;
        }
        if self.start.is_part && !self.note_part(book) {
            return Started::TooMuch;
        }
        if !self.start.is_part {
            if let Some(length) = self.start.length {
                book.learn_size(number, length);
            }
            let Some(record) = book.change(number) else {
                return Started::Unknown;
            };
            record.job.upload_id = Some(self.start.upload.to_string());
            record.digest = Some(self.start.digest.clone());
        }
        book.begin(number);
        book.along.extend(self.start.along.clone());
        Started::Bound
    }
}

impl Bind {
    /// What is in the way, judged by the job alone.
    fn refusal(&self, record: &Record) -> Option<Started> {
        let start = &self.start;
        let job = &record.job;
        if start.is_part {
            // What was granted is bound already, whole or joined.
            return job.upload_id.as_ref().map(|_| Started::Differs);
        }
        if let (Some(bound), Some(digest)) = (&job.upload_id, &record.digest) {
            if *digest != start.digest {
                return Some(Started::Differs);
            }
            let is_same = bound == start.upload.as_str();
            let is_replaced = start.instead_of.as_ref().map(AsRef::as_ref) == Some(bound.as_str());
            if !is_same && !is_replaced {
                let other = landfall::upload::UploadId::new(bound).ok()?;
                return Some(Started::Other(other));
            }
        }
        match (start.length, job.size, job.max_size) {
            (Some(length), Some(size), _) if length > size => Some(Started::TooMuch),
            (Some(length), Some(size), _) if length < size => Some(Started::Differs),
            (Some(length), None, Some(most)) if length > most => Some(Started::TooMuch),
            _ => None,
        }
    }

    /// Notes a part, if there is room for it.
    fn note_part(&self, book: &mut Book<'_>) -> bool {
        let number = self.job.0;
        let most = book
            .record(number)
            .and_then(|record| record.job.size.or(record.job.max_size))
            .unwrap_or(u64::MAX);
        let now = book.now;
        let parts = book.parts.entry(number).or_default();
        let upload = clean(self.start.upload.as_str());
        if parts.contains_key(&upload) {
            return true;
        }
        let length = self.start.length.unwrap_or_default();
        while parts.len() >= MOST_PARTS || promised(parts.values()).saturating_add(length) > most {
            let oldest = parts
                .iter()
                .filter(|(_, part)| {
                    part.stored == 0 && part.noted.saturating_add(FORGETTABLE) <= now
                })
                .min_by_key(|(_, part)| part.noted)
                .map(|(upload, _)| upload.clone());
            let Some(oldest) = oldest else {
                return false;
            };
            parts.remove(&oldest);
            book.forgotten.push((number, oldest));
        }
        let part = Part {
            length: self.start.length,
            stored: 0,
            noted: now,
            is_changed: true,
        };
        parts.insert(upload, part);
        true
    }
}

/// Bytes that parts have or will have.
fn promised<'a>(parts: impl Iterator<Item = &'a Part>) -> u64 {
    parts
        .map(|part| part.length.unwrap_or(part.stored).max(part.stored))
        .fold(0, u64::saturating_add)
}

/// A job for an upload that came without a grant.
#[derive(Debug)]
pub(super) struct Follow {
    upload: String,
    filename: Option<String>,
    filetype: Option<String>,
    length: Option<u64>,
    metadata: serde_json::Map<String, serde_json::Value>,
    created: Option<SystemTime>,
}

impl Follow {
    pub(super) fn new(upload: &Upload) -> Self {
        let mut metadata = serde_json::Map::new();
        for (key, _) in upload.metadata.iter() {
            if let Some(value) = upload.metadata.get_text(key) {
                metadata.insert(key.to_owned(), value.into_owned().into());
            }
        }
        let mut take = |keys: [&str; 3]| {
            let stated = keys.into_iter().find_map(|key| metadata.remove(key));
            stated.and_then(|value| value.as_str().map(clean))
        };
        Self {
            upload: upload.id.to_string(),
            filename: take(["filename", "name", "fileName"]),
            filetype: take(["filetype", "type", "contentType"]),
            length: upload.length,
            metadata,
            created: upload.created,
        }
    }

    fn record(&self, book: &Book<'_>) -> Record {
        let now = time(book.now);
        Record {
            job: Job {
                id: JobId(0),
                subject: None,
                request_id: self.upload.clone(),
                state: JobState::Received,
                reason: None,
                filename: self.filename.clone(),
                filetype: self.filetype.clone(),
                size: self.length,
                max_size: None,
                offset: 0,
                etag: None,
                rate: 0,
                metadata: self.metadata.clone(),
                upload_id: Some(self.upload.clone()),
                node: None,
                created_at: self.created.unwrap_or(now),
                expires_at: now,
                started_at: None,
                updated_at: now,
                ended_at: None,
            },
            asked: None,
            digest: None,
            ending: None,
            period: 0,
            reserved: 0,
            measured: book.now,
        }
    }
}

impl Work for Follow {
    type Answer = JobId;

    fn needs(&self, needs: &mut Needs) {
        needs.new_jobs += 1;
        needs.uploads.insert(self.upload.clone());
    }

    fn apply(&self, book: &mut Book<'_>) -> JobId {
        let newest = book.uploads.get(&self.upload);
        if let Some(record) = newest.and_then(|number| book.record(*number)) {
            let ended = record.job.ended_at.map(millis);
            // A later upload may have the id of an earlier one.
            let is_this = match (ended, self.created.map(millis)) {
                (Some(ended), Some(created)) => created <= ended,
                (ended, _) => ended.is_none(),
            };
            if is_this {
                return record.job.id;
            }
        }
        let id = book.add(self.record(book)).id;
        book.begin(id.0);
        id
    }
}

impl Book<'_> {
    /// Notes that a job's upload is created.
    fn begin(&mut self, number: i64) {
        let (now, measured) = (time(self.now), self.now);
        let node = self.settings.node.clone();
        let by_grant = self.settings.started_at_grant;
        let Some(record) = self.change(number) else {
            return;
        };
        record.job.node = Some(node).filter(|node| !node.is_empty());
        if record.job.state != JobState::Received {
            return;
        }
        let is_granted = record.job.subject.is_some();
        record.job.state = JobState::Started;
        record.job.started_at = Some(now);
        record.measured = measured;
        self.flow.started += 1;
        if !(by_grant && is_granted) {
            self.tell(number, JobEventKind::UploadStarted);
        }
    }
}
