//! The cost of a sweep depends on due uploads, and it loses nothing: in a bucket in memory, whose calls are counted.

use std::{
    collections::BTreeSet,
    future::pending,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Enumerate as _, SWEEP_RENEWAL, Store as _, SweepClaim, Terminate as _},
    upload::Upload,
};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    Error, ErrorKind, ListedObject, Object, ObjectHead, ObjectHeaders, ObjectsPage, Part,
    PartCondition, Payload, Rules, Stats, StoreOptions, call,
};

const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = HOUR.saturating_mul(7 * 24);
const INTERVAL: Duration = Duration::from_secs(600);
const LIFETIMES: Lifetimes = Lifetimes {
    unfinished: Some(WEEK),
    finished: None,
};

#[derive(Debug, Clone)]
struct Stored {
    bytes: Bytes,
    etag: String,
    modified: SystemTime,
}

/// A service like S3 whose multipart uploads have no parts.
#[derive(Debug, Clone, Default)]
struct MemoryCloud(Arc<Service>);

#[derive(Debug, Default)]
struct Service {
    objects: Mutex<BTreeMap<String, Stored>>,
    stats: Stats,
    /// A PUT gets no response.
    is_silent: AtomicBool,
}

impl MemoryCloud {
    fn call(&self, operation: &'static str) {
        self.0.stats.count(operation, |stats| stats.calls += 1);
    }

    fn insert(&self, key: &str, bytes: impl Into<Bytes>, modified: SystemTime) {
        let stored = Stored {
            bytes: bytes.into(),
            etag: format!("{:x}", rand::random::<u64>()),
            modified,
        };
        self.0.objects.lock().insert(key.to_owned(), stored);
    }

    fn find(&self, operation: &'static str, object: &ObjectRef) -> call::Result<Stored> {
        self.call(operation);
        let found = self.0.objects.lock().get(&object.key).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NoSuchKey, operation, object.key.clone()))
    }

    fn keys(&self) -> Vec<String> {
        self.0.objects.lock().keys().cloned().collect()
    }

    fn segments(&self) -> Vec<String> {
        let mut keys = self.keys();
        keys.retain(|key| key.starts_with(".landfall/due/"));
        keys
    }

    fn age_objects(&self, by: Duration) {
        let mut objects = self.0.objects.lock();
        objects
            .values_mut()
            .for_each(|stored| stored.modified -= by);
    }

    /// Lets all objects be older, and the times in the record of the sweeper.
    fn age(&self, by: Duration) {
        self.age_objects(by);
        let mut objects = self.0.objects.lock();
        let stored = objects.get_mut(".landfall/sweeper.json").unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(&stored.bytes).unwrap();
        for time in ["/listing/started", "/listing/previous/0"] {
            let time = record.pointer_mut(time).unwrap();
            *time = (time.as_u64().unwrap() - by.as_secs()).into();
        }
        stored.bytes = record.to_string().into();
    }
}

fn head(stored: &Stored) -> ObjectHead {
    ObjectHead {
        size: stored.bytes.len() as u64,
        etag: stored.etag.clone(),
        modified: Some(stored.modified),
        metadata: BTreeMap::new(),
        content_type: None,
    }
}

#[async_trait]
impl Cloud for MemoryCloud {
    fn rules(&self) -> Rules {
        Rules {
            name: "memory",
            store_type: "memory",
            bucket_field: "Bucket",
            implicit_multipart: false,
            versioned_parts: false,
            write_interval: Duration::ZERO,
            max_copy: 5 << 30,
        }
    }

    fn object_url(&self, object: &ObjectRef) -> String {
        object.to_string()
    }

    fn stats(&self) -> &Stats {
        &self.0.stats
    }

    async fn put_object(
        &self,
        object: &ObjectRef,
        payload: Payload,
        _: &ObjectHeaders,
        condition: Condition,
        _: Option<&TaskTracker>,
    ) -> call::Result<String> {
        self.call("put");
        if self.0.is_silent.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        let stored = self.0.objects.lock().get(&object.key).cloned();
        let is_met = match condition {
            Condition::None => true,
            Condition::IfAbsent => stored.is_none(),
            Condition::IfMatch(etag) => stored.is_some_and(|stored| stored.etag == etag),
        };
        if !is_met {
            let kind = ErrorKind::PreconditionFailed;
            return Err(Error::new(kind, "put", object.key.clone()));
        }
        let bytes: Vec<u8> = payload.chunks().flat_map(|chunk| chunk.to_vec()).collect();
        self.insert(&object.key, bytes, SystemTime::now());
        Ok(self.0.objects.lock()[&object.key].etag.clone())
    }

