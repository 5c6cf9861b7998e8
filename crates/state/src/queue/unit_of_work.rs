//! The unit of work of one transaction: rows are read, changed in memory, and written, each at once.
//!
//! SQLite has one writer at a time. On PostgreSQL, transactions of several nodes run concurrently.
//! Each locks the jobs that it changes, the subjects whose limits it checks, and the uploads that
//! it creates jobs for, in one global order. Rows therefore do not change between read and write.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use landfall::upload::UploadId;

use super::{
    Job, JobEventKind, JobId, JobState, Token,
    record::{Record, state_number},
    shared::Shared,
};
use crate::sql::{Statement, from_unix_millis, signed};

/// The rows that the commands of a transaction need.
#[derive(Debug, Default)]
pub(super) struct Prefetch {
    pub(super) jobs: BTreeSet<i64>,
    /// Subject and request id.
    pub(super) requests: BTreeSet<(String, String)>,
    /// By upload id; a missing job may be created.
    pub(super) uploads: BTreeSet<String>,
    pub(super) new_jobs: usize,
    pub(super) parts: BTreeSet<i64>,
    pub(super) usage: BTreeSet<String>,
    pub(super) active: BTreeSet<String>,
    /// By subject and count: how many requests in this transaction the rate limit applies to.
    pub(super) recent: BTreeMap<(String, u32), u32>,
}

impl Prefetch {
    pub(super) fn job(id: JobId) -> Self {
        Self {
            jobs: [id.0].into(),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.jobs.extend(&other.jobs);
        self.requests.extend(other.requests.iter().cloned());
        self.uploads.extend(other.uploads.iter().cloned());
        self.new_jobs += other.new_jobs;
        self.parts.extend(&other.parts);
        self.usage.extend(other.usage.iter().cloned());
        self.active.extend(other.active.iter().cloned());
        for (limit, requests) in &other.recent {
            *self.recent.entry(limit.clone()).or_default() += requests;
        }
    }
}

#[derive(Debug)]
pub(super) struct LoadedJob {
    pub(super) record: Record,
    /// `None` for a new job.
    pub(super) loaded_as: Option<(JobState, u64)>,
    pub(super) is_changed: bool,
    /// To another upload than it was loaded with.
    pub(super) is_bound: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) length: Option<u64>,
    pub(super) offset: u64,
    /// In milliseconds since 1970.
    pub(super) created_at: i64,
    pub(super) is_changed: bool,
}

#[derive(Debug)]
pub(super) struct NewEvent {
    pub(super) number: i64,
    pub(super) kind: JobEventKind,
    pub(super) job: Job,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ThroughputDelta {
    pub(super) bytes: u64,
    pub(super) started: i64,
    pub(super) completed: i64,
    pub(super) failed: i64,
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) reserved: i64,
    pub(super) used: i64,
}

#[derive(Debug)]
pub(super) struct UnitOfWork<'a> {
    pub(super) shared: &'a Shared,
    /// In milliseconds since 1970.
    pub(super) now: i64,
    pub(super) jobs: BTreeMap<i64, LoadedJob>,
    pub(super) requests: HashMap<(String, String), i64>,
    /// The newest job of each upload.
    pub(super) uploads: HashMap<String, i64>,
    pub(super) parts: HashMap<i64, BTreeMap<String, Part>>,
    pub(super) deleted_parts: Vec<(i64, String)>,
    pub(super) usage: HashMap<(String, i64), Usage>,
    pub(super) usage_changes: BTreeMap<(String, i64), Usage>,
    pub(super) active: HashMap<String, i64>,
    /// How many requests each rate limit was read for, and the times, newest first.
    pub(super) recent: HashMap<(String, u32), (u32, Vec<i64>)>,
    /// In this transaction, by subject.
    pub(super) granted: HashMap<String, u32>,
    pub(super) numbers: VecDeque<i64>,
    pub(super) events: Vec<NewEvent>,
    pub(super) tokens: Vec<(String, i64)>,
    /// They may exceed the maximum number of tokens.
    pub(super) jobs_to_prune: BTreeSet<i64>,
    pub(super) throughput: ThroughputDelta,
    /// Of other modules, executed in the same transaction.
    pub(super) extra_statements: Vec<Statement>,
}

