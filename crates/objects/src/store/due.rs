//! The index of due times, and the pages of a sweep by it: its cost depends on the number of due uploads, not of all.
//!
//! **Segments.** Each process collects the uploads that it creates with the times at which they have to be examined,
//! and forgets those that complete meanwhile and have no lifetime then. Whenever a sweep is due, it writes the others as
//! segments: objects `.landfall/due/TIME-NUMBER` with the ids of up to 1,000 uploads that are due at one time
//! (rounded up, by ten minutes at most). No upload costs one more request.
//!
//! **A sweep** lists the segments up to now (one request), and examines the uploads they name. An upload that stays
//! is recorded for its new time. A segment is deleted last, when everything in it was removed or written to
//! another one: after a crash it is read again. The index decides nothing: an upload goes by its description alone.
//!
//! **The listing** of the bucket finds everything else: uploads of tusd and of earlier versions, those of a process that
//! was killed before it had written their times, parts that were left behind, and everything that is only
//! reported. It examines changes since the last one. A small bucket is listed with each sweep, a larger one in parts:
//! 100 pages of 1,000 objects an hour, or as many as it takes to be at the end after four days, because Azure
//! drops the blocks of idle uploads after a week. The first one, one after the lifetimes have changed, and one after a
//! damaged segment examine everything, in one sweep. `election.rs` stores how far it is.
//! `landfall sweep` examines everything, and does not use the index.
//!
//! A segment of a later version has another prefix, and is not touched. Nothing here may delete anything but segments.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    mem,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use landfall::{
    Lifetimes,
    store::{Cursor, DueFilter, DueIndex, Page, Result},
    upload::{Snapshot, UploadId},
};
use serde::{Deserialize, Serialize};

use super::{
    Inner, ObjectStore,
    election::Listing,
    enumerate::{MAX_CONCURRENCY, PART_KEEP_INTERVAL, listing_error},
    layout::RESERVED_PREFIX,
};
use crate::{Condition, ObjectRef, cloud::Cloud, if_exists};

/// Below the reserved prefix. Another format needs another one.
const SEGMENTS: &str = "due/";
const TIME_FORMAT: &str = "%Y-%m-%dT%H%M%SZ";
const MAX_SEGMENT_UPLOADS: usize = 1000;
/// Ids have at most 1,024 bytes.
const MAX_SEGMENT_BYTES: usize = 4 << 20;
/// With as many, a sweep writes them before its end.
const FLUSH_SIZE: usize = 10_000;
/// While they cannot be written, further ones are left to the next listing.
const MAX_PENDING: usize = 100_000;
/// Further ones are not reported again until they change.
const MAX_REPORTED: usize = 10_000;
/// Between two examinations of parts of uploads that have not changed.
const LEFT_RECHECK_INTERVAL: Duration = Duration::from_secs(3600);
/// The clocks of a service with several machines differ.
const LISTING_OVERLAP: Duration = Duration::from_secs(60);
/// The end of the year 9999, which a name of a segment can still have.
const MAX_SECONDS: u64 = 253_402_300_799;

const DUE: &str = "due";

/// The due uploads that this process knows.
#[derive(Debug, Default)]
pub(super) struct DueTimes {
    /// Not written yet.
    pending: HashMap<UploadId, SystemTime>,
    /// A listing has ended in this process.
    has_listed: bool,
    /// The orphans of listings, which report them again.
    reported: HashSet<String>,
    left_checked: Option<Instant>,
    checks_left: bool,
    sweep: Sweep,
}

/// The running sweep of this process.
#[derive(Debug)]
struct Sweep {
    now: SystemTime,
    /// Segments that are due.
    unread: VecDeque<String>,
    /// The position at which the listing of segments continues.
    more: Option<String>,
    next_due: Option<SystemTime>,
    /// Segments whose uploads the last page has.
    read: Vec<String>,
    damaged: HashSet<UploadId>,
    listing: Listing,
}

#[derive(Debug, Serialize, Deserialize)]
struct Segment {
    uploads: Vec<String>,
}