    async fn get_object(&self, object: &ObjectRef, _: Option<Range<u64>>) -> call::Result<Object> {
        let stored = self.find("get", object)?;
        Ok(Object {
            head: head(&stored),
            range: 0..stored.bytes.len() as u64,
            body: stream::iter([Ok(stored.bytes)]).boxed(),
        })
    }

    async fn head_object(&self, object: &ObjectRef) -> call::Result<ObjectHead> {
        Ok(head(&self.find("head", object)?))
    }

    async fn delete_object(&self, object: &ObjectRef) -> call::Result<()> {
        self.call("delete");
        self.0.objects.lock().remove(&object.key);
        Ok(())
    }

    async fn list_objects(
        &self,
        _: &str,
        prefix: &str,
        after: Option<String>,
        max: u32,
    ) -> call::Result<ObjectsPage> {
        self.call("list");
        let from = after.map_or_else(|| prefix.to_owned(), |after| format!("{after}\0"));
        let objects = self.0.objects.lock();
        let below = objects
            .range(from..)
            .take_while(|(key, _)| key.starts_with(prefix));
        let mut listed: Vec<_> = below
            .take(max as usize + 1)
            .map(|(key, stored)| ListedObject {
                key: key.clone(),
                size: stored.bytes.len() as u64,
                etag: stored.etag.clone(),
                modified: Some(stored.modified),
            })
            .collect();
        let has_more = listed.len() > max as usize;
        listed.truncate(max as usize);
        let last = listed.last().map(|last| last.key.clone());
        Ok(ObjectsPage {
            next: last.filter(|_| has_more),
            objects: listed,
            time: Some(SystemTime::now()),
        })
    }

    async fn create_multipart(&self, _: &ObjectRef, _: &ObjectHeaders) -> call::Result<String> {
        self.call("create");
        Ok("m".to_owned())
    }

    async fn upload_part(
        &self,
        object: &ObjectRef,
        _: &str,
        _: u32,
        _: Payload,
        _: PartCondition<'_>,
    ) -> call::Result<String> {
        let kind = ErrorKind::NotImplemented;
        Err(Error::new(kind, "part", object.key.clone()))
    }

    async fn copy_part(
        &self,
        object: &ObjectRef,
        _: &str,
        _: u32,
        _: &ObjectRef,
        _: Range<u64>,
    ) -> call::Result<String> {
        let kind = ErrorKind::NotImplemented;
        Err(Error::new(kind, "copy", object.key.clone()))
    }

    async fn list_parts(&self, _: &ObjectRef, _: &str) -> call::Result<Vec<Part>> {
        self.call("parts");
        Ok(Vec::new())
    }

    async fn complete_multipart(
        &self,
        object: &ObjectRef,
        _: &str,
        _: &[(u32, String)],
        _: &ObjectHeaders,
    ) -> call::Result<String> {
        let kind = ErrorKind::NotImplemented;
        Err(Error::new(kind, "complete", object.key.clone()))
    }

    async fn abort_multipart(&self, _: &ObjectRef, _: &str) -> call::Result<()> {
        self.call("abort");
        Ok(())
    }

    async fn presign_download(
        &self,
        object: &ObjectRef,
        _: &str,
        _: &str,
        _: Duration,
    ) -> call::Result<String> {
        let kind = ErrorKind::NotImplemented;
        Err(Error::new(kind, "presign", object.key.clone()))
    }
}

type MemoryBucket = ObjectStore<MemoryCloud>;

/// A process of a cluster.
fn node(cloud: &MemoryCloud) -> MemoryBucket {
    let mut options = StoreOptions::new("bucket");
    (options.shared, options.conditional_writes) = (true, true);
    ObjectStore::new(cloud.clone(), options).unwrap()
}

fn due(snapshot: &Snapshot) -> Option<SystemTime> {
    (!snapshot.is_complete()).then(|| snapshot.modified + WEEK)
}

