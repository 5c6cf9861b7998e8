//! Grants, alone or together with the start of the upload.

use std::{fmt, time::Duration};

use landfall_hooks::outbox::Outbox;

use super::{
    Bounds, GrantStarted, Granted, NewJob, Queue, QueueError, Refusal, Start,
    book::{Book, Needs},
    record::{Record, clean, signed, unsigned},
    start::Bind,
    time::{span, time},
    work::Work,
    writer::Command,
};
use crate::{Job, job::JobEventKind};

/// Bytes of a subject or an id: indexes of PostgreSQL take no more than 2704 bytes.
pub(super) const MAX_ID_LEN: usize = 1024;

impl Queue {
    /// Writes a job and reserves quota, or finds the one that was asked for before. The grant holds
    /// before [`Job::expires_at`].
    ///
    /// # Errors
    /// The database failed or is slow; ask again. The ids are too long.
    ///
    /// # Cancel safety
    /// Dropped, it may have granted: asking again finds that.
    pub async fn grant(&self, new: NewJob) -> Result<Granted, QueueError> {
        let new = self.accept(new)?;
        self.write(Grant(new), Command::Do).await
    }

    /// Writes a job as [`grant`](Self::grant) does, and binds its upload as [`start`](Self::start) does,
    /// in one transaction. `start` gets the job with its number, while other requests wait; it may be
    /// called again for the same job. No token is issued.
    ///
    /// # Errors
    /// The database failed or is slow; try again. The ids are too long.
    ///
    /// # Cancel safety
    /// Dropped, it may have opened the upload: the same request again finds its job.
    pub async fn grant_and_start(
        &self,
        new: NewJob,
        start: impl Fn(&Job) -> Start + Send + 'static,
    ) -> Result<GrantStarted, QueueError> {
        let both = GrantAndStart {
            new: self.accept(new)?,
            start: Box::new(start),
        };
        self.write(both, Command::Do).await
    }

    /// Checks what a database cannot store, and whether the events of a new job can be delivered.
    fn accept(&self, mut new: NewJob) -> Result<NewJob, QueueError> {
        for text in [&mut new.subject, &mut new.request_id, &mut new.filename] {
            *text = clean(text);
        }
        new.filetype = new.filetype.as_deref().map(clean);
        if new.subject.len() > MAX_ID_LEN {
            return Err(QueueError::TooLong("the subject"));
        }
        if new.request_id.len() > MAX_ID_LEN {
            return Err(QueueError::TooLong("the request id"));
        }
        let outbox = self.0.shared.settings.outbox.as_ref();
        if outbox.is_some_and(Outbox::is_full) {
            return Err(QueueError::OutboxFull);
        }
        Ok(new)
    }
}

/// Writes a job, or finds the one that was asked for before.
#[derive(Debug)]
struct Grant(NewJob);

impl Work for Grant {
    type Answer = Granted;

    fn needs(&self, needs: &mut Needs) {
        prefetch(&self.0, needs);
    }

    fn apply(&self, book: &mut Book<'_>) -> Granted {
        match find_or_add(&self.0, book) {
            Entry::New(job) => {
                let token = book.issue(job.id.0);
                Granted::New(job, token)
            }
            Entry::Existing(job) => {
                let token = (!job.state.is_terminal()).then(|| {
                    book.with_more_tokens.insert(job.id.0);
                    book.issue(job.id.0)
                });
                Granted::Again(job, token)
            }
            Entry::Conflict(job) => Granted::Conflict(job),
            Entry::Refused(refusal) => Granted::Refused(refusal),
        }
    }
}

/// Makes the start of a job's upload once the job has its number.
type MakeStart = dyn Fn(&Job) -> Start + Send;

/// Writes a job and binds its upload. No token is issued: the caller's own request uses the grant.
struct GrantAndStart {
    new: NewJob,
    start: Box<MakeStart>,
}

impl fmt::Debug for GrantAndStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GrantAndStart").field(&self.new).finish()
    }
}

impl Work for GrantAndStart {
    type Answer = GrantStarted;

    fn needs(&self, needs: &mut Needs) {
        prefetch(&self.new, needs);
    }

    fn apply(&self, book: &mut Book<'_>) -> GrantStarted {
        match find_or_add(&self.new, book) {
            Entry::New(job) => {
                let start = (self.start)(&job);
                let started = Bind { job: job.id, start }.apply(book);
                let job = book.record(job.id.0).map_or(*job, |now| now.job.clone());
                GrantStarted::New(Box::new(job), started)
            }
            Entry::Existing(job) => GrantStarted::Again(job),
            Entry::Conflict(job) => GrantStarted::Conflict(job),
            Entry::Refused(refusal) => GrantStarted::Refused(refusal),
        }
    }
}

fn prefetch(new: &NewJob, needs: &mut Needs) {
    let NewJob {
        subject,
        request_id,
        bounds,
        ..
    } = new;
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

/// What a request for a grant finds.
enum Entry {
    /// A job that was added.
    New(Box<Job>),
    /// The job of the same request before.
    Existing(Box<Job>),
    /// The job of another request with this id.
    Conflict(Box<Job>),
    Refused(Refusal),
}

fn find_or_add(new: &NewJob, book: &mut Book<'_>) -> Entry {
    let key = (new.subject.clone(), new.request_id.clone());
    if let Some(number) = book.asked.get(&key).copied() {
        book.lapse(number);
        if let Some(record) = book.record(number) {
            let job = Box::new(record.job.clone());
            return match record.asked == Some(fingerprint(new)) {
                true => Entry::Existing(job),
                false => Entry::Conflict(job),
            };
        }
    }
    let room = match room(&new.bounds, new, book) {
        Ok(room) => room,
        Err(refusal) => return Entry::Refused(refusal),
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
    Entry::New(Box::new(job))
}

/// The fingerprint of what the caller requested, whatever a policy made of it.
fn fingerprint(new: &NewJob) -> i64 {
    new.asked.unwrap_or_else(|| new.fingerprint())
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
    let mut job = new.draft(now);
    let most = job.max_size.into_iter().chain(left).min();
    job.max_size = most.filter(|_| new.size.is_none());
    job.node = Some(book.settings.node.clone()).filter(|node| !node.is_empty());
    job.expires_at = now + book.settings.valid_for;
    Record {
        job,
        asked: Some(fingerprint(new)),
        digest: None,
        ending: None,
        period: book.period(),
        reserved: room,
        measured: book.now,
    }
}
