//! The rules of grants: repeated requests, the limits that depend on other jobs, and the reservation of quota.
//!
//! They know no SQL: they read and change the unit of work, whose rows no other transaction changes meanwhile, so
//! concurrent grants exceed no limit. A request is compared by its fingerprint from before the policies. Limits of a
//! single upload are checked by `policy`.

use std::time::Duration;

use super::{
    GrantOutcome, Job, JobEventKind, LimitExceeded, NewJob, Queue, QueueError, RateLimit,
    StartOutcome, StartRequest,
    links::LoadedLink,
    record::{MAX_ID_LEN, Record},
    unit_of_work::{RequiredRows, UnitOfWork},
};
use crate::outbox::Outbox;
use crate::sql::{from_unix_millis, millis, replace_nul, signed, unsigned};

impl Queue {
    /// Creates a job and reserves quota, or returns the job of an earlier, equal request.
    ///
    /// The grant is valid until [`Job::expires_at`].
    ///
    /// # Errors
    /// An id is too long, or the outbox is full.
    pub async fn grant(&self, new: NewJob) -> Result<GrantOutcome, QueueError> {
        let new = self.accept(new)?;
        self.write(None, needs(&new), move |work| work.grant(&new))
            .await
    }

    /// Combines [`grant`](Self::grant) and [`start`](Self::start) in one transaction, without a token.
    ///
    /// `start` receives the job with its number. It runs inside the transaction, and again if that is
    /// repeated. Errors as [`grant`](Self::grant).
    pub async fn grant_and_start(
        &self,
        new: NewJob,
        start: impl Fn(&Job) -> StartRequest + Send + 'static,
    ) -> Result<GrantOutcome<StartOutcome, ()>, QueueError> {
        let new = self.accept(new)?;
        self.write(None, needs(&new), move |work| {
            work.grant_and_start(&new, &start)
        })
        .await
    }

