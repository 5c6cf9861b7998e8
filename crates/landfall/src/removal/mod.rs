//! The rule of everything that deletes without being asked: sweeps, purges, retentions.
//!
//! **Deleted is only what a description we can read, and which agrees with the store, says is ours,
//! unfinished and due, by two clocks that agree.**
//!
//! * A description that cannot be read, or that contradicts the store, is reported, and never acted on. A
//!   [`Snapshot`] exists only if the store read the description and found it to agree, so the rule takes one.
//! * A name proves nothing: files of other programs look like ours.
//! * A finished upload stays finished, whatever happens to its bytes. It goes only if the operator has set a
//!   lifetime of finished uploads. tusd does not record that an upload was finished, so a file that an
//!   application has shortened looks unfinished: uploads of tusd have no due time.
//! * Due by two clocks: see [`RemovalClock`].
//!
//! A [`Removable`] is the permission for one removal. [`Removable::upload`] and [`Removable::orphan`] alone make one, and each
//! cleaner of a store needs it. Rows of databases are deleted up to a time, which is an [`AgreedTime`].
//!
//! This module must not do I/O, and must not know stores or databases.

mod clock;

use std::time::{Duration, SystemTime};

pub use self::clock::{AgreedTime, ClockMemory, Reading, RemovalClock};
use crate::upload::Snapshot;

/// The time for which uploads are retained; `None` is forever.
///
/// An expired upload returns 410. Its bytes are removed by a [`Sweeper`](crate::Sweeper), which the
/// program must run:
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn run(uploads: landfall::Handler) {
/// let sweeper = uploads.sweeper();
/// tokio::spawn(async move { sweeper.run_forever(Duration::from_secs(60)).await });
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifetimes {
    /// Unfinished uploads, counted from their last byte.
    pub unfinished: Option<Duration>,
    /// Finished uploads, counted from their last byte.
    pub finished: Option<Duration>,
}

/// The permission to remove one entry, which a cleaner has proven to be ours and due.
#[derive(Debug)]
pub struct Removable(());

/// The knowledge of a store about an [`Orphan`](crate::store::Orphan).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrphanKind {
    /// Nothing: its name is that of one of ours, or it has bytes. It is only reported.
    Unproven,
    /// Written by this store, without bytes of an upload, and never used again.
    Temporary,
    /// A description that this store has written, whose bytes are gone.
    Description,
}

/// Why an entry is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotRemovable {
    /// It has no lifetime: finished, or created by another program.
    NoLifetime,
    /// Its lifetime is not over, or not by both clocks.
    NotDue,
    /// Nothing proves that it is ours.
    NotOurs,
}

impl Removable {
    /// Decides about an upload that is due at `due`, if ever, according to its description and the settings.
    ///
    /// # Errors
    /// Why it is kept.
    pub fn upload(
        found: &Snapshot,
        due: Option<SystemTime>,
        now: AgreedTime,
    ) -> Result<Self, NotRemovable> {
        if found.upload.created_by_tusd && !is_finished(found) {
            return Err(NotRemovable::NotOurs);
        }
        match due {
            None => Err(NotRemovable::NoLifetime),
            Some(due) if now.has_reached(due) => Ok(Self(())),
            Some(_) => Err(NotRemovable::NotDue),
        }
    }

    /// Decides about a file or object that belongs to no upload, with the lifetime of its kind.
    ///
    /// # Errors
    /// Why it is kept.
    pub fn orphan(
        found: OrphanKind,
        modified: SystemTime,
        lifetime: Duration,
        now: AgreedTime,
    ) -> Result<Self, NotRemovable> {
        if found == OrphanKind::Unproven {
            return Err(NotRemovable::NotOurs);
        }
        match modified.checked_add(lifetime) {
            Some(due) if now.has_reached(due) => Ok(Self(())),
            _ => Err(NotRemovable::NotDue),
        }
    }
}

pub(crate) fn is_finished(found: &Snapshot) -> bool {
    found.upload.is_finished_at(found.offset)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::UNIX_EPOCH};

    use super::*;
    use crate::upload::{Completion, Upload, UploadId, UploadKind};

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn now() -> AgreedTime {
        let reading = || Reading {
            wall: UNIX_EPOCH + NOW,
            monotonic: Duration::ZERO,
        };
        RemovalClock::with_source(reading).now()
    }

    fn found(offset: u64, change: impl FnOnce(&mut Upload)) -> Snapshot {
        let mut upload = Upload::new(UploadId::random(), Some(5));
        change(&mut upload);
        Snapshot::new(Arc::new(upload), offset, UNIX_EPOCH)
    }

    #[test]
    fn only_ours_and_due_is_removable() {
        let due = Some(UNIX_EPOCH + NOW);
        let later = due.map(|at| at + Duration::from_secs(1));
        let ours = found(3, |_| {});
        assert!(Removable::upload(&ours, due, now()).is_ok());
        assert_eq!(
            Removable::upload(&ours, later, now()).unwrap_err(),
            NotRemovable::NotDue
        );
        assert_eq!(
            Removable::upload(&ours, None, now()).unwrap_err(),
            NotRemovable::NoLifetime
        );
        let of_tusd = found(3, |upload| upload.created_by_tusd = true);
        assert_eq!(
            Removable::upload(&of_tusd, due, now()).unwrap_err(),
            NotRemovable::NotOurs
        );
        // The operator has set a lifetime of finished uploads.
        let whole = found(5, |upload| upload.created_by_tusd = true);
        assert!(Removable::upload(&whole, due, now()).is_ok());
    }

    #[test]
    fn what_was_finished_once_is_finished_with_any_number_of_bytes() {
        let done = |upload: &mut Upload| upload.completion = Completion::Done(None);
        for offset in [0, 3, 5, 9] {
            assert!(is_finished(&found(offset, done)), "{offset}");
            let partial = |upload: &mut Upload| {
                done(upload);
                upload.kind = UploadKind::Partial;
            };
            assert!(!is_finished(&found(offset, partial)), "{offset}");
        }
        assert!(!is_finished(&found(3, |_| {})));
    }

    #[test]
    fn an_orphan_is_removable_only_if_the_store_has_proven_that_it_is_ours() {
        let hour = Duration::from_secs(3600);
        let modified = UNIX_EPOCH + NOW - hour;
        let kept = |found, lifetime| Removable::orphan(found, modified, lifetime, now()).err();
        assert_eq!(
            kept(OrphanKind::Unproven, hour),
            Some(NotRemovable::NotOurs)
        );
        assert_eq!(kept(OrphanKind::Temporary, hour), None);
        assert_eq!(
            kept(OrphanKind::Temporary, 2 * hour),
            Some(NotRemovable::NotDue)
        );
        assert_eq!(
            kept(OrphanKind::Temporary, Duration::MAX),
            Some(NotRemovable::NotDue)
        );
    }
}
