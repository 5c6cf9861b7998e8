//! Granting.

use std::time::Duration;

use super::{
    Bounds, Granted, NewJob, Refusal,
    book::{Book, Needs},
    record::{Record, signed, unsigned},
    time::{span, time},
    work::Work,
};
use crate::{Job, JobId, JobState, job::JobEventKind};

/// Writes a job, or finds the one that was asked for before.
#[derive(Debug)]
pub(super) struct Grant(pub(super) NewJob);

impl Work for Grant {
    type Answer = Granted;

    fn needs(&self, needs: &mut Needs) {
        let NewJob {
            subject,
            request_id,
            bounds,
            ..
        } = &self.0;
        needs.new_jobs += 1;
        needs.asked.insert((subject.clone(), request_id.clone()));
        if bounds.quota.is_some() {
            needs.usage.insert(subject.clone());
        }
        if bounds.active.is_some() {
            needs.active.insert(subject.clone());
        }
        if let Some(rate) = bounds.rate {
            let key = (subject.clone(), rate.count);
            *needs.recent.entry(key).or_default() += 1;
        }
    }

    fn apply(&self, book: &mut Book<'_>) -> Granted {
        let new = &self.0;
        let key = (new.subject.clone(), new.request_id.clone());
        if let Some(number) = book.asked.get(&key).copied() {
            book.lapse(number);
            if let Some(record) = book.record(number).cloned() {
                return again(new, record, book);
            }
        }
        let room = match room(&new.bounds, new, book) {
            Ok(room) => room,
            Err(refusal) => return Granted::Refused(refusal),
        };
        let job = book.add(record(new, room, book));
        let number = job.id.0;
        book.charge(number, signed(room), 0);
        *book.granted.entry(new.subject.clone()).or_default() += 1;
        if let Some(active) = book.active.get_mut(&new.subject) {
            *active += 1;
        }
        if book.settings.started_at_grant {
            book.tell(number, JobEventKind::UploadStarted);
        }
        let token = book.issue(number);
        Granted::New(Box::new(job), token)
    }
}

fn again(new: &NewJob, record: Record, book: &mut Book<'_>) -> Granted {
    let job = record.job;
    if record.asked != Some(words(new)) {
        return Granted::Conflict(Box::new(job));
    }
    let token = (!job.state.is_terminal()).then(|| {
        book.with_more_tokens.insert(job.id.0);
        book.issue(job.id.0)
    });
    Granted::Again(Box::new(job), token)
}

/// What the caller said, whatever was made of it.
fn words(new: &NewJob) -> i64 {
    new.asked.unwrap_or_else(|| new.words())
}

/// How many bytes are to be reserved.
fn room(bounds: &Bounds, new: &NewJob, book: &Book<'_>) -> Result<u64, Refusal> {
    if let Some(most) = bounds.active {
        let active = book.active.get(&new.subject).copied().unwrap_or_default();
        if active >= i64::from(most) {
            return Err(Refusal::Active(most));
        }
    }
    if let Some(rate) = bounds.rate {
        let wait = wait(rate, new, book);
        if !wait.is_zero() {
            return Err(Refusal::Rate(wait));
        }
    }
    let wanted = new.size.unwrap_or(bounds.reserve);
    let Some(quota) = bounds.quota else {
        return Ok(wanted);
    };
    let usage = book.usage_of(&new.subject, book.period());
    let used = unsigned(usage.reserved).saturating_add(unsigned(usage.used));
    let left = quota.saturating_sub(used);
    match new.size {
        None if bounds.reserve == 0 && left > 0 => Ok(left),
        None if left == 0 => Err(Refusal::Quota { quota, used }),
        _ if wanted <= left => Ok(wanted),
        _ => Err(Refusal::Quota { quota, used }),
    }
}

/// How long it is until another one may be asked for.
fn wait(rate: crate::caller::Rate, new: &NewJob, book: &Book<'_>) -> Duration {
    let granted = book.granted.get(&new.subject).copied().unwrap_or_default();
    if granted >= rate.count {
        return rate.per;
    }
    let key = (new.subject.clone(), rate.count);
    let (askers, times) = match book.recent.get(&key) {
        Some((askers, times)) => (*askers, times.as_slice()),
        None => return Duration::ZERO,
    };
    // Newest first: the last one is the one whose age matters to the first who asks.
    let at = usize::try_from(askers.saturating_sub(granted + 1)).unwrap_or(usize::MAX);
    let Some(created) = times.get(at) else {
        return Duration::ZERO;
    };
    let free = created.saturating_add(span(rate.per));
    Duration::from_millis(unsigned(free.saturating_sub(book.now)))
}

fn record(new: &NewJob, room: u64, book: &Book<'_>) -> Record {
    let now = time(book.now);
    let left = new.bounds.quota.map(|_| room);
    let most = new.max_size.into_iter().chain(left).min();
    Record {
        job: Job {
            id: JobId(0),
            subject: Some(new.subject.clone()),
            request_id: new.request_id.clone(),
            state: JobState::Received,
            reason: None,
            filename: Some(new.filename.clone()),
            filetype: new.filetype.clone(),
            size: new.size,
            max_size: most.filter(|_| new.size.is_none()),
            offset: 0,
            rate: 0,
            metadata: new.metadata.clone(),
            upload_id: None,
            node: Some(book.settings.node.clone()).filter(|node| !node.is_empty()),
            created_at: now,
            expires_at: now + book.settings.valid_for,
            started_at: None,
            updated_at: now,
            ended_at: None,
        },
        asked: Some(words(new)),
        digest: None,
        ending: None,
        period: book.period(),
        reserved: room,
        measured: book.now,
    }
}
