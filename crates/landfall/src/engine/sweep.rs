//! Removing what has expired and what belongs to nothing any more.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::{Engine, Error};
use crate::{
    store::{Damaged, DueFilter, Enumerate, Orphan, Page, StoreError},
    upload::{Snapshot, Upload, UploadId, UploadKind},
};

/// Entries that are examined between two pauses: as many as S3 lists in one request.
const PAGE: usize = 1000;
/// How far apart sweeps are that examine all finished uploads too, for the sake of partial ones, which
/// expire like unfinished ones.
const FULL_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// How old a leftover must be unless something else was said.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Why something goes, or stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepReason {
    /// Unfinished, and its lifetime is over.
    UnfinishedExpired,
    /// Finished, and its lifetime is over.
    FinishedExpired,
    /// Damaged, so that it cannot be finished, and the lifetime of unfinished uploads is over.
    DamagedExpired,
    /// It belongs to no upload, for the reason given.
    Orphan(&'static str),
    /// It belongs to no upload, for the reason given, but holds bytes that somebody may need: it is
    /// only reported.
    Reported(&'static str),
}

/// Something that goes, or went, or is only reported.
#[derive(Debug, Clone)]
pub struct SweepEntry {
    /// The upload, if it is one.
    pub id: Option<UploadId>,
    /// Its name for people: the id, or what the store calls it.
    pub name: String,
    /// Bytes stored.
    pub size: u64,
    /// When it was last changed.
    pub modified: SystemTime,
    /// Why it goes.
    pub why: SweepReason,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepSummary {
    /// Entries looked at.
    pub examined: u64,
    /// Entries removed; in a dry run, entries that would be.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that are in use, or changed meanwhile.
    pub skipped: u64,
    /// Entries that belong to no upload and stay, because they hold bytes.
    pub reported: u64,
    /// Entries that could not be removed; the log has the causes.
    pub failed: u64,
    /// Damaged uploads, removed or not.
    pub damaged: u64,
}

/// Sweeps a store. Safe beside running uploads and beside other processes: everything is removed
/// under its lease, which the sweeper only takes if it is free, and after a second look.
#[derive(Debug, Clone)]
pub struct Sweeper {
    engine: Arc<Engine>,
    dry_run: bool,
    /// When the time of uploads of other programs begins, at the earliest.
    foreign_from: SystemTime,
    leftover_age: Duration,
}

impl Sweeper {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            dry_run: false,
            foreign_from: engine.started,
            leftover_age: LEFTOVER_AGE,
            engine,
        }
    }

    /// Counts the lifetime of uploads that another program (tusd) made from their last change, like
    /// that of all others. Otherwise it begins with this process at the earliest, so that taking over
    /// a directory removes nothing at once.
    #[must_use]
    pub fn age_tusd_uploads_by_last_change(mut self) -> Self {
        self.foreign_from = SystemTime::UNIX_EPOCH;
        self
    }

    /// Removes what belongs to no upload when it is this old; an hour if not set. A younger one may
    /// be in the making, so this should be longer than any creation takes. The store may have an age
    /// of its own, below which it doesn't list leftovers.
    #[must_use]
    pub fn orphan_age(mut self, age: Duration) -> Self {
        self.leftover_age = age;
        self
    }

    /// Lists what would go and removes nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Examines everything once, in pages, and removes what must go; `report` receives each entry that
    /// was removed (or would be), and those that are only [reported](Why::Reported).
    ///
    /// # Errors
    /// Those of listing. What cannot be removed is counted and logged, and the sweep continues.
    ///
    /// # Cancel safety
    /// May be dropped at any moment; the next sweep does the rest.
    pub async fn run(&self, report: impl FnMut(&SweepEntry)) -> Result<SweepSummary, StoreError> {
        Ok(self.sweep(true, None, report).await?.0)
    }

    /// Sweeps again and again until dropped: `interval` apart, or earlier if an upload expires
    /// before that. Of the processes that share a store, [one](Enumerate::claim_sweep) does.
    pub async fn run_forever(&self, interval: Duration) {
        let lifetimes = &self.engine.lifetimes;
        let shortest = lifetimes
            .unfinished
            .into_iter()
            .chain(lifetimes.finished)
            .min();
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

    /// Examines everything once. Without `is_full`, finished uploads may be left out if they do not
    /// expire. With an interval, it ends unless this process has the claim. Also says when the next
    /// upload expires.
    async fn sweep(
        &self,
        is_full: bool,
        interval: Option<Duration>,
        mut report: impl FnMut(&SweepEntry),
    ) -> Result<(SweepSummary, Option<SystemTime>), StoreError> {
        let mut summary = SweepSummary::default();
        let mut due = None;
        let Some(enumerator) = self.engine.parts.get_enumerator() else {
            return Ok((summary, None));
        };
        let lifetimes = &self.engine.lifetimes;
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
            // Requests come first.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// When an upload must be examined again, unless it changes before.
    fn due(&self, snapshot: &Snapshot) -> Option<SystemTime> {
        let engine = &self.engine;
        if !snapshot.upload.is_concatenated() {
            return Some(SystemTime::UNIX_EPOCH);
        }
        // It may be finished at any moment, and then has the lifetime of finished ones.
        let finished = engine
            .lifetimes
            .finished
            .filter(|_| !snapshot.is_complete());
        let finished = finished.and_then(|lifetime| SystemTime::now().checked_add(lifetime));
        let expiry = engine.expiry_of(snapshot, self.foreign_from);
        expiry.into_iter().chain(finished).min()
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
            summary.examined += 1;
            let engine = &self.engine;
            let at = engine.expiry_of(&snapshot, self.foreign_from);
            if let Some(doomed) = self.judge(&snapshot) {
                let gone = self.remove_upload(&snapshot).await;
                summarize(summary, &doomed, gone, report);
                continue;
            }
            *due = (*due).into_iter().chain(at).min();
            if !snapshot.upload.is_concatenated() && !self.dry_run {
                // The process that waited for its parts may be gone.
                engine.advance_final(&snapshot.upload.id).await;
            }
        }
        for damaged in page.damaged {
            summary.examined += 1;
            summary.damaged += 1;
            let doomed = SweepEntry {
                id: Some(damaged.id.clone()),
                name: damaged.id.to_string(),
                size: damaged.size,
                modified: damaged.modified,
                why: SweepReason::DamagedExpired,
            };
            let gone = self.remove_damaged(&damaged).await;
            summarize(summary, &doomed, gone, report);
        }
        for orphan in page.orphans {
            summary.examined += 1;
            let mut doomed = SweepEntry {
                id: orphan.id.clone(),
                name: orphan.name.clone(),
                size: orphan.size,
                modified: orphan.modified,
                why: SweepReason::Orphan(orphan.reason),
            };
            let age = SystemTime::now().duration_since(orphan.modified);
            if !orphan.removable {
                summary.reported += 1;
                doomed.why = SweepReason::Reported(orphan.reason);
                report(&doomed);
            } else if age.unwrap_or_default() < self.leftover_age {
                summary.skipped += 1;
            } else {
                let gone = self.remove_orphan(enumerator, &orphan).await;
                summarize(summary, &doomed, gone, report);
            }
        }
    }

    fn judge(&self, snapshot: &Snapshot) -> Option<SweepEntry> {
        if !self.engine.has_expired_from(snapshot, self.foreign_from) {
            return None;
        }
        let why = if snapshot.is_complete() && snapshot.upload.kind != UploadKind::Partial {
            SweepReason::FinishedExpired
        } else {
            SweepReason::UnfinishedExpired
        };
        Some(SweepEntry {
            id: Some(snapshot.upload.id.clone()),
            name: snapshot.upload.id.to_string(),
            size: snapshot.offset,
            modified: snapshot.modified,
            why,
        })
    }

    /// Says whether it went (or would go).
    async fn remove_upload(&self, snapshot: &Snapshot) -> Result<bool, Error> {
        let id = &snapshot.upload.id;
        let Some(lease) = self.engine.free_lease(id).await? else {
            return Ok(false);
        };
        let current = self.engine.parts.get_store().load(id).await?;
        if !self.engine.has_expired_from(&current, self.foreign_from) {
            return Ok(false);
        }
        if self.dry_run {
            return Ok(true);
        }
        if self.engine.parts.get_terminator().is_none() {
            return Ok(false);
        }
        let engine = self.engine.clone();
        self.engine
            .detached(async move { engine.expire(&current, &lease).await })
            .await?;
        Ok(true)
    }

    /// Removes a damaged upload as if it were unfinished, and says whether it went (or would go).
    async fn remove_damaged(&self, damaged: &Damaged) -> Result<bool, Error> {
        let engine = &self.engine;
        let described = Upload::new(damaged.id.clone(), None);
        let expired = engine.expiry(&described, damaged.size, damaged.modified);
        if expired.is_none_or(|at| at > SystemTime::now()) {
            return Ok(false);
        }
        let Some(lease) = engine.free_lease(&damaged.id).await? else {
            return Ok(false);
        };
        match engine.parts.get_store().load(&damaged.id).await {
            Err(StoreError::Damaged { .. }) => {}
            // Somebody has mended or removed it.
            Ok(_) | Err(StoreError::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if self.dry_run {
            return Ok(true);
        }
        let snapshot = Snapshot {
            upload: Arc::new(described),
            offset: 0,
            modified: damaged.modified,
        };
        let running = engine.clone();
        engine
            .detached(async move { running.expire(&snapshot, &lease).await })
            .await?;
        Ok(true)
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

/// How long to wait for the next sweep if an upload is due by then: not so short that sweeping is all
/// there is to do.
fn pause_before(due: Option<Duration>, interval: Duration, took: Duration) -> Duration {
    let least = (took * 10).max(Duration::from_secs(1));
    due.map_or(interval, |due| due.max(least).min(interval))
}

fn summarize(
    summary: &mut SweepSummary,
    doomed: &SweepEntry,
    gone: Result<bool, Error>,
    report: &mut impl FnMut(&SweepEntry),
) {
    match gone {
        Ok(true) => {
            summary.removed += 1;
            summary.bytes += doomed.size;
            report(doomed);
        }
        Ok(false) => summary.skipped += 1,
        Err(error) => {
            summary.failed += 1;
            tracing::error!(name = doomed.name, %error, "an expired entry could not be removed");
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
