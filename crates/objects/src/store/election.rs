//! Which of the processes that share a bucket sweeps, and how far its listing is: the object `.landfall/sweeper.json`.
//!
//! No process sweeps for long. Each waits until the sweep is due that the record names, and the first to write the
//! record sweeps; the last one has a head start of ten seconds. While it sweeps, it writes the record every
//! [`SWEEP_RENEWAL`], and the others read it. When it has not changed for three of these times by a reader's
//! own clock, that process is dead, and a reader takes over: within 30 s. While no process sweeps, each one reads the
//! record once in the interval of sweeps.
//!
//! Without conditional writes two processes may sweep at the same time, which is harmless: nothing is removed without
//! the lease of its upload. Such is a process of an earlier version, until it has read a record of this one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use landfall::{
    Lifetimes,
    store::{Cursor, Result, SWEEP_RENEWAL, SweepClaim},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Inner, enumerate::listing_error, layout::RESERVED_PREFIX};
use crate::{ErrorKind, call, cloud::Cloud, if_exists};

/// Below the reserved prefix.
const SWEEPER: &str = "sweeper.json";
/// Two keys with escapes are the longest value.
const MAX_RECORD_BYTES: usize = 32 << 10;
const POLL_INTERVAL: Duration = SWEEP_RENEWAL.saturating_add(Duration::from_secs(2));
const DEAD_AFTER: Duration = SWEEP_RENEWAL.saturating_mul(3);
const HEAD_START: Duration = Duration::from_secs(10);
/// A bucket with as many pages is listed with each sweep.
const SMALL_PAGES: u64 = 10;
const PAGES_PER_HOUR: u64 = 100;
/// A listing of a large bucket has ended by then. Azure drops the parts of uploads that are idle for a week.
const MAX_LISTING_SECONDS: u64 = 4 * 24 * 3600;

/// The state of the election in this process.
#[derive(Debug, Default)]
pub(super) struct Election(Mutex<ElectionState>);

#[derive(Debug, Default)]
struct ElectionState {
    /// As last read or written by this process; `None`: not yet.
    record: Option<(Option<String>, SweeperRecord)>,
    /// The version of another process's record, and since when it has been there.
    observed: Option<(String, Instant)>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct SweeperRecord {
    process: String,
    /// The time from this record to the next sweep, in milliseconds; `None`: the process sweeps.
    next_ms: Option<u64>,
    listing: Option<Listing>,
}

/// A listing of the whole bucket, in one sweep or over several. Times are seconds, by the clock of the service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Listing {
    started: u64,
    /// The lifetimes of the due times that it has recorded.
    lifetimes: [Option<u64>; 2],
    /// The start and the number of pages of the listing before; `None`: everything is examined.
    previous: Option<(u64, u64)>,
    pages: u64,
    /// The position at which it continues; `None`: it has ended.
    cursor: Option<String>,
}

struct StoredRecord {
    record: SweeperRecord,
    etag: String,
    modified: Option<SystemTime>,
}

impl<C: Cloud> Inner<C> {
    pub(super) async fn claim_sweep(&self, interval: Duration) -> Result<SweepClaim> {
        if !self.options.shared {
            return Ok(SweepClaim::Granted);
        }
        let process = format!("{:016x}", self.incarnation);
        let found = self.read_record().await?;
        let wait = found
            .as_ref()
            .filter(|found| found.record.process != process)
            .and_then(|found| self.election.wait(found, interval));
        if let Some(wait) = wait {
            self.flush_due_times().await?;
            return Ok(SweepClaim::Later(wait));
        }
        let (etag, listing) = match found {
            Some(found) => (Some(found.etag), found.record.listing),
            None => (None, None),
        };
        let record = SweeperRecord {
            process,
            next_ms: None,
            listing,
        };
        match self.write_record(record, etag).await {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => {
                Ok(SweepClaim::Later(POLL_INTERVAL))
            }
            written => written.map(|()| SweepClaim::Granted).map_err(listing_error),
        }
    }

    /// Returns the last listing, as the claim has read it.
    pub(super) async fn stored_listing(&self) -> Result<Option<Listing>> {
        let known = self.election.0.lock().record.clone();
        if let Some((_, record)) = known {
            return Ok(record.listing);
        }
        let found = self.read_record().await?;
        let (etag, record) = match found {
            Some(found) => (Some(found.etag), found.record),
            None => (None, SweeperRecord::default()),
        };
        let listing = record.listing.clone();
        self.election.0.lock().record = Some((etag, record));
        Ok(listing)
    }

    /// Ends the sweep of this process, unless another one has taken it over.
    pub(super) async fn store_sweep(&self, next: Duration, listing: Listing) -> Result<()> {
        let known = self.election.0.lock().record.clone();
        let etag = known.and_then(|(etag, _)| etag);
        let is_kept = self.options.shared || etag.is_some() || !listing.is_small();
        let record = SweeperRecord {
            process: format!("{:016x}", self.incarnation),
            next_ms: u64::try_from(next.as_millis()).ok(),
            listing: Some(listing),
        };
        if !is_kept {
            self.election.0.lock().record = Some((None, record));
            return Ok(());
        }
        match self.write_record(record, etag).await {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => {
                self.election.0.lock().record = None;
                tracing::debug!("another process has taken over the sweep");
                Ok(())
            }
            written => written.map_err(listing_error),
        }
    }

