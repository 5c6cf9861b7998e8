use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{Engine, Error};
use crate::{
    lease::Lease,
    store::{Damaged, DueFilter, Enumerate, Orphan, Page, StoreError},
    upload::{Snapshot, Upload, UploadId},
};

/// Entries examined between two pauses; S3 lists as many per request.
const PAGE: usize = 1000;
/// The interval of full sweeps, which examine all finished uploads too: finished partial uploads expire
/// like unfinished ones.
const FULL_INTERVAL: Duration = Duration::from_secs(24 * 3600);
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// Why an entry is removed or reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepReason {
    /// Unfinished, and its lifetime is over.
    UnfinishedExpired,
    /// Finished, and its lifetime is over.
    FinishedExpired,
    /// Damaged, so it cannot be finished, and the lifetime of unfinished uploads is over.
    DamagedExpired,
    /// Belongs to no upload, for the given reason.
    Orphan(&'static str),
    /// Belongs to no upload, for the given reason, but holds data that may be needed: only reported.
    Reported(&'static str),
}

/// An entry that is removed or reported.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SweepEntry {
    /// The upload, if the entry is one.
    pub id: Option<UploadId>,
    /// The id, or the store's name for the entry.
    pub name: String,
    /// Bytes stored.
    pub size: u64,
    /// The time of the last change.
    pub modified: SystemTime,
    /// Why it is removed or reported.
    pub why: SweepReason,
}

impl SweepEntry {
    fn upload(id: &UploadId, size: u64, modified: SystemTime, why: SweepReason) -> Self {
        Self {
            id: Some(id.clone()),
            name: id.to_string(),
            size,
            modified,
            why,
        }
    }
}

/// The result of a sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SweepSummary {
    /// Entries examined.
    pub examined: u64,
    /// Entries removed; in a dry run, entries that would be removed.
    pub removed: u64,
    /// Bytes of the removed entries.
    pub bytes: u64,
    /// Entries that are in use or changed during the sweep.
    pub skipped: u64,
    /// Orphans that are kept because they hold data.
    pub reported: u64,
    /// Entries that could not be removed; the causes are logged.
    pub failed: u64,
    /// Damaged uploads, removed or not.
    pub damaged: u64,
}

/// Removes expired uploads and orphans from a store.
///
/// Safe to run concurrently with uploads and with other processes: everything is removed under its
/// lease, which the sweeper takes only if it is free, and after a second check.
#[derive(Debug, Clone)]
pub struct Sweeper {
    engine: Arc<Engine>,
    dry_run: bool,
    tusd_uploads_since: SystemTime,
    orphan_age: Duration,
    examined: Arc<AtomicU64>,
}

