//! Cost of a sweep, and election of the sweeping process.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use landfall::{
    Composer, Config, Handler, Lifetimes,
    lease::Fence,
    removal::{Reading, RemovalClock},
    store::{DueFilter, Enumerate as _, Store as _, StoreError, SweepClaim},
    upload::{Completion, Snapshot, UploadId},
};
use landfall_objects::Cloud as _;
use landfall_s3::{
    S3Options, S3Store,
    client::{Client, Operation},
};
use landfall_test_services::{
    Access, Garage, Moto, Proxy,
    proxy::{self, Fault, Rule},
};
use tokio::{runtime::Handle, task::block_in_place};

use crate::support::{append, client, create, finish, options, pattern};

const HOUR: Duration = Duration::from_secs(3600);
/// Uploads of each kind.
const UPLOADS: usize = 5;

/// Lists due uploads, as a sweep does.
async fn sweep(
    store: &S3Store,
    lifetimes: Lifetimes,
    due: &(dyn Fn(&Snapshot) -> Option<SystemTime> + Send + Sync),
) -> (BTreeSet<UploadId>, Option<SystemTime>) {
    let claim = store.claim_sweep(HOUR).await.unwrap();
    assert_eq!(claim, SweepClaim::Granted);
    let filter = DueFilter {
        all: false,
        dry_run: false,
        lifetimes,
        due,
    };
    let mut listed = BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = store.page_due(cursor, 1000, &filter).await.unwrap();
        assert!(page.orphans.is_empty() && page.damaged.is_empty());
        listed.extend(page.uploads.into_iter().map(|one| one.upload.id.clone()));
        cursor = page.next;
        if cursor.is_none() {
            store.finish_sweep(HOUR).await.unwrap();
            return (listed, page.next_due);
        }
    }
}

/// Listing requests and other requests so far.
fn requests(client: &Client) -> (u64, u64) {
    let stats = client.stats();
    let (mut list, mut other) = (0, 0);
    for operation in Operation::ALL {
        let calls = stats.operation(operation.name()).calls;
        match operation {
            Operation::ListObjectsV2 | Operation::ListMultipartUploads => list += calls,
            _ => other += calls,
        }
    }
    (list, other)
}

/// A later sweep examines only changed or due uploads, wherever completed objects are.
#[tokio::test(flavor = "multi_thread")]
async fn later_sweeps_send_no_request_for_an_upload_that_did_not_change() {
    let moto = Moto::shared();
    for template in [None, Some("done/{date}/{id}")] {
        let access = moto.access();
        let mut options = options(&moto.bucket("sweeps"));
        options.key_template = template.map(str::to_owned);
        options.orphan_age = Duration::ZERO;
        options.shared = true;
        let uploader = S3Store::new(client(&access), options.clone()).unwrap();
        let mut running = BTreeSet::new();
        let mut done = BTreeSet::new();
        for number in 0..UPLOADS {
            let bytes = pattern(number as u64, 6 << 20);
            // One part and an incomplete part.
            let upload = create(&uploader, 9 << 20).await;
            append(&uploader, &upload.id, 1, &bytes).await;
            running.insert(upload.id.clone());
            let upload = create(&uploader, 5).await;
            append(&uploader, &upload.id, 1, &Bytes::from_static(b"hello")).await;
            finish(&uploader, &upload, 1).await;
            done.insert(upload.id.clone());
        }
        let sweeper = S3Store::new(client(&access), options.clone()).unwrap();
        let later = SystemTime::now() + HOUR;
        let due = |snapshot: &Snapshot| (!snapshot.is_complete()).then_some(later);
        let all: BTreeSet<_> = running.union(&done).cloned().collect();
        for finished in [None, Some(HOUR)] {
            let lifetimes = Lifetimes {
                unfinished: Some(HOUR),
                finished,
            };
            let before = requests(sweeper.client()).1;
            let (first, _) = sweep(&sweeper, lifetimes, &due).await;
            let examined = requests(sweeper.client()).1 - before;
            // Beside those of the sweep, whether a complete upload is partial is in its description.
            let rest = (all.len() - first.len()) as u64 + 6;
            assert!(examined <= 5 * first.len() as u64 + rest, "{examined}");
            match (finished, template) {
                (None, None) => assert_eq!(first, running),
                // With a template only the description shows that an upload is complete.
                _ => assert_eq!(first, all),
            }
            let next_due = sweep(&sweeper, lifetimes, &due).await.1;
            let before = requests(sweeper.client());
            // The index, the objects, and the multipart uploads are listed.
            let (again, _) = sweep(&sweeper, lifetimes, &due).await;
            let (lists, others) = requests(sweeper.client());
            assert_eq!(lists, before.0 + 3);
            // Those that have changed in the last minutes are examined again.
            assert!(again.is_subset(&first), "{template:?}");
            assert!(others <= before.1 + 4 + 5 * again.len() as u64 + rest);
            let early = later - Duration::from_secs(1);
            let late = later + Duration::from_secs(60);
            assert!(next_due.is_some_and(|due| due > early && due < late));
        }
    }
}