/// Creates an upload and records it, as the engine does.
async fn create(store: &MemoryBucket) -> UploadId {
    let mut upload = Upload::new(UploadId::random(), Some(100));
    store.assign_id(&mut upload).await.unwrap();
    let upload = store.create(upload).await.unwrap();
    let snapshot = Snapshot::new(upload, 0, SystemTime::now());
    store.record(&snapshot, due(&snapshot));
    snapshot.upload.id.clone()
}

type Ids = BTreeSet<UploadId>;

fn filter(lifetimes: Lifetimes) -> DueFilter<'static> {
    DueFilter {
        all: false,
        dry_run: false,
        lifetimes,
        due: &due,
    }
}

/// Sweeps, and removes the uploads that are due at `now`. Returns the uploads that were examined, and those removed.
async fn sweep_at(store: &MemoryBucket, lifetimes: Lifetimes, now: SystemTime) -> (Ids, Ids) {
    let claim = store.claim_sweep(INTERVAL).await.unwrap();
    assert_eq!(claim, SweepClaim::Granted);
    let filter = filter(lifetimes);
    let (mut examined, mut removed) = (Ids::new(), Ids::new());
    let mut cursor = None;
    loop {
        let page = store.page_due(cursor, 1000, &filter).await.unwrap();
        for snapshot in page.uploads {
            let id = snapshot.upload.id.clone();
            if due(&snapshot).is_some_and(|due| due <= now) {
                store.terminate(&snapshot.upload, Fence(9)).await.unwrap();
                removed.insert(id.clone());
            }
            examined.insert(id);
        }
        cursor = page.next;
        if cursor.is_none() {
            store.finish_sweep(INTERVAL).await.unwrap();
            return (examined, removed);
        }
    }
}

async fn sweep(store: &MemoryBucket) -> (Ids, Ids) {
    sweep_at(store, LIFETIMES, SystemTime::now()).await
}

/// Returns an upload that later sweeps do not examine.
async fn examined_upload() -> (MemoryCloud, MemoryBucket, UploadId) {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    let upload = create(&store).await;
    cloud.age_objects(2 * HOUR);
    for _ in 0..2 {
        sweep(&store).await;
    }
    assert!(sweep(&store).await.0.is_empty());
    (cloud, store, upload)
}

/// Writes a segment that is due now.
fn insert_due(cloud: &MemoryCloud, ids: &[&UploadId]) -> String {
    let uploads: Vec<_> = ids.iter().map(|id| id.as_str()).collect();
    let json = serde_json::json!({ "uploads": uploads }).to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let key = format!(".landfall/due/{}", segment_name(now.as_secs() - 1));
    cloud.insert(&key, json, SystemTime::now());
    key
}

fn insert_finished(cloud: &MemoryCloud, count: usize, modified: SystemTime) {
    for number in 0..count {
        let id = format!("{number:032x}");
        cloud.insert(&id, "x", modified);
        cloud.insert(&format!("{id}.info"), "{}", modified);
    }
}

/// 200,000 objects: the hour of six sweeps is listed in parts.
#[tokio::test]
async fn a_sweep_of_many_finished_uploads_costs_what_is_due() {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    let calls = || cloud.0.stats.calls();
    create(&store).await;
    sweep(&store).await;
    cloud.age_objects(HOUR);
    let before = calls();
    for _ in 0..6 {
        sweep(&store).await;
    }
    // The record is read and written twice, the index is listed, and the bucket.
    assert_eq!(calls() - before, 6 * 5, "an hour of a small bucket");

    insert_finished(&cloud, 100_000, SystemTime::now() - 3 * WEEK);
    sweep(&store).await;
    let before = calls();
    for _ in 0..6 {
        cloud.age(INTERVAL);
        sweep(&store).await;
    }
    let hour = calls() - before;
    assert!((100..=130).contains(&hour), "{hour} calls");
    println!("an hour with 100,000 finished uploads: {hour} calls");
    let before = calls();
    sweep(&store).await;
    assert_eq!(calls() - before, 4, "no time has passed");

    let expired = create(&store).await;
    let segment = insert_due(&cloud, &[&expired]);
    let before = calls();
    let (examined, removed) = sweep_at(&store, LIFETIMES, SystemTime::now() + 2 * WEEK).await;
    let expired = Ids::from([expired]);
    assert_eq!((&examined, &removed), (&expired, &expired));
    assert!(!cloud.keys().contains(&segment));
    let cost = calls() - before;
    assert!(cost <= 20, "{cost} calls for one upload");
}

