//! What one transaction has in hand: the rows that it needs, read at once, changed in memory, and
//! written at once.
//!
//! On SQLite there is one transaction that writes at a time. On PostgreSQL transactions of several
//! nodes run at a time: a transaction locks the rows of the jobs that it changes, the subjects whose
//! limits it checks, and the uploads that it makes jobs for, all in one order. What it read is thus
//! true until it is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use landfall_database::Statement;

use super::{
    QueueSettings, Shared,
    home::Unreadable,
    record::{Record, place, signed},
    time::time,
};
use crate::{Job, JobId, JobState, Token, job::JobEventKind};

/// Rows that are to be read.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) jobs: BTreeSet<i64>,
    /// Jobs by what was asked for: subject and request id.
    pub(super) asked: BTreeSet<(String, String)>,
    /// Jobs by their upload, which may get a job.
    pub(super) uploads: BTreeSet<String>,
    /// How many jobs may be added.
    pub(super) new_jobs: usize,
    /// Jobs whose parts are needed.
    pub(super) parts: BTreeSet<i64>,
    /// Subjects whose use of the quota is needed.
    pub(super) usage: BTreeSet<String>,
    /// Subjects whose jobs under way are to be counted.
    pub(super) active: BTreeSet<String>,
    /// Of these subjects, when the newest but so many jobs were asked for, and how many in this
    /// transaction may want to know.
    pub(super) recent: BTreeMap<(String, u32), u32>,
}

/// A job in hand.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: Record,
    /// What it counted as; `None` if it is new.
    pub(super) was: Option<(JobState, u64)>,
    pub(super) is_changed: bool,
}

/// A partial upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) length: Option<u64>,
    pub(super) stored: u64,
    /// When it was bound, in milliseconds since 1970.
    pub(super) noted: i64,
    pub(super) is_changed: bool,
}

/// An event to be written.
#[derive(Debug)]
pub(super) struct NewEvent {
    /// 0 until it is written.
    pub(super) number: i64,
    pub(super) kind: JobEventKind,
    pub(super) job: Job,
}

/// What happened in the minute of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flow {
    pub(super) bytes: u64,
    pub(super) started: i64,
    pub(super) completed: i64,
    pub(super) failed: i64,
}

/// Bytes of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) reserved: i64,
    pub(super) used: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Book<'a> {
    pub(super) settings: &'a QueueSettings,
    pub(super) is_postgres: bool,
    /// See [`Shared::slot`].
    pub(super) slot: i64,
    /// Whether the application receives progress.
    pub(super) delivers_progress: bool,
    pub(super) unreadable: &'a Unreadable,
    /// The time of the transaction, in milliseconds since 1970.
    pub(super) now: i64,
    pub(super) jobs: BTreeMap<i64, Held>,
    pub(super) asked: HashMap<(String, String), i64>,
    /// The newest job of an upload.
    pub(super) uploads: HashMap<String, i64>,
    pub(super) parts: HashMap<i64, BTreeMap<String, Part>>,
    /// Parts that are forgotten.
    pub(super) forgotten: Vec<(i64, String)>,
    /// The use of quotas as it was read, by subject and period.
    pub(super) usage: HashMap<(String, i64), Usage>,
    /// What changed of it.
    pub(super) used: BTreeMap<(String, i64), Usage>,
    pub(super) active: HashMap<String, i64>,
    /// See [`Needs::recent`]: for how many it was read, and the times, newest first.
    pub(super) recent: HashMap<(String, u32), (u32, Vec<i64>)>,
    /// Jobs that were granted in this transaction.
    pub(super) granted: HashMap<String, u32>,
    /// Numbers for new jobs.
    pub(super) numbers: VecDeque<i64>,
    pub(super) events: Vec<NewEvent>,
    /// Tokens to be written: hash and job.
    pub(super) tokens: Vec<(String, i64)>,
    /// Jobs that may have too many of them now.
    pub(super) with_more_tokens: BTreeSet<i64>,
    pub(super) flow: Flow,
    /// What others have written with it.
    pub(super) along: Vec<Statement>,
}

