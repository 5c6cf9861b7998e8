//! Lists a store page by page, removes expired uploads and orphans, and reports what must not be removed.
//!
//! `removal` decides: nothing is deleted without a [`Removable`]. An upload is loaded and decided on again under its
//! lease, which is taken only if it is free. A sweep pauses between pages, because requests have priority.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    Engine, Error, MOVED_LIFETIME, RequestContext, expiry::ExpiryClock, terminate::Removal,
};
use crate::{
    removal::{self, NotRemovable, Removable, RemovalClock},
    store::{
        DueFilter, Enumerate, Orphan, OrphanKind, Page, SWEEP_RENEWAL, StoreError, SweepClaim,
    },
    upload::{Snapshot, Upload, UploadId},
};

/// Entries examined between two pauses; S3 lists as many per request.
const PAGE: usize = 1000;
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// Why an entry is removed or reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SweepReason {
    /// Unfinished, and its lifetime is over.
    UnfinishedExpired,
    /// Finished, and its lifetime is over.
    FinishedExpired,
    /// Belongs to no upload, for the given reason.
    Orphan(&'static str),
    /// Kept and only reported, for the given reason: nothing proves that it is ours and not needed.
    Reported(&'static str),
}

const DAMAGED: &str = "its description cannot be read or contradicts the store";
const OF_TUSD: &str = "tusd created it, and does not record whether it was finished";

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
    /// Orphans that are kept, because they hold data or nothing proves that they are ours.
    pub reported: u64,
    /// Entries that could not be removed; the causes are logged.
    pub failed: u64,
    /// Uploads whose descriptions cannot be read or contradict the store; none is removed.
    pub damaged: u64,
}

/// Removes expired uploads and orphans from a store.
///
/// It removes only what [the rule](crate::removal) permits, and reports the rest.
///
/// Safe to run concurrently with uploads and with other processes: everything is removed under its
/// lease, which the sweeper takes only if it is free, and after a second check.
#[derive(Debug, Clone)]
pub struct Sweeper {
    engine: Arc<Engine>,
    dry_run: bool,
    orphan_age: Duration,
    examined: Arc<AtomicU64>,
    /// Orphans so far, of a listing over several sweeps.
    listed_orphans: Arc<AtomicU64>,
    clock: Arc<ExpiryClock>,
}

impl Engine {
    /// Returns when an upload must be examined again, unless it changes before.
    fn examination_due(&self, snapshot: &Snapshot) -> Option<SystemTime> {
        if !snapshot.upload.is_concatenated() {
            return Some(SystemTime::UNIX_EPOCH);
        }
        // An unfinished upload may be finished at any time, and then has the lifetime of finished ones.
        let finished = self.config.lifetimes.finished;
        let finished = finished.filter(|_| !snapshot.is_complete());
        let finished = finished.and_then(|lifetime| SystemTime::now().checked_add(lifetime));
        let expiry = self.expiry_of(snapshot);
        expiry.into_iter().chain(finished).min()
    }

    /// Records when the sweeper has to examine an upload that was created or completed just now.
    pub(super) fn record_due(&self, upload: &Arc<Upload>, offset: u64) {
        let enumerator = self.composer.enumerator();
        if let Some(index) = enumerator.and_then(|enumerator| enumerator.due_index()) {
            let snapshot = Snapshot::new(upload.clone(), offset, SystemTime::now());
            index.record(&snapshot, self.examination_due(&snapshot));
        }
    }
}