/// The calls of an hour, from 1,000 to 100 million finished uploads.
#[test]
fn a_listing_takes_a_hundred_calls_an_hour_and_at_most_four_days() {
    for (pages, most, days) in [(3, 18, 0.1), (200, 100, 0.1), (20_000, 210, 4.0)] {
        let mut now = UNIX_EPOCH + WEEK;
        let mut page = 0;
        let mut list = |listing: Option<Listing>, now| {
            let (mut listing, mut calls) = (Listing::next(listing, LIFETIMES, now), 0);
            while listing.next_cursor(now).is_some() {
                page = (page + 1) % pages;
                listing.advance((page > 0).then(|| "x".to_owned()));
                calls += 1;
            }
            (listing, calls)
        };
        let (mut listing, first) = list(None, now);
        assert_eq!(first, pages, "the first one is not spread");
        let (mut hours, mut total) = (0, 0);
        while total < pages {
            let mut hour = 0;
            for _ in 0..6 {
                now += INTERVAL;
                let (next, calls) = list(Some(listing), now);
                (listing, hour) = (next, hour + calls);
            }
            assert!(hour <= most, "{hour} calls an hour for {pages} pages");
            (hours, total) = (hours + 1, total + hour);
        }
        assert!(
            f64::from(hours) / 24.0 <= days + 0.1,
            "{hours} hours for {pages} pages"
        );
    }
}

#[tokio::test]
async fn an_upload_of_a_killed_process_expires_with_the_next_sweep_of_a_small_bucket() {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    sweep(&store).await;
    let killed = node(&cloud);
    let upload = create(&killed).await;
    drop(killed);
    let upload = Ids::from([upload]);
    let late = SystemTime::now() + 2 * WEEK;
    assert_eq!(sweep_at(&store, LIFETIMES, late).await.1, upload);
}

#[tokio::test]
async fn an_upload_of_a_killed_process_is_found_by_the_listing_of_a_large_bucket() {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    sweep(&store).await;
    insert_finished(&cloud, 10_000, SystemTime::now() - 3 * WEEK);
    sweep(&store).await;
    let killed = node(&cloud);
    let upload = create(&killed).await;
    assert_eq!(sweep(&store).await.0, Ids::new());
    // The times of another one are written.
    let living = node(&cloud);
    let snapshot = living.load(&create(&living).await).await.unwrap();
    living.record(&snapshot, Some(SystemTime::now()));
    living.flush_due_times().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let known = Ids::from([snapshot.upload.id.clone()]);
    assert_eq!(sweep(&store).await.0, known);
    store.terminate(&snapshot.upload, Fence(9)).await.unwrap();
    for segment in cloud.segments() {
        cloud.0.objects.lock().remove(&segment);
    }
    cloud.age(Duration::from_secs(3600));
    let other = node(&cloud);
    assert_eq!(sweep(&other).await.0, Ids::from([upload.clone()]));
    assert_eq!(cloud.segments().len(), 1, "it is recorded now");
    let segment = cloud.segments().remove(0);
    cloud.0.objects.lock().remove(&segment);
    insert_due(&cloud, &[&upload]);
    let late = SystemTime::now() + 2 * WEEK;
    assert_eq!(
        sweep_at(&other, LIFETIMES, late).await.1,
        Ids::from([upload])
    );
}

#[tokio::test]
async fn an_upload_that_was_continued_is_recorded_for_its_new_time() {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    let upload = create(&store).await;
    sweep(&store).await;
    cloud.age_objects(HOUR);
    let before = cloud.segments();
    let early = insert_due(&cloud, &[&upload]);
    let (examined, removed) = sweep(&store).await;
    assert_eq!((examined.len(), removed.len()), (1, 0));
    let after = cloud.segments();
    assert!(!after.contains(&early));
    assert_eq!(after.len(), before.len() + 1);
}