impl<C: Cloud> DueIndex for ObjectStore<C> {
    fn record(&self, snapshot: &Snapshot, due: Option<SystemTime>) {
        let kept = self.0.loses_parts(snapshot);
        let kept = kept.then(|| SystemTime::now() + PART_KEEP_INTERVAL);
        let due = due.into_iter().chain(kept).min();
        self.0.record_due(&snapshot.upload.id, due);
    }
}

impl<C: Cloud> Inner<C> {
    /// Records when an upload has to be examined, which is written later; `None`: never.
    pub(super) fn record_due(&self, id: &UploadId, due: Option<SystemTime>) {
        let pending = &mut self.due.lock().pending;
        match due {
            Some(due) if pending.len() < MAX_PENDING || pending.contains_key(id) => {
                pending.insert(id.clone(), due);
            }
            Some(_) => {}
            None => drop(pending.remove(id)),
        }
    }

    /// Writes the due times that were recorded. May be dropped at any time: the next call writes the rest.
    pub(super) async fn flush_due_times(&self) -> Result<()> {
        // The caller may delete segments whose times another call is still writing.
        let _flush = self.due_flush.lock().await;
        let pending = self.due.lock().pending.clone();
        let now = SystemTime::now();
        let mut slots: BTreeMap<u64, Vec<(UploadId, SystemTime)>> = BTreeMap::new();
        for (id, due) in pending {
            slots.entry(slot(due, now)).or_default().push((id, due));
        }
        for (slot, uploads) in slots {
            for uploads in uploads.chunks(MAX_SEGMENT_UPLOADS) {
                self.write_segment(slot, uploads).await?;
                let pending = &mut self.due.lock().pending;
                for (id, due) in uploads {
                    if pending.get(id) == Some(due) {
                        pending.remove(id);
                    }
                }
            }
        }
        Ok(())
    }

    async fn write_segment(&self, slot: u64, uploads: &[(UploadId, SystemTime)]) -> Result<()> {
        let uploads = uploads.iter().map(|(id, _)| id.to_string()).collect();
        let json = serde_json::to_vec(&Segment { uploads }).unwrap_or_default();
        let object_ref = self.segment(&segment_name(slot));
        let headers = self.layout.internal_headers("application/json");
        let (payload, condition) = (self.payload(json), Condition::None);
        let client = &self.client;
        let put = client.put_object(&object_ref, payload, &headers, condition, None);
        put.await.map(drop).map_err(listing_error)
    }

    fn segment(&self, name: &str) -> ObjectRef {
        let name = format!("{RESERVED_PREFIX}{SEGMENTS}{name}");
        self.layout.data(&name)
    }

    /// Returns the next page of a sweep: first the uploads that the index names, then a part of the listing.
    pub(super) async fn page_of_sweep(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        filter: &DueFilter<'_>,
    ) -> Result<Page> {
        match cursor {
            None => self.start_sweep(filter.lifetimes).await?,
            Some(_) => self.finish_page().await?,
        }
        match cursor.filter(|cursor| cursor.0 != DUE) {
            None => self.page_of_index(limit, filter).await,
            Some(cursor) => self.page_of_listing(cursor, limit, filter).await,
        }
    }

    async fn start_sweep(&self, lifetimes: Lifetimes) -> Result<()> {
        let stored = self.stored_listing().await?;
        self.due.lock().sweep = Sweep::default();
        let now = self.list_segments(None).await?;
        self.due.lock().sweep.listing = Listing::next(stored, lifetimes, now);
        Ok(())
    }

    /// Lists segments that are due, in the order of their times. Returns the time.
    async fn list_segments(&self, after: Option<String>) -> Result<SystemTime> {
        let folder = self.segment("");
        let (bucket, prefix) = (&folder.bucket, &folder.key);
        let listed = self.client.list_objects(bucket, prefix, after, 1000);
        let listed = listed.await.map_err(listing_error)?;
        // An upload is due for the engine by the clock of this machine, and by that of the service.
        let now = SystemTime::now();
        let now = listed.time.map_or(now, |time| time.min(now));
        let sweep = &mut self.due.lock().sweep;
        (sweep.now, sweep.more) = (now, listed.next);
        for object in listed.objects {
            let name = object.key.strip_prefix(prefix.as_str());
            let Some(slot) = name.and_then(parse_slot) else {
                continue;
            };
            if slot > now {
                (sweep.next_due, sweep.more) = (Some(slot), None);
                break;
            }
            sweep.unread.push_back(object.key);
        }
        Ok(now)
    }