/// A process that starts with a clock that is ahead removes nothing by it: the clock of the service disagrees.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_with_a_wrong_clock_removes_nothing() {
    let moto = Moto::shared();
    for step in [2 * HOUR, 30 * 24 * HOUR] {
        let bucket = moto.bucket("clock");
        let store = S3Store::new(client(&moto.access()), options(&bucket)).unwrap();
        let mut config = Config::new(Composer::join(store.clone()));
        config.lifetimes.unfinished = Some(HOUR);
        let handler = Handler::new(config).unwrap();
        let running = create(&store, 10).await;
        append(&store, &running.id, 1, &Bytes::from_static(b"hello")).await;
        let machine = Arc::new(Mutex::new(Reading {
            wall: SystemTime::now() + step,
            monotonic: HOUR,
        }));
        let shared = machine.clone();
        let clock = RemovalClock::with_source(move || *shared.lock().unwrap());
        let sweeper = handler.sweeper().clock(clock);
        assert_eq!(sweeper.run(|_| {}).await.unwrap().removed, 0, "{step:?}");
    }
}

/// An expired upload is removed, although earlier sweeps examined it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_examined_expires_in_time() {
    let moto = Moto::shared();
    let mut lifetime = Duration::from_secs(4);
    loop {
        let mut options = options(&moto.bucket("expires"));
        options.key_template = Some("{date}/{id}".to_owned());
        let store = S3Store::new(client(&moto.access()), options).unwrap();
        let mut config = Config::new(Composer::join(store.clone()));
        config.lifetimes.unfinished = Some(lifetime);
        let handler = Handler::new(config).unwrap();
        let done = create(&store, 5).await;
        append(&store, &done.id, 1, &Bytes::from_static(b"hello")).await;
        finish(&store, &done, 1).await;
        let created = Instant::now();
        let running = create(&store, 10).await;
        append(&store, &running.id, 1, &Bytes::from_static(b"hello")).await;
        let sweeper = handler.sweeper();
        let removed = async || sweeper.run(|_| {}).await.unwrap().removed;
        let early = [removed().await, removed().await];
        // The service keeps whole seconds. On a slow machine the sweeps are not early.
        if created.elapsed() + Duration::from_secs(1) > lifetime {
            lifetime *= 2;
            continue;
        }
        assert_eq!(early, [0, 0]);
        tokio::time::sleep(lifetime + Duration::from_secs(2)).await;
        assert_eq!(removed().await, 1);
        assert!(store.load(&running.id).await.is_err());
        assert!(store.load(&done.id).await.is_ok());
        return;
    }
}

/// Nodes without shared leases, or `landfall sweep` beside a server.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_skips_what_another_process_has_removed() {
    let (garage, moto) = (Garage::shared(), Moto::shared());
    let garage = (garage.access(), garage.bucket("races"));
    for (access, bucket) in [garage, (moto.access(), moto.bucket("races"))] {
        let node = || {
            let mut options = options(&bucket);
            options.shared = true;
            let mut config = Config::new(Composer::join(
                S3Store::new(client(&access), options).unwrap(),
            ));
            config.lifetimes.unfinished = Some(Duration::ZERO);
            Handler::new(config).unwrap()
        };
        let store = S3Store::new(client(&access), options(&bucket)).unwrap();
        for number in 0..UPLOADS {
            let upload = create(&store, 9 << 20).await;
            append(&store, &upload.id, 1, &pattern(number as u64, 6 << 20)).await;
        }
        // Services keep whole seconds.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let [one, other] = [node(), node()].map(|node| node.sweeper());
        let mut is_first = true;
        let swept = one.run(|_| {
            if std::mem::take(&mut is_first) {
                let other = block_in_place(|| Handle::current().block_on(other.run(|_| {})));
                let other = other.unwrap();
                assert_eq!((other.removed, other.failed), (UPLOADS as u64 - 1, 0));
            }
        });
        let swept = swept.await.unwrap();
        assert_eq!(swept.failed, 0, "{swept:?}");
        assert_eq!((swept.removed, swept.skipped), (1, UPLOADS as u64 - 1));
        let none = store.page(None, 100).await.unwrap();
        assert!(none.uploads.is_empty());
    }
}