/// In use, or not due by the second clock, or the deletion failed.
#[tokio::test]
async fn an_upload_that_is_due_and_stays_is_examined_in_each_sweep() {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    let upload = Ids::from([create(&store).await]);
    cloud.age_objects(2 * WEEK);
    sweep_at(&store, LIFETIMES, UNIX_EPOCH).await;
    for _ in 0..2 {
        let (examined, removed) = sweep_at(&store, LIFETIMES, UNIX_EPOCH).await;
        assert_eq!((examined, removed.len()), (upload.clone(), 0));
        assert_eq!(cloud.segments().len(), 1);
    }
    assert_eq!(sweep(&store).await.1, upload);
    assert!(cloud.segments().is_empty());
}

/// The segment is deleted after its uploads only.
#[tokio::test]
async fn a_sweep_that_ends_early_is_repeated() {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    let upload = create(&store).await;
    let segment = insert_due(&cloud, &[&upload]);
    let filter = filter(LIFETIMES);
    for _ in 0..2 {
        let page = store.page_due(None, 1000, &filter).await.unwrap();
        assert_eq!(page.uploads.len(), 1);
        assert!(cloud.segments().contains(&segment));
    }
}

/// Another process sweeps, and this one stops while it writes due times.
#[tokio::test]
async fn due_times_of_a_sweep_that_was_stopped_are_written_by_the_next_one() {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    let upload = create(&store).await;
    cloud.0.is_silent.store(true, Ordering::Relaxed);
    let stopped = tokio::time::timeout(Duration::from_millis(10), store.0.flush_due_times());
    stopped.await.unwrap_err();
    assert!(cloud.segments().is_empty());
    cloud.0.is_silent.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        store.0.flush_due_times().await.unwrap();
        assert_eq!(cloud.segments().len(), 1);
    }
    let [key] = &cloud.segments()[..] else {
        panic!()
    };
    let object = ObjectRef::new("bucket", key);
    let segment = cloud.find("get", &object).unwrap().bytes;
    let segment: Segment = serde_json::from_slice(&segment).unwrap();
    assert_eq!(segment.uploads, [upload.to_string()]);
}

#[tokio::test]
async fn a_damaged_segment_has_everything_examined_and_an_unknown_one_is_left() {
    let old = SystemTime::now() - 2 * HOUR;
    for damage in ["{\"uploads\":[\"a\",", "{}", "{\"uploads\":[\"\"]}", ""] {
        let (cloud, store, upload) = examined_upload().await;
        let damaged = insert_due(&cloud, &[&upload]);
        cloud.insert(&damaged, damage, old);
        let unknown = [
            ".landfall/due/notes",
            ".landfall/due/2020-01-01T000000Z-x",
            ".landfall/due2/2020-01-01T000000Z-0123456789abcdef",
        ];
        for key in unknown {
            cloud.insert(key, "{}", old);
        }
        assert_eq!(sweep(&store).await.0, Ids::from([upload]), "{damage}");
        let keys = cloud.keys();
        assert!(!keys.contains(&damaged));
        assert!(unknown.iter().all(|key| keys.contains(&(*key).to_owned())));
        assert!(sweep(&store).await.0.is_empty());
    }
}

#[tokio::test]
async fn other_lifetimes_have_everything_examined() {
    let (_, store, upload) = examined_upload().await;
    let lifetimes = Lifetimes {
        unfinished: Some(WEEK / 2),
        finished: Some(WEEK),
    };
    let examined = sweep_at(&store, lifetimes, UNIX_EPOCH).await.0;
    assert_eq!(examined, Ids::from([upload]));
}

/// A damaged upload is reported by each sweep, once, and by another process.
#[tokio::test]
async fn a_damaged_upload_is_reported_by_each_sweep() {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    let upload = create(&store).await;
    let key = cloud.keys().into_iter().find(|key| key.ends_with(".info"));
    let key = key.unwrap();
    let stored = cloud.0.objects.lock()[&key].clone();
    let text = String::from_utf8(stored.bytes.to_vec()).unwrap();
    let text = text.replace("\"Size\":100", "\"Size\":-1");
    cloud.insert(&key, text, stored.modified);
    let filter = filter(LIFETIMES);
    for store in [&store, &store, &node(&cloud)] {
        let mut damaged = Vec::new();
        store.claim_sweep(INTERVAL).await.unwrap();
        let mut cursor = None;
        loop {
            let page = store.page_due(cursor, 1000, &filter).await.unwrap();
            damaged.extend(page.damaged.into_iter().map(|damaged| damaged.id));
            cursor = page.next;
            if cursor.is_none() {
                assert!(!page.is_part);
                break;
            }
        }
        store.finish_sweep(Duration::ZERO).await.unwrap();
        assert!(damaged.iter().eq([&upload]));
        cloud.age_objects(HOUR);
    }
}