    async fn page_of_index(&self, limit: usize, filter: &DueFilter<'_>) -> Result<Page> {
        let mut ids = HashSet::new();
        while ids.len() < limit {
            let (unread, more) = {
                let sweep = &mut self.due.lock().sweep;
                (sweep.unread.pop_front(), sweep.more.clone())
            };
            match (unread, more) {
                (Some(key), _) => self.read_segment(key, &mut ids).await?,
                (None, Some(more)) => drop(self.list_segments(Some(more)).await?),
                (None, None) => break,
            }
        }
        let mut page = Page::default();
        let examined = ids.into_iter().map(|id| async move {
            // No listing shows when a damaged one was changed.
            self.examine(&id, SystemTime::now()).await
        });
        let mut examined = stream::iter(examined).buffer_unordered(MAX_CONCURRENCY);
        while let Some(entry) = examined.next().await {
            self.add_entry(&mut page, entry?, Some(filter)).await;
        }
        let sweep = &self.due.lock().sweep;
        let has_more = !sweep.unread.is_empty() || sweep.more.is_some();
        page.next = match has_more {
            true => Some(Cursor(DUE.to_owned())),
            false => sweep.listing.next_cursor(sweep.now),
        };
        page.is_part = page.next.is_none();
        page.next_due = sweep.next_due;
        Ok(page)
    }

    /// Adds the uploads of a segment.
    async fn read_segment(&self, key: String, ids: &mut HashSet<UploadId>) -> Result<()> {
        let object_ref = ObjectRef::new(&self.layout.bucket, &key);
        let found = if_exists(self.client.get_object(&object_ref, None).await);
        // Another process has handled it.
        let Some(object) = found.map_err(listing_error)? else {
            return Ok(());
        };
        let uploads = match object.head.size <= MAX_SEGMENT_BYTES as u64 {
            true => {
                let bytes = object.bytes(MAX_SEGMENT_BYTES).await;
                let segment = serde_json::from_slice(&bytes.map_err(listing_error)?);
                segment.map_or_else(|_| Vec::new(), |segment: Segment| segment.uploads)
            }
            false => Vec::new(),
        };
        let named = uploads.iter().map(|id| UploadId::new(id).ok());
        let named: Option<Vec<_>> = named.collect();
        let sweep = &mut self.due.lock().sweep;
        match named.filter(|named| !named.is_empty()) {
            Some(named) => ids.extend(named),
            None => {
                tracing::warn!(
                    key,
                    "a list of due uploads is damaged; all uploads are examined again"
                );
                sweep.listing.restart(sweep.now);
            }
        }
        sweep.read.push(key);
        Ok(())
    }

    async fn page_of_listing(
        &self,
        cursor: Cursor,
        limit: usize,
        filter: &DueFilter<'_>,
    ) -> Result<Page> {
        self.due.lock().start_listing();
        let cursor = Some(cursor).filter(|cursor| !cursor.0.is_empty());
        let mut page = self.page(cursor, limit, Some(filter)).await?;
        let due = &mut *self.due.lock();
        let sweep = &mut due.sweep;
        let next = page.next.take().map(|next| next.0);
        page.is_part = sweep.listing.advance(next);
        due.has_listed |= !page.is_part;
        page.next = sweep.listing.next_cursor(sweep.now);
        page.next_due = sweep.next_due;
        Ok(page)
    }

