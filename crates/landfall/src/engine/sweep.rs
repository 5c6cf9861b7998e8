//! Removing what has expired and what belongs to nothing any more.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use super::{Engine, Error};
use crate::{
    store::{Orphan, StoreError},
    upload::{Kind, Snapshot, UploadId},
};

/// Entries that are looked at between two pauses.
const PAGE: usize = 256;
/// How old a leftover must be unless something else was said.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Why something goes, or stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Unfinished, and its lifetime is over.
    UnfinishedExpired,
    /// Finished, and its lifetime is over.
    FinishedExpired,
    /// It belongs to no upload, for the reason given.
    Leftover(&'static str),
    /// It belongs to no upload, for the reason given, but holds bytes that somebody may need: it is
    /// only reported.
    Reported(&'static str),
}

/// Something that goes, or went, or is only reported.
#[derive(Debug, Clone)]
pub struct Doomed {
    /// The upload, if it is one.
    pub id: Option<UploadId>,
    /// Its name for people: the id, or what the store calls it.
    pub name: String,
    /// Bytes stored.
    pub size: u64,
    /// When it was last changed.
    pub modified: SystemTime,
    /// Why it goes.
    pub why: Why,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepSummary {
    /// Entries looked at.
    pub seen: u64,
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
    pub fn foreign_from_last_change(mut self) -> Self {
        self.foreign_from = SystemTime::UNIX_EPOCH;
        self
    }

    /// Removes what belongs to no upload when it is this old; an hour if not set. A younger one may
    /// be in the making, so this should be longer than any creation takes. The store may have an age
    /// of its own, below which it doesn't list leftovers.
    #[must_use]
    pub fn leftover_age(mut self, age: Duration) -> Self {
        self.leftover_age = age;
        self
    }

    /// Lists what would go and removes nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Looks at everything once, in pages, and removes what must go; `report` hears of each entry
    /// that went (or would go), and of each that stays although it belongs to no upload.
    ///
    /// # Errors
    /// Those of listing. What can't be removed is counted and logged, and the sweep goes on.
    ///
    /// # Cancel safety
    /// May be dropped at any moment; the next sweep does the rest.
    pub async fn run(&self, mut report: impl FnMut(&Doomed)) -> Result<SweepSummary, StoreError> {
        let mut summary = SweepSummary::default();
        let Some(enumerator) = self.engine.parts.get_enumerator() else {
            return Ok(summary);
        };
        let mut cursor = None;
        loop {
            let page = if self.engine.lifetimes.finished.is_some() {
                enumerator.page(cursor, PAGE).await?
            } else {
                enumerator.page_unfinished(cursor, PAGE).await?
            };
            for snapshot in page.uploads {
                summary.seen += 1;
                if let Some(doomed) = self.judge(&snapshot) {
                    let gone = self.remove_upload(&snapshot).await;
                    summarize(&mut summary, &doomed, gone, &mut report);
                } else if matches!(snapshot.upload.kind, Kind::Final { joined: false, .. })
                    && !self.dry_run
                {
                    // The process that waited for its parts may be gone.
                    self.engine.advance_final(&snapshot.upload.id).await;
                }
            }
            for orphan in page.orphans {
                summary.seen += 1;
                let age = SystemTime::now()
                    .duration_since(orphan.modified)
                    .unwrap_or_default();
                let min_age = match orphan.removable {
                    true => self.leftover_age,
                    // That nothing is to be removed is no reason to keep quiet.
                    false => self.leftover_age.min(LEFTOVER_AGE),
                };
                if age < min_age {
                    summary.skipped += 1;
                    continue;
                }
                if !orphan.removable {
                    summary.reported += 1;
                    report(&Doomed {
                        id: orphan.id,
                        name: orphan.name,
                        size: orphan.size,
                        modified: orphan.modified,
                        why: Why::Reported(orphan.reason),
                    });
                    continue;
                }
                let doomed = Doomed {
                    id: orphan.id.clone(),
                    name: orphan.name.clone(),
                    size: orphan.size,
                    modified: orphan.modified,
                    why: Why::Leftover(orphan.reason),
                };
                let gone = self.remove_orphan(&orphan).await;
                summarize(&mut summary, &doomed, gone, &mut report);
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => {
                    let reported = &self.engine.counters.reported_orphans;
                    reported.store(summary.reported, Ordering::Relaxed);
                    return Ok(summary);
                }
            }
            // Requests come first.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Sweeps again and again, `interval` apart, until dropped.
    pub async fn run_forever(&self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            match self.run(|_| {}).await {
                Ok(summary) if summary.removed > 0 || summary.failed > 0 => tracing::info!(
                    removed = summary.removed,
                    bytes = summary.bytes,
                    failed = summary.failed,
                    "SweepFinished"
                ),
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "SweepFailed"),
            }
        }
    }

    fn judge(&self, snapshot: &Snapshot) -> Option<Doomed> {
        if !self.engine.has_expired_from(snapshot, self.foreign_from) {
            return None;
        }
        let why = if snapshot.is_complete() {
            Why::FinishedExpired
        } else {
            Why::UnfinishedExpired
        };
        Some(Doomed {
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

    async fn remove_orphan(&self, orphan: &Orphan) -> Result<bool, Error> {
        let Some(enumerator) = self.engine.parts.get_enumerator() else {
            return Ok(false);
        };
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

fn summarize(
    summary: &mut SweepSummary,
    doomed: &Doomed,
    gone: Result<bool, Error>,
    report: &mut impl FnMut(&Doomed),
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