impl<'a> UnitOfWork<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            now: shared.settings.clock.millis(),
            jobs: BTreeMap::new(),
            requests: HashMap::new(),
            uploads: HashMap::new(),
            parts: HashMap::new(),
            deleted_parts: Vec::new(),
            usage: HashMap::new(),
            usage_changes: BTreeMap::new(),
            active: HashMap::new(),
            recent: HashMap::new(),
            granted: HashMap::new(),
            numbers: VecDeque::new(),
            events: Vec::new(),
            tokens: Vec::new(),
            jobs_to_prune: BTreeSet::new(),
            throughput: ThroughputDelta::default(),
            extra_statements: Vec::new(),
        }
    }

    pub(super) fn insert_loaded(&mut self, record: Record) {
        let job = &record.job;
        let number = job.id.0;
        if let Some(subject) = &job.subject {
            let key = (subject.clone(), job.request_id.clone());
            self.requests.insert(key, number);
        }
        if let Some(upload) = &job.upload_id {
            let newest = self.uploads.entry(upload.clone()).or_default();
            *newest = number.max(*newest);
        }
        let loaded_as = Some((job.state, job.offset));
        self.jobs.entry(number).or_insert(LoadedJob {
            record,
            loaded_as,
            is_changed: false,
            is_bound: false,
        });
    }

    pub(super) fn record(&self, number: i64) -> Option<&Record> {
        self.jobs.get(&number).map(|loaded| &loaded.record)
    }

    pub(super) fn change(&mut self, number: i64) -> Option<&mut Record> {
        let now = from_unix_millis(self.now);
        let loaded = self.jobs.get_mut(&number)?;
        loaded.is_changed = true;
        loaded.record.job.updated_at = now;
        Some(&mut loaded.record)
    }

    /// Returns whether there is such a job.
    pub(super) fn bind(&mut self, number: i64, upload: &UploadId, fingerprint: &str) -> bool {
        let Some(record) = self.change(number) else {
            return false;
        };
        record.job.upload_id = Some(upload.to_string());
        record.upload_fingerprint = Some(fingerprint.to_owned());
        if let Some(loaded) = self.jobs.get_mut(&number) {
            loaded.is_bound = true;
        }
        true
    }

    pub(super) fn add(&mut self, mut record: Record) -> Job {
        let number = self.numbers.pop_front().unwrap_or_default();
        record.job.id = JobId(number);
        let job = record.job.clone();
        self.insert_loaded(record);
        if let Some(loaded) = self.jobs.get_mut(&number) {
            loaded.loaded_as = None;
        }
        job
    }

    pub(super) fn emit(&mut self, number: i64, kind: JobEventKind) {
        let Some(loaded) = self.jobs.get(&number) else {
            return;
        };
        let job = loaded.record.job.clone();
        self.events.push(NewEvent {
            number: 0,
            kind,
            job,
        });
    }

    pub(super) fn issue_token(&mut self, number: i64) -> Token {
        let token = Token::random();
        let hash = token.hash().as_str().to_owned();
        self.tokens.push((hash, number));
        token
    }

    pub(super) fn usage(&self, subject: &str, period: i64) -> Usage {
        let key = (subject.to_owned(), period);
        let loaded = self.usage.get(&key).copied().unwrap_or_default();
        let change = self.usage_changes.get(&key).copied().unwrap_or_default();
        Usage {
            reserved: loaded.reserved.saturating_add(change.reserved),
            used: loaded.used.saturating_add(change.used),
        }
    }

    pub(super) fn adjust_usage(&mut self, number: i64, reserved: i64, used: i64) {
        let Some(record) = self.record(number) else {
            return;
        };
        let Some(subject) = &record.job.subject else {
            return;
        };
        let key = (subject.clone(), record.quota_period);
        let usage = self.usage_changes.entry(key).or_default();
        usage.reserved = usage.reserved.saturating_add(reserved);
        usage.used = usage.used.saturating_add(used);
    }

    /// Jobs and completed bytes by state.
    pub(super) fn counts(&self) -> BTreeMap<i64, (i64, i64)> {
        let mut counts: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        let mut count = |state: JobState, offset: u64, sign: i64| {
            let (jobs, bytes) = counts.entry(state_number(state)).or_default();
            *jobs += sign;
            if state == JobState::Completed {
                *bytes = bytes.saturating_add(sign.saturating_mul(signed(offset)));
            }
        };
        for loaded in self.jobs.values() {
            let job = &loaded.record.job;
            if loaded.loaded_as == Some((job.state, job.offset)) {
                continue;
            }
            if let Some((state, offset)) = loaded.loaded_as {
                count(state, offset, -1);
            }
            count(job.state, job.offset, 1);
        }
        counts.retain(|_, change| *change != (0, 0));
        counts
    }
}