/// Uploads that complete before their times are written need none, and a bucket of one process no record.
#[tokio::test]
async fn a_short_upload_costs_no_object() {
    let cloud = MemoryCloud::default();
    let store = ObjectStore::new(cloud.clone(), StoreOptions::new("bucket")).unwrap();
    let id = create(&store).await;
    let upload = store.load(&id).await.unwrap().upload;
    let done = Snapshot::new(upload, 100, SystemTime::now());
    store.record(&done, None);
    store.flush_due_times().await.unwrap();
    assert!(cloud.segments().is_empty());
    store.terminate(&done.upload, Fence(1)).await.unwrap();
    sweep(&store).await;
    assert!(cloud.keys().is_empty());
}

#[test]
fn names_of_segments_are_sorted_by_time() {
    let now = UNIX_EPOCH + Duration::from_secs(1_796_000_000);
    let mut last = String::new();
    for seconds in [1, 599, 5_000, 30_000, 100_000, 1 << 33, u64::from(u32::MAX)] {
        let due = now + Duration::from_secs(seconds);
        let name = segment_name(slot(due, now));
        let parsed = parse_slot(&name).unwrap();
        assert!(parsed >= due, "{name}");
        let late = parsed.duration_since(due).unwrap();
        assert!(late <= Duration::from_secs(601) && late.as_secs() <= 1 + seconds / 50);
        if seconds < 1 << 33 {
            assert!(name > last, "{name} after {last}");
            last = name;
        }
    }
    let far = slot(now + Duration::from_secs(1 << 40), now);
    assert!(parse_slot(&segment_name(far)).is_some());
    assert!(parse_slot(&segment_name(slot(UNIX_EPOCH, now))).unwrap() < now);
}

/// A process that dies in a sweep, or after one.
#[tokio::test(start_paused = true)]
async fn another_process_takes_over_within_thirty_seconds() {
    let cloud = MemoryCloud::default();
    let [one, other] = [node(&cloud), node(&cloud)];
    assert_eq!(one.claim_sweep(HOUR).await.unwrap(), SweepClaim::Granted);
    // It claims the sweep again while it runs.
    for _ in 0..20 {
        tokio::time::sleep(SWEEP_RENEWAL).await;
        assert_eq!(one.claim_sweep(HOUR).await.unwrap(), SweepClaim::Granted);
        let claim = other.claim_sweep(HOUR).await.unwrap();
        assert!(matches!(claim, SweepClaim::Later(_)), "{claim:?}");
    }
    let died = tokio::time::Instant::now();
    while let SweepClaim::Later(wait) = other.claim_sweep(HOUR).await.unwrap() {
        tokio::time::sleep(wait).await;
    }
    let took = died.elapsed().as_secs();
    assert!((10..=30).contains(&took), "{took} s");
    // The first one was only slow.
    let claim = one.claim_sweep(HOUR).await.unwrap();
    assert!(matches!(claim, SweepClaim::Later(_)));

    other.finish_sweep(HOUR).await.unwrap();
    let claim = one.claim_sweep(HOUR).await.unwrap();
    let SweepClaim::Later(wait) = claim else {
        panic!("{claim:?}");
    };
    let longest = HOUR + Duration::from_secs(30);
    assert!(wait > HOUR && wait < longest, "{wait:?}");
}

#[tokio::test]
async fn a_broken_record_is_that_of_a_dead_process() {
    let cloud = MemoryCloud::default();
    let store = node(&cloud);
    for broken in ["", "{", "[]", r#"{"process":"0123456789abcdef"}"#] {
        cloud.insert(".landfall/sweeper.json", broken, SystemTime::now());
        let claim = store.claim_sweep(INTERVAL).await.unwrap();
        assert!(matches!(claim, SweepClaim::Later(_)), "{broken}: {claim:?}");
    }
    tokio::time::pause();
    tokio::time::advance(3 * SWEEP_RENEWAL).await;
    let claim = store.claim_sweep(INTERVAL).await.unwrap();
    assert_eq!(claim, SweepClaim::Granted);
}