impl Sweeper {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            dry_run: false,
            tusd_uploads_since: engine.started,
            orphan_age: ORPHAN_AGE,
            examined: Arc::default(),
            engine,
        }
    }

    /// Counts the lifetime of uploads created by tusd from their last change, like that of all others.
    ///
    /// By default it starts with this process at the earliest, so that migrating a directory removes
    /// nothing at once.
    #[must_use]
    pub fn age_tusd_uploads_by_last_change(mut self) -> Self {
        self.tusd_uploads_since = SystemTime::UNIX_EPOCH;
        self
    }

    /// Sets the minimum age of orphans that are removed; one hour by default.
    ///
    /// A younger orphan may belong to a creation in progress, so this should be longer than any creation
    /// takes. The store may have its own minimum age, below which it lists no orphans.
    #[must_use]
    pub fn orphan_age(mut self, age: Duration) -> Self {
        self.orphan_age = age;
        self
    }

    /// Lists the entries that would be removed, and removes nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Sets a counter that grows with each entry that is examined, to show the progress.
    #[must_use]
    pub fn count_examined(mut self, examined: Arc<AtomicU64>) -> Self {
        self.examined = examined;
        self
    }

    /// Sweeps once, in pages. `report` receives each entry that was removed (or would be), and those that
    /// are only [reported](SweepReason::Reported).
    ///
    /// # Errors
    /// Those of listing. Entries that cannot be removed are counted and logged, and the sweep continues.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the next sweep continues.
    pub async fn run(&self, report: impl FnMut(&SweepEntry)) -> Result<SweepSummary, StoreError> {
        Ok(self.sweep(true, None, report).await?.0)
    }

    /// Sweeps repeatedly until dropped: every `interval`, or earlier if an upload expires before that.
    /// Of the processes that share a store, only [one](Enumerate::claim_sweep) sweeps.
    pub async fn run_forever(&self, interval: Duration) {
        let lifetimes = &self.engine.config.lifetimes;
        let lifetimes = [lifetimes.unfinished, lifetimes.finished];
        let shortest = lifetimes.into_iter().flatten().min();
        let mut pause = pause_before(shortest, interval, Duration::ZERO);
        let mut full_sweep = Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            let started = Instant::now();
            let is_full = full_sweep.elapsed() >= FULL_INTERVAL;
            if is_full {
                full_sweep = started;
            }
            let due = match self.sweep(is_full, Some(interval), |_| {}).await {
                Ok((summary, due)) => {
                    if summary.removed > 0 || summary.failed > 0 {
                        tracing::info!(
                            removed = summary.removed,
                            bytes = summary.bytes,
                            failed = summary.failed,
                            reported = summary.reported,
                            damaged = summary.damaged,
                            "SweepFinished"
                        );
                    }
                    due
                }
                Err(error) => {
                    tracing::error!(%error, "SweepFailed");
                    None
                }
            };
            let due = due.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
            let due = due.into_iter().chain(shortest).min();
            pause = pause_before(due, interval, started.elapsed());
        }
    }

    /// Returns when the next upload expires. Without `is_full`, finished uploads may be skipped if they do
    /// not expire. With an interval, it returns early unless this process claims the sweep.
    async fn sweep(
        &self,
        is_full: bool,
        interval: Option<Duration>,
        mut report: impl FnMut(&SweepEntry),
    ) -> Result<(SweepSummary, Option<SystemTime>), StoreError> {
        let mut summary = SweepSummary::default();
        let mut due = None;
        let Some(enumerator) = self.engine.composer.enumerator() else {
            return Ok((summary, None));
        };
        let lifetimes = &self.engine.config.lifetimes;
        let filter = DueFilter {
            finished: lifetimes.finished.is_some() || (is_full && lifetimes.unfinished.is_some()),
            due: &|snapshot| self.due(snapshot),
        };
        let mut claimed: Option<Instant> = None;
        let mut cursor = None;
        loop {
            if let Some(interval) = interval
                && claimed.is_none_or(|at| at.elapsed() >= interval / 2)
            {
                claimed = Some(Instant::now());
                if !enumerator.claim_sweep(interval).await? {
                    return Ok((summary, None));
                }
            }
            let page = enumerator.page_due(cursor, PAGE, &filter).await?;
            cursor = page.next.clone();
            due = due.into_iter().chain(page.next_due).min();
            self.sweep_page(page, enumerator, &mut summary, &mut due, &mut report)
                .await;
            if cursor.is_none() {
                let reported = &self.engine.counters.reported_orphans;
                reported.store(summary.reported, Ordering::Relaxed);
                return Ok((summary, due));
            }
            // Requests have priority.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns when an upload must be examined again, unless it changes before.
    fn due(&self, snapshot: &Snapshot) -> Option<SystemTime> {
        if !snapshot.upload.is_concatenated() {
            return Some(SystemTime::UNIX_EPOCH);
        }
        // An unfinished upload may be finished at any time, and then has the lifetime of finished ones.
        let finished = self.engine.config.lifetimes.finished;
        let finished = finished.filter(|_| !snapshot.is_complete());
        let finished = finished.and_then(|lifetime| SystemTime::now().checked_add(lifetime));
        self.expiry(snapshot).into_iter().chain(finished).min()
    }

    async fn sweep_page(
        &self,
        page: Page,
        enumerator: &dyn Enumerate,
        summary: &mut SweepSummary,
        due: &mut Option<SystemTime>,
        report: &mut impl FnMut(&SweepEntry),
    ) {
        for snapshot in page.uploads {
            self.count(summary);
            let (upload, at) = (&snapshot.upload, self.expiry(&snapshot));
            if is_past(at) {
                let why = match snapshot.is_complete() && !upload.is_partial() {
                    true => SweepReason::FinishedExpired,
                    false => SweepReason::UnfinishedExpired,
                };
                let (size, modified) = (snapshot.offset, snapshot.modified);
                let entry = SweepEntry::upload(&upload.id, size, modified, why);
                let gone = self.remove_upload(&upload.id).await;
                summarize(summary, &entry, gone, report);
                continue;
            }
            *due = (*due).into_iter().chain(at).min();
            if !upload.is_concatenated() && !self.dry_run {
                // The process that waited for its parts may be dead.
                self.engine.advance_final(&upload.id).await;
            }
        }
        for damaged in page.damaged {
            self.count(summary);
            summary.damaged += 1;
            let why = SweepReason::DamagedExpired;
            let entry = SweepEntry::upload(&damaged.id, damaged.size, damaged.modified, why);
            let gone = self.remove_damaged(&damaged).await;
            summarize(summary, &entry, gone, report);
        }
        for unserved in page.unserved {
            self.count(summary);
            report(&SweepEntry {
                id: None,
                name: unserved.name,
                size: 0,
                modified: SystemTime::UNIX_EPOCH,
                why: SweepReason::Reported("stored where the store does not go"),
            });
        }
        for orphan in page.orphans {
            self.count(summary);
            let mut entry = SweepEntry {
                id: orphan.id.clone(),
                name: orphan.name.clone(),
                size: orphan.size,
                modified: orphan.modified,
                why: SweepReason::Orphan(orphan.reason),
            };
            let age = SystemTime::now().duration_since(orphan.modified);
            if !orphan.removable {
                summary.reported += 1;
                entry.why = SweepReason::Reported(orphan.reason);
                report(&entry);
            } else if age.unwrap_or_default() < self.orphan_age {
                summary.skipped += 1;
            } else {
                let gone = self.remove_orphan(enumerator, &orphan).await;
                summarize(summary, &entry, gone, report);
            }
        }
    }

    fn count(&self, summary: &mut SweepSummary) {
        summary.examined += 1;
        self.examined.fetch_add(1, Ordering::Relaxed);
    }

    fn expiry(&self, snapshot: &Snapshot) -> Option<SystemTime> {
        let (upload, offset, modified) = (&snapshot.upload, snapshot.offset, snapshot.modified);
        self.engine
            .expiry_from(upload, offset, modified, self.tusd_uploads_since)
    }

    async fn remove_upload(&self, id: &UploadId) -> Result<bool, Error> {
        let Some(lease) = self.engine.free_lease(id).await? else {
            return Ok(false);
        };
        let current = match self.engine.composer.store().load(id).await {
            Err(StoreError::Gone(remains)) => *remains,
            current => current?,
        };
        let can_remove = self.dry_run || self.engine.composer.terminator().is_some();
        if !can_remove || !is_past(self.expiry(&current)) {
            return Ok(false);
        }
        self.expire(current, lease).await
    }

    async fn expire(&self, snapshot: Snapshot, lease: Lease) -> Result<bool, Error> {
        if !self.dry_run {
            let engine = self.engine.clone();
            let expire = async move { engine.expire(&snapshot, &lease).await };
            self.engine.detached(expire).await?;
        }
        Ok(true)
    }

    async fn remove_damaged(&self, damaged: &Damaged) -> Result<bool, Error> {
        let engine = &self.engine;
        let described = Upload::new(damaged.id.clone(), None);
        if !is_past(engine.expiry(&described, damaged.size, damaged.modified)) {
            return Ok(false);
        }
        let Some(lease) = engine.free_lease(&damaged.id).await? else {
            return Ok(false);
        };
        match engine.composer.store().load(&damaged.id).await {
            Err(StoreError::Damaged { .. }) => {}
            // Repaired or removed since the listing.
            Ok(_) | Err(StoreError::NotFound(_) | StoreError::Gone(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let snapshot = Snapshot {
            upload: Arc::new(described),
            offset: 0,
            modified: damaged.modified,
        };
        self.expire(snapshot, lease).await
    }

    async fn remove_orphan(
        &self,
        enumerator: &dyn Enumerate,
        orphan: &Orphan,
    ) -> Result<bool, Error> {
        let _lease = match &orphan.id {
            None => None,
            Some(id) => match self.engine.free_lease(id).await? {
                Some(lease) => Some(lease),
                None => return Ok(false),
            },
        };
        if !self.dry_run {
            enumerator.remove_orphan(orphan).await?;
        }
        Ok(true)
    }
}

fn is_past(at: Option<SystemTime>) -> bool {
    at.is_some_and(|at| at <= SystemTime::now())
}

/// Sweeping takes at most a tenth of the time.
fn pause_before(due: Option<Duration>, interval: Duration, took: Duration) -> Duration {
    let least = (took * 10).max(Duration::from_secs(1));
    due.map_or(interval, |due| due.max(least).min(interval))
}

fn summarize(
    summary: &mut SweepSummary,
    entry: &SweepEntry,
    gone: Result<bool, Error>,
    report: &mut impl FnMut(&SweepEntry),
) {
    match gone {
        Ok(true) => {
            summary.removed += 1;
            summary.bytes += entry.size;
            report(entry);
        }
        Ok(false) => summary.skipped += 1,
        Err(error) => {
            summary.failed += 1;
            tracing::error!(name = entry.name, %error, "failed to remove expired entry");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_sweep_comes_when_something_is_due_but_not_at_once() {
        let [interval, second] = [30, 1].map(Duration::from_secs);
        let pause = |due: Option<u64>, took: u64| {
            let due = due.map(Duration::from_secs);
            pause_before(due, interval, Duration::from_millis(took))
        };
        assert_eq!(pause(None, 0), interval);
        assert_eq!(pause(Some(5), 0), 5 * second);
        assert_eq!(pause(Some(0), 0), second);
        assert_eq!(pause(Some(1), 900), 9 * second);
        assert_eq!(pause(Some(1), 60_000), interval);
        assert_eq!(pause(Some(500), 0), interval);
    }
}