    /// The uploads of the last page were handled: writes the times of those that are still there, and deletes the
    /// segments.
    async fn finish_page(&self) -> Result<()> {
        let (read, is_full) = {
            let mut due = self.due.lock();
            let is_full = due.pending.len() >= FLUSH_SIZE;
            (mem::take(&mut due.sweep.read), is_full)
        };
        if is_full || !read.is_empty() {
            self.flush_due_times().await?;
        }
        let deletions = read.into_iter().map(|key| async move {
            let object_ref = ObjectRef::new(&self.layout.bucket, key);
            self.client.delete_object(&object_ref).await
        });
        let deletions = stream::iter(deletions).buffer_unordered(MAX_CONCURRENCY);
        deletions.try_collect::<()>().await.map_err(listing_error)
    }

    pub(super) async fn finish_sweep(&self, next: Duration) -> Result<()> {
        self.finish_page().await?;
        self.flush_due_times().await?;
        let listing = mem::take(&mut self.due.lock().sweep).listing;
        self.store_sweep(next, listing).await
    }

    /// Returns whether the last listing has examined something that was last changed at this time, recorded what
    /// follows, and has nothing to report again.
    ///
    /// `is_done`: a complete upload. After a start, all others are examined once: one that has all bytes is completed.
    pub(super) fn was_examined(
        &self,
        name: &str,
        changed: Option<SystemTime>,
        is_done: bool,
    ) -> bool {
        let due = self.due.lock();
        let since = due.sweep.listing.previous_start();
        let since = since.and_then(|since| since.checked_sub(LISTING_OVERLAP));
        since.is_some_and(|since| changed.is_some_and(|at| at < since))
            && !due.reported.contains(name)
            // With a template, no neighbor shows that an upload is complete.
            && (is_done || due.has_listed || self.options.key_template.is_some())
    }

    /// Returns whether this listing examines parts that may have been left, although they have not changed.
    pub(super) fn checks_left_parts(&self) -> bool {
        self.due.lock().checks_left
    }

    /// Has the following listings report an orphan again.
    pub(super) fn record_reported(&self, name: &str) {
        let reported = &mut self.due.lock().reported;
        if reported.len() < MAX_REPORTED {
            reported.insert(name.to_owned());
        }
    }

    /// Has each sweep examine a damaged upload. Returns whether this one has not reported it yet.
    pub(super) fn record_damaged(&self, id: &UploadId) -> bool {
        self.record_due(id, Some(UNIX_EPOCH));
        let damaged = &mut self.due.lock().sweep.damaged;
        damaged.len() < MAX_PENDING && damaged.insert(id.clone())
    }
}

impl DueTimes {
    /// Decides whether a new listing examines parts that may have been left.
    fn start_listing(&mut self) {
        if self.left_checked.is_none() || self.sweep.listing.is_new() {
            let is_recent = |at: Instant| at.elapsed() < LEFT_RECHECK_INTERVAL;
            self.checks_left = !self.left_checked.is_some_and(is_recent);
            if self.checks_left {
                self.left_checked = Some(Instant::now());
            }
        }
    }
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            now: UNIX_EPOCH,
            unread: VecDeque::new(),
            more: None,
            next_due: None,
            read: Vec::new(),
            damaged: HashSet::new(),
            listing: Listing::default(),
        }
    }
}

/// Returns the time in seconds at which uploads with such a due time are examined together: not before it.
fn slot(due: SystemTime, now: SystemTime) -> u64 {
    let width = match due.duration_since(now).unwrap_or_default().as_secs() {
        0..600 => 1,
        600..6_000 => 10,
        6_000..36_000 => 60,
        _ => 600,
    };
    let due = due.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let due = due.saturating_add(1).min(MAX_SECONDS);
    due.next_multiple_of(width).min(MAX_SECONDS)
}

fn segment_name(slot: u64) -> String {
    let time = i64::try_from(slot).ok();
    let time = time.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let time = time.unwrap_or(Timestamp::MAX).strftime(TIME_FORMAT);
    format!("{time}-{:016x}", rand::random::<u64>())
}

/// Returns the time in the name of a segment.
fn parse_slot(name: &str) -> Option<SystemTime> {
    let (time, number) = name.split_once("Z-")?;
    if number.len() != 16 || !number.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let time = DateTime::strptime(TIME_FORMAT, format!("{time}Z")).ok()?;
    let time = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(time.into())
}

#[cfg(test)]
mod tests;