impl<'a> Book<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            settings: &shared.settings,
            is_postgres: shared.database.is_postgres(),
            slot: shared.slot,
            delivers_progress: shared.delivers_progress(),
            unreadable: &shared.tally.unreadable_jobs,
            now: shared.settings.clock.millis(),
            jobs: BTreeMap::new(),
            asked: HashMap::new(),
            uploads: HashMap::new(),
            parts: HashMap::new(),
            forgotten: Vec::new(),
            usage: HashMap::new(),
            used: BTreeMap::new(),
            active: HashMap::new(),
            recent: HashMap::new(),
            granted: HashMap::new(),
            numbers: VecDeque::new(),
            events: Vec::new(),
            tokens: Vec::new(),
            with_more_tokens: BTreeSet::new(),
            flow: Flow::default(),
            along: Vec::new(),
        }
    }

    /// Takes in a row that was read.
    pub(super) fn hold(&mut self, record: Record) {
        let job = &record.job;
        let number = job.id.0;
        if let Some(subject) = &job.subject {
            let key = (subject.clone(), job.request_id.clone());
            self.asked.insert(key, number);
        }
        if let Some(upload) = &job.upload_id {
            let newest = self.uploads.entry(upload.clone()).or_default();
            *newest = number.max(*newest);
        }
        let was = Some((job.state, job.offset));
        self.jobs.entry(number).or_insert(Held {
            record,
            was,
            is_changed: false,
        });
    }

    pub(super) fn record(&self, number: i64) -> Option<&Record> {
        self.jobs.get(&number).map(|held| &held.record)
    }

    /// A row to be changed.
    pub(super) fn change(&mut self, number: i64) -> Option<&mut Record> {
        let now = time(self.now);
        let held = self.jobs.get_mut(&number)?;
        held.is_changed = true;
        held.record.job.updated_at = now;
        Some(&mut held.record)
    }

    /// Adds a job and gives it its number.
    pub(super) fn add(&mut self, mut record: Record) -> Job {
        let number = self.numbers.pop_front().unwrap_or_default();
        record.job.id = JobId(number);
        let job = record.job.clone();
        self.hold(record);
        if let Some(held) = self.jobs.get_mut(&number) {
            held.was = None;
        }
        job
    }

    /// Tells what happened to a job, as it is now.
    pub(super) fn tell(&mut self, number: i64, kind: JobEventKind) {
        let Some(held) = self.jobs.get(&number) else {
            return;
        };
        let job = held.record.job.clone();
        self.events.push(NewEvent {
            number: 0,
            kind,
            job,
        });
    }

    /// Gives out a token for a job.
    pub(super) fn issue(&mut self, number: i64) -> Token {
        let token = Token::random();
        let hash = token.hash().as_str().to_owned();
        self.tokens.push((hash, number));
        token
    }

    /// What a subject has reserved and used in a period.
    pub(super) fn usage_of(&self, subject: &str, period: i64) -> Usage {
        let key = (subject.to_owned(), period);
        let kept = self.usage.get(&key).copied().unwrap_or_default();
        let more = self.used.get(&key).copied().unwrap_or_default();
        Usage {
            reserved: kept.reserved.saturating_add(more.reserved),
            used: kept.used.saturating_add(more.used),
        }
    }

    /// Adds to (or takes from) what a job's subject has reserved and used.
    pub(super) fn charge(&mut self, number: i64, reserved: i64, used: i64) {
        let Some(record) = self.record(number) else {
            return;
        };
        let Some(subject) = &record.job.subject else {
            return;
        };
        let key = (subject.clone(), record.period);
        let usage = self.used.entry(key).or_default();
        usage.reserved = usage.reserved.saturating_add(reserved);
        usage.used = usage.used.saturating_add(used);
    }

    /// What changed of the counts: for each state, jobs and bytes (of complete ones).
    pub(super) fn counts(&self) -> BTreeMap<i64, (i64, i64)> {
        let mut counts: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        let mut count = |state: JobState, offset: u64, sign: i64| {
            let (jobs, bytes) = counts.entry(place(state)).or_default();
            *jobs += sign;
            if state == JobState::Completed {
                *bytes = bytes.saturating_add(sign.saturating_mul(signed(offset)));
            }
        };
        for held in self.jobs.values() {
            let job = &held.record.job;
            if held.was == Some((job.state, job.offset)) {
                continue;
            }
            if let Some((state, offset)) = held.was {
                count(state, offset, -1);
            }
            count(job.state, job.offset, 1);
        }
        counts.retain(|_, change| *change != (0, 0));
        counts
    }
}