    /// The database and the outbox must accept it.
    fn accept(&self, mut new: NewJob) -> Result<NewJob, QueueError> {
        for text in [&mut new.subject, &mut new.request_id, &mut new.filename] {
            *text = replace_nul(text);
        }
        new.filetype = new.filetype.as_deref().map(replace_nul);
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

impl UnitOfWork<'_> {
    fn grant(&mut self, new: &NewJob) -> GrantOutcome {
        let (job, is_new) = match find_or_add(new, self) {
            Ok(found) => found,
            Err(rejection) => return rejection,
        };
        if is_new {
            let token = self.issue_token(job.id.0);
            return GrantOutcome::Created(job, token);
        }
        let token = (!job.state.is_terminal()).then(|| {
            self.jobs_to_prune.insert(job.id.0);
            self.issue_token(job.id.0)
        });
        GrantOutcome::Existing(job, token)
    }

    fn grant_and_start(
        &mut self,
        new: &NewJob,
        start: &impl Fn(&Job) -> StartRequest,
    ) -> GrantOutcome<StartOutcome, ()> {
        let (job, is_new) = match find_or_add(new, self) {
            Ok(found) => found,
            Err(rejection) => return rejection,
        };
        if !is_new {
            return GrantOutcome::Existing(job, ());
        }
        let started = self.start(job.id.0, &start(&job));
        let job = self.record(job.id.0).map_or(*job, |now| now.job.clone());
        GrantOutcome::Created(Box::new(job), started)
    }
}

fn needs(new: &NewJob) -> RequiredRows {
    RequiredRows::Grant {
        subject: new.subject.clone(),
        request_id: new.request_id.clone(),
        limits: new.limits.clone(),
        link: new.link,
    }
}

/// Returns the job, and whether it is new.
fn find_or_add<New, Existing>(
    new: &NewJob,
    work: &mut UnitOfWork<'_>,
) -> Result<(Box<Job>, bool), GrantOutcome<New, Existing>> {
    check_link(new, work).map_err(GrantOutcome::LimitExceeded)?;
    let key = (new.subject.clone(), new.request_id.clone());
    if let Some(number) = work.requests.get(&key).copied().flatten() {
        work.expire(number);
        if let Some(record) = work.record(number) {
            let job = Box::new(record.job.clone());
            return match record.request_fingerprint == Some(fingerprint(new)) {
                true => Ok((job, false)),
                false => Err(GrantOutcome::Conflict(job)),
            };
        }
    }
    let reserved = check_limits(new, work).map_err(GrantOutcome::LimitExceeded)?;
    if let Some(link) = loaded_link(new, work) {
        if let Some(max) = link
            .max_files
            .filter(|max| link.files + link.granted >= *max)
        {
            let max = LimitExceeded::Files(unsigned(max));
            return Err(GrantOutcome::LimitExceeded(max));
        }
        link.granted += 1;
    }
    let job = work.add(record(new, reserved, work));
    let number = job.id.0;
    work.adjust_usage(number, signed(reserved), 0);
    if let Some(subject) = work.subjects.get_mut(&new.subject) {
        subject.granted += 1;
        subject.active = subject.active.map(|active| active + 1);
    }
    if work.shared.settings.started_at_grant {
        work.emit(number, JobEventKind::UploadStarted);
    }
    Ok((Box::new(job), true))
}

/// Identifies the request before policies changed it.
fn fingerprint(new: &NewJob) -> i64 {
    new.request_fingerprint.unwrap_or_else(|| new.fingerprint())
}

fn loaded_link<'a>(new: &NewJob, work: &'a mut UnitOfWork<'_>) -> Option<&'a mut LoadedLink> {
    work.links.get_mut(&new.link?)?.as_mut()
}

/// A link that was revoked since its authentication grants nothing.
fn check_link(new: &NewJob, work: &mut UnitOfWork<'_>) -> Result<(), LimitExceeded> {
    let now = work.now;
    let is_valid = match new.link {
        None => true,
        Some(_) => {
            loaded_link(new, work).is_some_and(|link| link.expires_at.is_none_or(|end| now < end))
        }
    };
    is_valid.then_some(()).ok_or(LimitExceeded::LinkEnded)
}

/// Limits that depend on other jobs. Returns the bytes to reserve.
fn check_limits(new: &NewJob, work: &UnitOfWork<'_>) -> Result<u64, LimitExceeded> {
    let limits = &new.limits;
    if let Some(max) = limits.max_active {
        let active = work.subjects.get(&new.subject).and_then(|of| of.active);
        let active = active.unwrap_or_default();
        if active >= i64::from(max) {
            return Err(LimitExceeded::Active(max));
        }
    }
    if let Some(rate) = limits.rate_limit {
        let wait = rate_limit_wait(rate, new, work);
        if !wait.is_zero() {
            return Err(LimitExceeded::Rate(wait));
        }
    }
    let reserve = limits.max_size.unwrap_or_default();
    let wanted = new.size.unwrap_or(reserve);
    let Some(quota) = limits.quota else {
        return Ok(wanted);
    };
    let usage = work.usage(&new.subject);
    let used = unsigned(usage.reserved).saturating_add(unsigned(usage.used));
    let left = quota.saturating_sub(used);
    match new.size {
        None if reserve == 0 && left > 0 => Ok(left),
        None if left == 0 => Err(LimitExceeded::Quota { quota, used }),
        _ if wanted <= left => Ok(wanted),
        _ => Err(LimitExceeded::Quota { quota, used }),
    }
}

fn rate_limit_wait(rate: RateLimit, new: &NewJob, work: &UnitOfWork<'_>) -> Duration {
    let Some(subject) = work.subjects.get(&new.subject) else {
        return Duration::ZERO;
    };
    let granted = subject.granted;
    if granted >= rate.count {
        return rate.per;
    }
    let Some(recent) = subject.recent.get(&rate.count) else {
        return Duration::ZERO;
    };
    let requests = recent.requests.min(rate.count);
    let at = usize::try_from(requests.saturating_sub(granted + 1)).unwrap_or(usize::MAX);
    let Some(created) = recent.times.get(at) else {
        return Duration::ZERO;
    };
    let free = created.saturating_add(millis(rate.per));
    Duration::from_millis(unsigned(free.saturating_sub(work.now)))
}

fn record(new: &NewJob, reserved: u64, work: &UnitOfWork<'_>) -> Record {
    let (now, settings) = (from_unix_millis(work.now), &work.shared.settings);
    let mut job = new.draft(now);
    let quota = new.limits.quota.map(|_| reserved);
    let max_size = job.max_size.into_iter().chain(quota).min();
    job.max_size = max_size.filter(|_| new.size.is_none());
    job.node = Some(settings.node.clone()).filter(|node| !node.is_empty());
    job.expires_at = now + settings.valid_for;
    Record {
        request_fingerprint: Some(fingerprint(new)),
        quota_period: work.quota_period(),
        reserved_bytes: reserved,
        ..Record::new(job, work.now)
    }
}