    async fn read_record(&self) -> Result<Option<StoredRecord>> {
        let object_ref = self.layout.data(&format!("{RESERVED_PREFIX}{SWEEPER}"));
        let found = if_exists(self.client.get_object(&object_ref, None).await);
        let Some(object) = found.map_err(listing_error)? else {
            return Ok(None);
        };
        let head = object.head.clone();
        let json = object
            .bytes(MAX_RECORD_BYTES)
            .await
            .map_err(listing_error)?;
        Ok(Some(StoredRecord {
            // One that cannot be read is replaced like that of a dead process.
            record: serde_json::from_slice(&json).unwrap_or_default(),
            etag: head.etag,
            modified: head.modified,
        }))
    }

    async fn write_record(&self, record: SweeperRecord, etag: Option<String>) -> call::Result<()> {
        let object_ref = self.layout.data(&format!("{RESERVED_PREFIX}{SWEEPER}"));
        let json = serde_json::to_vec(&record).unwrap_or_default();
        let (condition, payload) = (self.condition(etag), self.payload(json));
        let headers = self.layout.internal_headers("application/json");
        let client = &self.client;
        let put = client.put_object(&object_ref, payload, &headers, condition, None);
        let etag = put.await?;
        let mut known = self.election.0.lock();
        known.record = Some((Some(etag), record));
        known.observed = None;
        Ok(())
    }
}

impl Election {
    /// Returns when to read a record of another process again; `None`: this process may sweep.
    fn wait(&self, found: &StoredRecord, interval: Duration) -> Option<Duration> {
        let Some(next) = found.record.next_ms else {
            let mut known = self.0.lock();
            let observed = known.observed.take();
            let observed = observed.filter(|(etag, _)| *etag == found.etag);
            let (etag, since) = observed.unwrap_or_else(|| (found.etag.clone(), Instant::now()));
            known.observed = Some((etag, since));
            return (since.elapsed() < DEAD_AFTER).then_some(POLL_INTERVAL);
        };
        let lasts = Duration::from_millis(next).min(interval) + HEAD_START.min(interval);
        let age = found.modified.and_then(|at| at.elapsed().ok());
        let left = lasts.saturating_sub(age.unwrap_or_default());
        // Not all processes at once.
        let jitter = Duration::from_millis(rand::random_range(0..1000));
        (!left.is_zero()).then_some(left + jitter)
    }
}

impl Listing {
    /// Returns the listing to continue, or a new one.
    pub(super) fn next(stored: Option<Self>, lifetimes: Lifetimes, now: SystemTime) -> Self {
        let lifetimes = [lifetimes.unfinished, lifetimes.finished];
        let lifetimes = lifetimes.map(|lifetime| lifetime.map(|lifetime| lifetime.as_secs()));
        let stored = stored.filter(|stored| stored.lifetimes == lifetimes);
        match stored {
            Some(stored) if stored.cursor.is_some() => stored,
            stored => Self {
                started: unix_seconds(now),
                lifetimes,
                previous: stored.and_then(|stored| stored.previous),
                pages: 0,
                cursor: Some(String::new()),
            },
        }
    }

    pub(super) fn is_new(&self) -> bool {
        self.pages == 0
    }

    fn is_small(&self) -> bool {
        self.previous.is_none_or(|(_, pages)| pages <= SMALL_PAGES)
    }

    /// Starts again, to examine everything.
    pub(super) fn restart(&mut self, now: SystemTime) {
        (self.started, self.previous) = (unix_seconds(now), None);
        (self.pages, self.cursor) = (0, Some(String::new()));
    }

    /// Returns when the listing before started, which has examined what had not changed since.
    pub(super) fn previous_start(&self) -> Option<SystemTime> {
        let (started, _) = self.previous?;
        UNIX_EPOCH.checked_add(Duration::from_secs(started))
    }

    /// Returns the position of the next page, unless it has to wait for a later sweep.
    pub(super) fn next_cursor(&self, now: SystemTime) -> Option<Cursor> {
        let cursor = self.cursor.clone().map(Cursor)?;
        let (_, pages) = self.previous.unwrap_or_default();
        let elapsed = unix_seconds(now).saturating_sub(self.started);
        let in_time = elapsed.saturating_mul(pages) / MAX_LISTING_SECONDS;
        let due = in_time.max(elapsed.saturating_mul(PAGES_PER_HOUR) / 3600);
        (self.is_small() || self.pages < due).then_some(cursor)
    }

    /// Records a page, and where the next one begins. Returns whether there is one.
    pub(super) fn advance(&mut self, next: Option<String>) -> bool {
        self.pages += 1;
        if next.is_none() {
            self.previous = Some((self.started, self.pages));
        }
        self.cursor = next;
        self.cursor.is_some()
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
}
