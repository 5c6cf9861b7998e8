//! Reports that wait to be written: the newest of each upload, at most so many.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use landfall::upload::UploadId;
use tokio::sync::Notify;

use super::Report;
use crate::JobId;

/// Jobs whose reports are gathered; those of more are left out, until there is room.
const MOST_JOBS: usize = 65_536;
/// A job is written at most once in this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reports {
    jobs: Mutex<Jobs>,
    /// Something came that may be due.
    pub(super) came: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    jobs: HashMap<JobId, Gathered>,
    /// Nothing is due before.
    next: Option<Instant>,
}

#[derive(Debug, Default)]
struct Gathered {
    written: Option<Instant>,
    reports: HashMap<Option<UploadId>, Report>,
}

impl Gathered {
    fn due(&self, now: Instant) -> Instant {
        self.written.map_or(now, |written| written + INTERVAL)
    }

    fn add(&mut self, report: Report) {
        let kept = self.reports.entry(report.part.clone());
        let kept = kept.or_insert_with(|| report.clone());
        kept.offset = kept.offset.max(report.offset);
        kept.length = kept.length.or(report.length);
    }
}

impl Reports {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a report.
    pub(super) fn add(&self, report: Report) {
        let now = Instant::now();
        let mut jobs = self.jobs();
        if jobs.jobs.len() >= MOST_JOBS && !jobs.jobs.contains_key(&report.job) {
            return;
        }
        let gathered = jobs.jobs.entry(report.job).or_default();
        let is_first = gathered.reports.is_empty();
        gathered.add(report);
        if !is_first {
            return;
        }
        let due = gathered.due(now);
        if jobs.next.is_none_or(|next| due < next) {
            jobs.next = Some(due);
            drop(jobs);
            self.came.notify_one();
        }
    }

    /// When something is due, if anything is gathered.
    pub(super) fn next(&self) -> Option<Instant> {
        self.jobs().next
    }

    /// Takes what is due, or all of it.
    pub(super) fn take(&self, everything: bool) -> Vec<Report> {
        let now = Instant::now();
        let mut jobs = self.jobs();
        if !everything && jobs.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        let mut next: Option<Instant> = None;
        jobs.jobs.retain(|_, gathered| {
            let due = gathered.due(now);
            if gathered.reports.is_empty() {
                return due > now;
            }
            if everything || due <= now {
                taken.extend(gathered.reports.drain().map(|(_, report)| report));
                gathered.written = Some(now);
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
            true
        });
        jobs.next = next;
        taken
    }

    /// Takes what there is of one job, whose end is to be written.
    pub(super) fn take_of(&self, job: JobId, into: &mut Vec<Report>) {
        if let Some(gathered) = self.jobs().jobs.remove(&job) {
            into.extend(gathered.reports.into_values());
        }
    }

    /// Gives back what couldn't be written.
    pub(super) fn give_back(&self, reports: Vec<Report>) {
        let mut jobs = self.jobs();
        for report in reports {
            jobs.jobs.entry(report.job).or_default().add(report);
        }
        let again = Instant::now() + INTERVAL;
        jobs.next = Some(jobs.next.map_or(again, |next| next.min(again)));
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
        }
    }

    #[test]
    fn the_first_is_due_at_once_and_the_newest_later() {
        let reports = Reports::default();
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
    fn what_ends_takes_its_reports_along() {
        let reports = Reports::default();
        reports.add(report(1, 5));
        let mut taken = Vec::new();
        reports.take_of(JobId(1), &mut taken);
        reports.take_of(JobId(2), &mut taken);
        assert_eq!(taken, [report(1, 5)]);
        assert_eq!(reports.take(true), []);
    }

    #[test]
    fn what_failed_comes_again_unless_it_is_old() {
        let reports = Reports::default();
        reports.add(report(1, 5));
        let taken = reports.take(false);
        reports.add(report(1, 8));
        reports.give_back(taken);
        assert_eq!(reports.take(true), [report(1, 8)]);
        assert_eq!(reports.next(), None);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let reports = Reports::default();
        for job in 0..i64::try_from(MOST_JOBS).unwrap() + 10 {
            reports.add(report(job, 1));
        }
        assert_eq!(reports.take(true).len(), MOST_JOBS);
    }
}
