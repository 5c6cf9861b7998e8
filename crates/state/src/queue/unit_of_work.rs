//! The unit of work of one transaction: rows are read, changed in memory, and written, each at once.
//!
//! SQLite has one writer at a time. On PostgreSQL, transactions of several nodes run concurrently.
//! Each locks the jobs that it changes, the subjects whose limits it checks, and the uploads that
//! it creates jobs for, in one global order. Rows therefore do not change between read and write.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::IpAddr,
};

use super::{
    GrantLimits, Job, JobEventKind, JobId, JobState, StartRequest, Token,
    links::LoadedLink,
    record::{Record, state_number},
    shared::Shared,
};
use crate::sql::{Statement, from_unix_millis, signed};

/// The rows that a command needs.
#[derive(Debug)]
pub(super) enum RequiredRows {
    Job(JobId),
    JobWithParts(JobId),
    Jobs(Vec<i64>),
    /// The job of the upload, or a new one.
    Upload(String),
    /// The job of the subject's request, or a new one.
    Grant {
        subject: String,
        request_id: String,
        limits: GrantLimits,
        link: Option<i64>,
    },
}

#[derive(Debug)]
pub(super) struct LoadedJob {
    pub(super) record: Record,
    /// `None` for a new job.
    pub(super) loaded_as: Option<(JobState, u64)>,
    pub(super) is_changed: bool,
    /// To another upload than it was loaded with, or the client is another one.
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

/// The values that limits of a subject depend on; `None` if no command needs it.
#[derive(Debug, Default)]
pub(super) struct Subject {
    /// In the current period.
    pub(super) usage: Option<Usage>,
    /// The number of jobs.
    pub(super) active: Option<i64>,
    /// By the count of the rate limit.
    pub(super) recent: BTreeMap<u32, RecentJobs>,
    /// The number of grants in this transaction.
    pub(super) granted: u32,
}

#[derive(Debug, Default)]
pub(super) struct RecentJobs {
    /// The number of requests in this transaction that the rate limit applies to.
    pub(super) requests: u32,
    /// Newest first; the last one decides for the first request.
    pub(super) times: Vec<i64>,
}

/// Rows are loaded for each key that is present.
#[derive(Debug)]
pub(super) struct UnitOfWork<'a> {
    pub(super) shared: &'a Shared,
    /// In milliseconds since 1970.
    pub(super) now: i64,
    pub(super) needed_jobs: BTreeSet<i64>,
    pub(super) new_jobs: usize,
    pub(super) jobs: BTreeMap<i64, LoadedJob>,
    /// By subject and request id.
    pub(super) requests: HashMap<(String, String), Option<i64>>,
    /// The newest job of each upload.
    pub(super) uploads: HashMap<String, Option<i64>>,
    pub(super) parts: HashMap<i64, BTreeMap<String, Part>>,
    pub(super) deleted_parts: Vec<(i64, String)>,
    pub(super) subjects: BTreeMap<String, Subject>,
    /// Of grants; `None` if there is no such link.
    pub(super) links: BTreeMap<i64, Option<LoadedLink>>,
    pub(super) usage_changes: BTreeMap<(String, i64), Usage>,
    pub(super) numbers: VecDeque<i64>,
    pub(super) events: Vec<NewEvent>,
    pub(super) tokens: Vec<(String, i64)>,
    /// They may exceed the maximum number of tokens.
    pub(super) jobs_to_prune: BTreeSet<i64>,
    pub(super) throughput: ThroughputDelta,
    /// When API keys were used.
    pub(super) key_uses: BTreeMap<i64, i64>,
    /// Of other modules, executed in the same transaction.
    pub(super) extra_statements: Vec<Statement>,
}

impl<'a> UnitOfWork<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            now: shared.settings.clock.millis(),
            needed_jobs: BTreeSet::new(),
            new_jobs: 0,
            jobs: BTreeMap::new(),
            requests: HashMap::new(),
            uploads: HashMap::new(),
            parts: HashMap::new(),
            deleted_parts: Vec::new(),
            subjects: BTreeMap::new(),
            links: BTreeMap::new(),
            usage_changes: BTreeMap::new(),
            numbers: VecDeque::new(),
            events: Vec::new(),
            tokens: Vec::new(),
            jobs_to_prune: BTreeSet::new(),
            throughput: ThroughputDelta::default(),
            key_uses: BTreeMap::new(),
            extra_statements: Vec::new(),
        }
    }

    /// Before [`load`](Self::load).
    pub(super) fn add_needs(&mut self, needs: &RequiredRows) {
        match needs {
            RequiredRows::Job(job) => {
                self.needed_jobs.insert(job.0);
            }
            RequiredRows::JobWithParts(job) => {
                self.needed_jobs.insert(job.0);
                self.parts.entry(job.0).or_default();
            }
            RequiredRows::Jobs(numbers) => self.needed_jobs.extend(numbers),
            RequiredRows::Upload(upload) => {
                self.new_jobs += 1;
                self.uploads.entry(upload.clone()).or_default();
            }
            RequiredRows::Grant {
                subject,
                request_id,
                limits,
                link,
            } => {
                self.new_jobs += 1;
                self.links.extend(link.map(|link| (link, None)));
                let request = (subject.clone(), request_id.clone());
                self.requests.entry(request).or_default();
                if limits.quota.is_none()
                    && limits.max_active.is_none()
                    && limits.rate_limit.is_none()
                {
                    return;
                }
                let of_subject = self.subjects.entry(subject.clone()).or_default();
                if limits.quota.is_some() {
                    of_subject.usage.get_or_insert_default();
                }
                if limits.max_active.is_some() {
                    of_subject.active.get_or_insert_default();
                }
                if let Some(rate) = limits.rate_limit {
                    of_subject.recent.entry(rate.count).or_default().requests += 1;
                }
            }
        }
    }

    pub(super) fn insert_loaded(&mut self, record: Record) {
        let job = &record.job;
        let number = job.id.0;
        if let Some(subject) = &job.subject {
            let key = (subject.clone(), job.request_id.clone());
            self.requests.insert(key, Some(number));
        }
        if let Some(upload) = &job.upload_id {
            let newest = self.uploads.entry(upload.clone()).or_default();
            *newest = (*newest).max(Some(number));
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
    pub(super) fn bind(&mut self, number: i64, start: &StartRequest) -> bool {
        let Some(record) = self.change(number) else {
            return false;
        };
        if !start.is_part {
            record.job.upload_id = Some(start.upload.to_string());
            record.upload_fingerprint = Some(start.fingerprint.clone());
        }
        self.set_client(number, start.client);
        true
    }

    /// Of the request that binds an upload, or is denied.
    pub(super) fn set_client(&mut self, number: i64, client: Option<IpAddr>) {
        if let Some(loaded) = self.jobs.get_mut(&number) {
            loaded.record.job.client = client.or(loaded.record.job.client);
            loaded.is_bound = true;
        }
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

    /// Returns the usage in the current period.
    pub(super) fn usage(&self, subject: &str) -> Usage {
        let loaded = self.subjects.get(subject).and_then(|of| of.usage);
        let loaded = loaded.unwrap_or_default();
        let key = (subject.to_owned(), self.quota_period());
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
