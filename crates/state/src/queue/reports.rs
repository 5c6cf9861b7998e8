//! Progress in memory. It is written to the jobs periodically, and visible to readers of this node
//! at once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall::upload::UploadId;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    Job, JobId, JobState, Report,
    record::{Record, smooth_rate},
};

/// Reports of more jobs are dropped.
const MAX_JOBS: usize = 65_536;
/// Per interval, for listeners.
const MAX_CHANGED: usize = 1024;
const PARTS_INTERVAL: Duration = Duration::from_secs(1);
/// Per interval, for other nodes.
#[cfg(feature = "postgres")]
const MAX_SENT: usize = 4096;
const MIN_MEASURED: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Reports {
    interval: Duration,
    jobs: Mutex<Jobs>,
    pub(super) due: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    jobs: HashMap<JobId, Progress>,
    next: Option<Instant>,
}

#[derive(Debug, Default)]
struct Progress {
    written: Option<Instant>,
    reports: HashMap<Option<UploadId>, Report>,
    writing: Vec<Report>,
    live: Option<Live>,
    published: u64,
    #[cfg(feature = "postgres")]
    sent: u64,
    is_remote: bool,
    /// Known after the first write.
    owner: Option<Owner>,
    /// Listeners receive no more progress.
    has_ended: bool,
}

#[derive(Debug, Clone)]
struct Owner(Option<Arc<str>>);

/// Progress for other nodes.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsent {
    pub(super) job: JobId,
    pub(super) subject: Option<Arc<str>>,
    pub(super) offset: u64,
    pub(super) rate: u64,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    offset: u64,
    rate: u64,
    rate_measured_at: (Instant, u64),
    received_at: SystemTime,
}

impl Progress {
    fn due(&self, now: Instant, interval: Duration) -> Instant {
        // The sum of partial uploads is only known to the database.
        let has_parts = self.reports.keys().any(Option::is_some);
        let interval = if has_parts {
            interval.min(PARTS_INTERVAL)
        } else {
            interval
        };
        self.written.map_or(now, |written| written + interval)
    }

    fn add(&mut self, report: Report, now: Instant) {
        if report.part.is_none() {
            self.observe(report.offset, report.at, now);
        }
        let newest = self.reports.entry(report.part.clone());
        let newest = newest.or_insert_with(|| report.clone());
        if report.offset > newest.offset {
            (newest.offset, newest.at) = (report.offset, report.at);
        }
        newest.length = newest.length.or(report.length);
    }

    fn observe(&mut self, offset: u64, at: SystemTime, now: Instant) {
        let live = self.live.get_or_insert(Live {
            offset,
            rate: 0,
            rate_measured_at: (now, offset),
            received_at: at,
        });
        if offset > live.offset {
            (live.offset, live.received_at) = (offset, at);
        }
        let (since, before) = live.rate_measured_at;
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= MIN_MEASURED {
            live.rate = smooth_rate(live.rate, live.offset - before, elapsed);
            live.rate_measured_at = (now, live.offset);
        }
    }

    /// Returns whether it is newer.
    fn show(&self, job: &mut Job) -> bool {
        let Some(live) = self.live.filter(|_| !job.state.is_terminal()) else {
            return false;
        };
        let offset = job.size.map_or(live.offset, |size| size.min(live.offset));
        if offset <= job.offset {
            return false;
        }
        job.offset = offset;
        job.received_at = Some(live.received_at);
        if live.rate > 0 {
            job.rate = live.rate;
        }
        if job.state == JobState::Started {
            job.state = JobState::Progress;
        }
        true
    }
}