impl Sweeper {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            dry_run: false,
            orphan_age: ORPHAN_AGE,
            examined: Arc::default(),
            listed_orphans: Arc::default(),
            clock: engine.expiry_clock.clone(),
            engine,
        }
    }

    /// Sets the clock that decides when uploads are due, for tests; by default that of the handler.
    #[must_use]
    pub fn clock(mut self, clock: RemovalClock) -> Self {
        self.clock = Arc::new(clock.into());
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

    /// Sweeps once, in pages, and examines all uploads. `report` receives each entry that was removed (or
    /// would be), and those that are only [reported](SweepReason::Reported).
    ///
    /// # Errors
    /// Those of listing. Entries that cannot be removed are counted and logged, and the sweep continues.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the next sweep continues.
    pub async fn run(&self, report: impl FnMut(&SweepEntry)) -> Result<SweepSummary, StoreError> {
        Ok(self.sweep(true, report).await?.0)
    }

    /// Sweeps repeatedly until dropped: every `interval`, or earlier if an upload expires before that.
    /// Of the processes that share a store, only [one](Enumerate::claim_sweep) sweeps at a time.
    pub async fn run_forever(&self, interval: Duration) {
        let Some(enumerator) = self.engine.composer.enumerator() else {
            return;
        };
        let lifetimes = &self.engine.config.lifetimes;
        let lifetimes = [lifetimes.unfinished, lifetimes.finished];
        let shortest = lifetimes.into_iter().flatten().min();
        let mut pause = pause_before(shortest, interval, Duration::ZERO);
        if let Err(error) = self.clock.recall(enumerator).await {
            tracing::debug!(%error, "failed to read the clock of earlier sweeps");
        }
        loop {
            tokio::time::sleep(pause).await;
            match enumerator.claim_sweep(interval).await {
                Ok(SweepClaim::Granted) => {}
                Ok(SweepClaim::Later(wait)) => {
                    pause = wait;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "SweepFailed");
                    pause = pause_before(shortest, interval, Duration::ZERO);
                    continue;
                }
            }
            let started = Instant::now();
            let swept = tokio::select! {
                swept = self.sweep(false, |_| {}) => swept,
                wait = renew_claim(enumerator, interval) => {
                    tracing::debug!("another process sweeps");
                    pause = wait;
                    continue;
                }
            };
            let is_done = swept.is_ok();
            let due = match swept {
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
            let due = due.map(|at| self.clock.time_until(at));
            let due = due.into_iter().chain(shortest).min();
            pause = pause_before(due, interval, started.elapsed());
            if is_done && let Err(error) = enumerator.finish_sweep(pause).await {
                tracing::error!(%error, "SweepFailed");
            }
        }
    }

    /// Returns when the next upload expires, as far as it is known. `all`: whatever earlier sweeps found.
    async fn sweep(
        &self,
        all: bool,
        mut report: impl FnMut(&SweepEntry),
    ) -> Result<(SweepSummary, Option<SystemTime>), StoreError> {
        let mut summary = SweepSummary::default();
        let mut due = None;
        let Some(enumerator) = self.engine.composer.enumerator() else {
            return Ok((summary, None));
        };
        self.clock.recall(enumerator).await?;
        let filter = DueFilter {
            all,
            dry_run: self.dry_run,
            lifetimes: self.engine.config.lifetimes,
            due: &|snapshot| self.engine.examination_due(snapshot),
        };
        let mut cursor = None;
        loop {
            let page = enumerator.page_due(cursor, PAGE, &filter).await?;
            cursor = page.next.clone();
            due = due.into_iter().chain(page.next_due).min();
            let is_part = page.is_part;
            self.sweep_page(page, enumerator, &mut summary, &mut due, &mut report)
                .await;
            if cursor.is_none() {
                self.end_sweep(enumerator, &summary, is_part).await;
                return Ok((summary, due));
            }
            // Requests have priority.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn end_sweep(&self, enumerator: &dyn Enumerate, summary: &SweepSummary, is_part: bool) {
        let counters = &self.engine.counters;
        let (reported, listed) = (&counters.reported_orphans, &self.listed_orphans);
        let so_far = listed.load(Ordering::Relaxed) + summary.reported;
        if is_part {
            listed.store(so_far, Ordering::Relaxed);
            reported.fetch_max(so_far, Ordering::Relaxed);
        } else {
            listed.store(0, Ordering::Relaxed);
            reported.store(so_far, Ordering::Relaxed);
        }
        let damaged = &counters.damaged_uploads;
        let before = damaged.swap(summary.damaged, Ordering::Relaxed);
        if summary.damaged > before {
            tracing::warn!(
                uploads = summary.damaged,
                "descriptions of uploads cannot be read or contradict the store; they are kept, and \
                 landfall sweep --dry-run lists them"
            );
        }
        if let Some(step) = self.clock.doubted_step() {
            let seconds = step.as_secs();
            tracing::warn!(
                seconds,
                "the clock has stepped forward; nothing expires by that until it has lasted"
            );
        }
        if self.dry_run {
            return;
        }
        let memory = self.clock.memory();
        if let Err(error) = enumerator.save_clock(memory).await {
            tracing::debug!(%error, "failed to store the clock of sweeps");
        }
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
            let (upload, at) = (&snapshot.upload, self.engine.expiry_of(&snapshot));
            let (size, modified) = (snapshot.offset, snapshot.modified);
            match Removable::upload(&snapshot, at, self.clock.now()) {
                Ok(_) => {
                    let why = match removal::is_finished(&snapshot) {
                        true => SweepReason::FinishedExpired,
                        false => SweepReason::UnfinishedExpired,
                    };
                    let entry = SweepEntry::upload(&upload.id, size, modified, why);
                    let gone = self.remove_upload(&upload.id).await;
                    summarize(summary, &entry, gone, report);
                    continue;
                }
                Err(NotRemovable::NotOurs) if self.is_unfinished_for_long(modified) => {
                    let why = SweepReason::Reported(OF_TUSD);
                    report(&SweepEntry::upload(&upload.id, size, modified, why));
                }
                Err(_) => {}
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
            let why = SweepReason::Reported(DAMAGED);
            tracing::debug!(id = %damaged.id, reason = damaged.reason, "an upload is damaged");
            report(&SweepEntry::upload(
                &damaged.id,
                damaged.size,
                damaged.modified,
                why,
            ));
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
            let lifetime = self.lifetime_of(&orphan);
            match Removable::orphan(orphan.kind, orphan.modified, lifetime, self.clock.now()) {
                Ok(permission) => {
                    let gone = self.remove_orphan(enumerator, &orphan, permission).await;
                    summarize(summary, &entry, gone, report);
                }
                Err(NotRemovable::NotOurs) => {
                    summary.reported += 1;
                    entry.why = SweepReason::Reported(orphan.reason);
                    report(&entry);
                }
                Err(_) => summary.skipped += 1,
            }
        }
    }

    fn count(&self, summary: &mut SweepSummary) {
        summary.examined += 1;
        self.examined.fetch_add(1, Ordering::Relaxed);
    }

    fn is_unfinished_for_long(&self, modified: SystemTime) -> bool {
        let lifetime = self.engine.config.lifetimes.unfinished;
        let due = lifetime.and_then(|lifetime| modified.checked_add(lifetime));
        due.is_some_and(|due| self.clock.now().has_reached(due))
    }

    /// The bytes of a description may still be on their way, when a directory is copied.
    fn lifetime_of(&self, orphan: &Orphan) -> Duration {
        match orphan.kind {
            OrphanKind::Description => {
                let lifetime = self.engine.config.lifetimes.unfinished;
                lifetime.unwrap_or(MOVED_LIFETIME).max(self.orphan_age)
            }
            OrphanKind::Temporary | OrphanKind::Unproven => self.orphan_age,
        }
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
        let due = self.engine.expiry_of(&current);
        let Ok(permission) = Removable::upload(&current, due, self.clock.now()) else {
            return Ok(false);
        };
        if !can_remove {
            return Ok(false);
        }
        if self.dry_run {
            return Ok(true);
        }
        let engine = self.engine.clone();
        let expire = async move {
            let (context, why) = (RequestContext::NONE, Removal::Expired(permission));
            let Snapshot { upload, offset, .. } = &current;
            engine.remove(context, upload, *offset, &lease, why).await
        };
        self.engine.detached(expire).await
    }

    async fn remove_orphan(
        &self,
        enumerator: &dyn Enumerate,
        orphan: &Orphan,
        permission: Removable,
    ) -> Result<bool, Error> {
        let _lease = match &orphan.id {
            None => None,
            Some(id) => match self.engine.free_lease(id).await? {
                Some(lease) => Some(lease),
                None => return Ok(false),
            },
        };
        if self.dry_run {
            return Ok(true);
        }
        Ok(enumerator.remove_orphan(orphan, permission).await?)
    }
}

/// Claims the running sweep again and again. Returns when to claim the next one, once another process has this one.
async fn renew_claim(enumerator: &dyn Enumerate, interval: Duration) -> Duration {
    loop {
        tokio::time::sleep(SWEEP_RENEWAL).await;
        match enumerator.claim_sweep(interval).await {
            Ok(SweepClaim::Granted) => {}
            Ok(SweepClaim::Later(wait)) => return wait,
            // Another process takes over if that lasts.
            Err(error) => tracing::debug!(%error, "failed to claim the running sweep again"),
        }
    }
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
        // Another sweep or a request has removed it since it was listed, or begun to write.
        Ok(false) | Err(Error::Store(StoreError::NotFound(_) | StoreError::LeaseLost(_))) => {
            summary.skipped += 1;
        }
        // Another program has an object in its place.
        Err(Error::Store(StoreError::Damaged { .. })) => {
            summary.damaged += 1;
            let why = SweepReason::Reported(DAMAGED);
            report(&SweepEntry {
                why,
                ..entry.clone()
            });
        }
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