/// `landfall sweep` beside a server that keeps an upload in memory: the next sweep of the server forgets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_forgets_what_another_process_has_removed() {
    let moto = Moto::shared();
    let bucket = moto.bucket("forgets");
    let node = || {
        let store = S3Store::new(client(&moto.access()), options(&bucket)).unwrap();
        let mut config = Config::new(Composer::join(store.clone()));
        config.lifetimes.unfinished = Some(Duration::ZERO);
        (store, Handler::new(config).unwrap())
    };
    let [(store, server), (_, command)] = [node(), node()];
    let sweeper = server.sweeper();
    let upload = create(&store, 10).await;
    append(&store, &upload.id, 1, &Bytes::from_static(b"hello")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let snapshot = store.load(&upload.id).await.unwrap();
    store
        .due_index()
        .unwrap()
        .record(&snapshot, Some(SystemTime::now()));
    let swept = command.sweeper().run(|_| {}).await.unwrap();
    assert_eq!((swept.removed, command.stats().expired), (1, 1));
    assert!(
        store.load(&upload.id).await.is_ok(),
        "no longer kept in memory"
    );
    let forgets = async {
        while !matches!(store.load(&upload.id).await, Err(StoreError::NotFound(_))) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = forgets => {}
        // A sweep by a clock of the service that is behind finds nothing due, and is repeated after this interval.
        () = sweeper.run_forever(Duration::from_secs(2)) => unreachable!("sweeps are repeated until dropped"),
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("still kept"),
    }
    assert_eq!(server.stats().expired, 0, "it has removed nothing");
}

/// A node that lists the bucket completes uploads whose bytes are all there, and another one writes first.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_goes_on_when_another_node_writes_an_upload() {
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let mut options = options(&moto.bucket("written"));
    (options.shared, options.conditional_writes) = (true, true);
    let writer = S3Store::new(client(&moto.access()), options.clone()).unwrap();
    let lister = client(&moto.access().through_proxy(&proxy));
    let lister = S3Store::new(lister, options).unwrap();
    let upload = create(&writer, None).await;
    append(&writer, &upload.id, 1, &Bytes::from_static(b"hello")).await;
    let deferrer = writer.capabilities().length_deferrer.unwrap();
    let upload = deferrer.declare_length(&upload, 5, Fence(1)).await.unwrap();
    let rule = Rule::on(proxy::Operation::GetObject)
        .key_ends(".part")
        .once();
    proxy.inject(rule, Fault::Delay(Duration::from_secs(2)));
    let listing = tokio::spawn(async move { lister.page(None, 100).await });
    let is_read = |call: &proxy::Call| {
        call.operation == proxy::Operation::GetObject && call.key.ends_with(".part")
    };
    while !proxy.calls().iter().any(is_read) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut changed = (*upload).clone();
    changed.completion = Completion::Pending;
    writer.save(&changed, Fence(1)).await.unwrap();
    let page = listing.await.unwrap().unwrap();
    assert!(page.damaged.is_empty() && page.orphans.is_empty());
    finish(&writer, &upload, 1).await;
    assert_eq!(writer.load(&upload.id).await.unwrap().offset, 5);
}

async fn claims(access: &Access, mut options: S3Options, conditional: bool) {
    options.shared = true;
    options.conditional_writes = conditional;
    let node = || S3Store::new(client(access), options.clone()).unwrap();
    let [one, other] = [node(), node()];
    let claim = async |store: &S3Store, interval| store.claim_sweep(interval).await.unwrap();
    assert_eq!(claim(&one, HOUR).await, SweepClaim::Granted);
    for _ in 0..2 {
        assert!(matches!(claim(&other, HOUR).await, SweepClaim::Later(_)));
        assert_eq!(claim(&one, HOUR).await, SweepClaim::Granted);
    }
    // The first process dies in its sweep.
    let died = Instant::now();
    while let SweepClaim::Later(wait) = claim(&other, HOUR).await {
        tokio::time::sleep(wait).await;
    }
    let took = died.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    println!("taken over after {took:?}");
    assert!(matches!(claim(&one, HOUR).await, SweepClaim::Later(_)));

    // Between sweeps: the next one was due after a second.
    let second = Duration::from_secs(1);
    other.finish_sweep(second).await.unwrap();
    let ended = Instant::now();
    while let SweepClaim::Later(wait) = claim(&one, HOUR).await {
        tokio::time::sleep(wait).await;
    }
    let took = ended.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    println!("swept next after {took:?}");

    // Without other processes no claim is needed.
    let mut own = options;
    own.shared = false;
    let own = S3Store::new(client(access), own).unwrap();
    assert_eq!(claim(&own, HOUR).await, SweepClaim::Granted);
    assert_eq!(requests(own.client()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_process_sweeps() {
    let (garage, moto) = (Garage::shared(), Moto::shared());
    let bucket = garage.bucket("claims");
    let in_garage = garage.access();
    let without_conditions = claims(&in_garage, options(&bucket), false);
    let bucket = moto.bucket("claims");
    let in_moto = moto.access();
    let with_conditions = claims(&in_moto, options(&bucket), true);
    tokio::join!(without_conditions, with_conditions);
}