impl Reports {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            jobs: Mutex::default(),
            due: Notify::new(),
        }
    }

    pub(super) fn add(&self, report: Report) {
        let now = Instant::now();
        let mut jobs = self.jobs.lock();
        if jobs.jobs.len() >= MAX_JOBS && !jobs.jobs.contains_key(&report.job) {
            return;
        }
        let progress = jobs.jobs.entry(report.job).or_default();
        progress.is_remote = false;
        let is_first = progress.reports.is_empty();
        progress.add(report, now);
        if !is_first {
            return;
        }
        let due = progress.due(now, self.interval);
        if jobs.next.is_none_or(|next| due < next) {
            jobs.next = Some(due);
            drop(jobs);
            self.due.notify_one();
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.jobs.lock().next
    }

    pub(super) fn take(&self, all: bool) -> Vec<Report> {
        let now = Instant::now();
        let mut jobs = self.jobs.lock();
        if !all && jobs.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        let mut next: Option<Instant> = None;
        jobs.jobs.retain(|_, progress| {
            let due = progress.due(now, self.interval);
            if progress.reports.is_empty() {
                return due > now;
            }
            if all || due <= now {
                progress.writing = progress.reports.drain().map(|(_, report)| report).collect();
                taken.extend(progress.writing.iter().cloned());
                progress.written = Some(now);
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
            true
        });
        jobs.next = next;
        taken
    }

    /// Takes reports to be written before the job's end or prepared end. Reports being written are included,
    /// since the end may be written first.
    pub(super) fn take_job(&self, job: JobId, is_end: bool) -> Vec<Report> {
        let mut taken = Vec::new();
        if let Some(progress) = self.jobs.lock().jobs.get_mut(&job) {
            taken.append(&mut progress.writing);
            taken.extend(progress.reports.drain().map(|(_, report)| report));
            // After a prepared end, write new progress at once, because it clears the end.
            progress.written = is_end.then(Instant::now);
            progress.has_ended |= is_end;
        }
        taken
    }

    pub(super) fn requeue(&self, reports: Vec<Report>) {
        let now = Instant::now();
        let mut jobs = self.jobs.lock();
        for report in reports {
            jobs.jobs.entry(report.job).or_default().add(report, now);
        }
        let retry = now + self.interval;
        jobs.next = Some(jobs.next.map_or(retry, |next| next.min(retry)));
    }

    pub(super) fn show(&self, records: &mut [Record]) {
        let jobs = self.jobs.lock();
        for Record {
            job, prepared_end, ..
        } in records
        {
            if let Some(progress) = jobs.jobs.get(&job.id)
                && progress.show(job)
            {
                // The write of this progress will clear it.
                *prepared_end = None;
            }
        }
    }

    pub(super) fn set_written<'a>(&self, written: impl IntoIterator<Item = &'a Job>) {
        let now = Instant::now();
        let mut jobs = self.jobs.lock();
        for job in written {
            let Some(progress) = jobs.jobs.get_mut(&job.id) else {
                continue;
            };
            progress.writing.clear();
            let at = job.received_at.unwrap_or(job.updated_at);
            progress.observe(job.offset, at, now);
            if progress.owner.is_none() {
                progress.owner = Some(Owner(job.subject.as_deref().map(Into::into)));
            }
        }
    }

    pub(super) fn set_published(&self, job: JobId, offset: u64) {
        if let Some(progress) = self.jobs.lock().jobs.get_mut(&job) {
            progress.published = progress.published.max(offset);
        }
    }

    /// Returns the offset that its listeners have received.
    pub(super) fn end(&self, job: JobId) -> u64 {
        self.jobs.lock().jobs.get_mut(&job).map_or(0, |progress| {
            progress.has_ended = true;
            progress.published
        })
    }

    /// Jobs with progress that listeners have not [received](Self::set_published). Subjects without listeners are
    /// skipped.
    pub(super) fn changed(&self, has_listeners: impl Fn(Option<&str>) -> bool) -> Vec<i64> {
        let jobs = self.jobs.lock();
        let changed = jobs.jobs.iter().filter(|(_, progress)| {
            let live = progress.live.filter(|_| !progress.has_ended);
            let is_new = live.is_some_and(|live| live.offset > progress.published);
            is_new
                && match &progress.owner {
                    Some(Owner(subject)) => has_listeners(subject.as_deref()),
                    // Known once the job is read, if it is of another node.
                    None => progress.is_remote,
                }
        });
        changed.map(|(id, _)| id.0).take(MAX_CHANGED).collect()
    }

    /// The job was read. Returns whether it has progress for listeners.
    pub(super) fn set_read(&self, job: &Job) -> bool {
        let mut jobs = self.jobs.lock();
        let Some(progress) = jobs.jobs.get_mut(&job.id) else {
            return false;
        };
        progress.has_ended |= job.state.is_terminal();
        progress.owner = Some(Owner(job.subject.as_deref().map(Into::into)));
        if progress.has_ended || job.offset > progress.published {
            return !progress.has_ended;
        }
        // Offsets beyond the job's size are never published.
        let reported = progress.live.map_or(0, |live| live.offset);
        progress.published = progress.published.max(reported);
        false
    }

    #[cfg(feature = "postgres")]
    pub(super) fn set_remote(&self, received: impl IntoIterator<Item = (JobId, u64, u64)>) {
        let now = Instant::now();
        let mut jobs = self.jobs.lock();
        for (job, offset, rate) in received {
            if jobs.jobs.len() >= MAX_JOBS && !jobs.jobs.contains_key(&job) {
                continue;
            }
            let progress = jobs.jobs.entry(job).or_default();
            progress.is_remote = true;
            progress.written = Some(now);
            let offset = progress.live.map_or(offset, |live| live.offset.max(offset));
            progress.live = Some(Live {
                offset,
                rate,
                rate_measured_at: (now, offset),
                received_at: SystemTime::now(),
            });
        }
        // Remove entries that receive no more progress.
        let removal = now + self.interval;
        jobs.next = Some(jobs.next.map_or(removal, |next| next.min(removal)));
        drop(jobs);
        self.due.notify_one();
    }

    /// Returns whether an upload of this node receives data, or did until recently.
    #[cfg(feature = "postgres")]
    pub(super) fn has_own(&self) -> bool {
        let now = Instant::now();
        let is_active = |progress: &Progress| {
            !progress.is_remote
                && !progress.has_ended
                && (!progress.reports.is_empty() || progress.due(now, self.interval) > now)
        };
        self.jobs.lock().jobs.values().any(is_active)
    }

    /// Progress that was not [sent](Self::set_sent) to other nodes, of the subjects that `is_wanted` selects.
    #[cfg(feature = "postgres")]
    pub(super) fn unsent(&self, is_wanted: impl Fn(Option<&str>) -> bool) -> Vec<Unsent> {
        let jobs = self.jobs.lock();
        let unsent = jobs.jobs.iter().filter_map(|(id, progress)| {
            let live = progress.live?;
            let is_old = progress.is_remote || progress.has_ended || live.offset <= progress.sent;
            // Known once the progress was written, which is soon.
            let Owner(subject) = progress.owner.as_ref().filter(|_| !is_old)?;
            is_wanted(subject.as_deref()).then(|| Unsent {
                job: *id,
                subject: subject.clone(),
                offset: live.offset,
                rate: live.rate,
            })
        });
        unsent.take(MAX_SENT).collect()
    }

    #[cfg(feature = "postgres")]
    pub(super) fn set_sent(&self, sent: &[Unsent]) {
        let mut jobs = self.jobs.lock();
        for one in sent {
            if let Some(progress) = jobs.jobs.get_mut(&one.job) {
                progress.sent = progress.sent.max(one.offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(job: i64, offset: u64) -> Report {
        Report {
            job: JobId(job),
            part: None,
            offset,
            length: None,
            at: SystemTime::UNIX_EPOCH,
        }
    }

    /// A running job of ada.
    fn job(id: i64, size: u64) -> Job {
        Job {
            id: JobId(id),
            subject: Some("ada".to_owned()),
            state: JobState::Started,
            size: Some(size),
            ..Job::new(String::new(), SystemTime::UNIX_EPOCH)
        }
    }

    fn reports() -> Reports {
        Reports::new(Duration::from_secs(10))
    }

    #[test]
    fn first_report_is_due_at_once_and_the_latest_after_the_interval() {
        let reports = reports();
        assert_eq!(reports.next(), None);
        reports.add(report(1, 5));
        assert!(reports.next().unwrap() <= Instant::now());
        assert_eq!(reports.take(false), [report(1, 5)]);
        assert_eq!(reports.next(), None);

        reports.add(report(1, 9));
        reports.add(report(1, 7));
        assert!(reports.next().unwrap() > Instant::now());
        assert_eq!(reports.take(false), []);
        reports.add(report(2, 1));
        assert_eq!(reports.take(false), [report(2, 1)]);
        assert_eq!(reports.take(true), [report(1, 9)]);
    }

    #[test]
    fn end_takes_the_reports_of_its_job() {
        let reports = reports();
        reports.add(report(1, 5));
        assert_eq!(reports.take_job(JobId(1), true), [report(1, 5)]);
        assert_eq!(reports.take_job(JobId(2), true), []);
        assert_eq!(reports.take(true), []);
    }

    #[test]
    fn requeued_report_does_not_replace_a_newer_one() {
        let reports = reports();
        reports.add(report(1, 5));
        let taken = reports.take(false);
        reports.add(report(1, 8));
        reports.requeue(taken);
        assert_eq!(reports.take(true), [report(1, 8)]);
        assert_eq!(reports.next(), None);
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn progress_is_unsent_until_it_was_sent() {
        let reports = reports();
        reports.add(report(1, 5));
        reports.set_written([&job(1, 9)]);
        let unsent = || reports.unsent(|subject| subject == Some("ada"));
        let offsets = || unsent().iter().map(|one| one.offset).collect::<Vec<_>>();
        assert_eq!(offsets(), [5]);
        // A failed attempt loses no progress.
        assert_eq!(offsets(), [5]);
        assert!(reports.unsent(|subject| subject != Some("ada")).is_empty());
        reports.set_sent(&unsent());
        assert!(unsent().is_empty());
        assert!(reports.has_own());
        reports.add(report(1, 6));
        assert_eq!(offsets(), [6]);
        reports.take_job(JobId(1), true);
        assert!(!reports.has_own());
    }

    #[test]
    fn progress_changes_until_it_was_published() {
        let reports = reports();
        reports.add(report(1, 5));
        reports.set_written([&job(1, 6)]);
        // As the feed does.
        let offset = || {
            assert!(reports.changed(|subject| subject == Some("bob")).is_empty());
            let [id] = reports.changed(|_| true)[..] else {
                return None;
            };
            let mut records = [Record::new(job(id, 6), 0)];
            reports.show(&mut records);
            let [Record { job, .. }] = records;
            reports.set_read(&job).then_some(job.offset)
        };
        assert_eq!(offset(), Some(5));
        // A failed attempt loses no progress.
        assert_eq!(offset(), Some(5));
        reports.set_published(JobId(1), 5);
        assert_eq!(offset(), None);
        // A report beyond the size is sent once.
        reports.add(report(1, 7));
        assert_eq!(offset(), Some(6));
        reports.set_published(JobId(1), 6);
        assert_eq!(offset(), None);
        assert!(reports.changed(|_| true).is_empty(), "it is not read again");
        assert_eq!(reports.end(JobId(1)), 7);
    }

    #[test]
    fn number_of_jobs_is_limited() {
        let reports = reports();
        for job in 0..i64::try_from(MAX_JOBS).unwrap() + 10 {
            reports.add(report(job, 1));
        }
        assert_eq!(reports.take(true).len(), MAX_JOBS);
    }
}
