//! Part sizes, number of calls, memory.

use std::time::{Duration, Instant};

use landfall::{
    lease::Fence,
    store::{Store as _, StoreError},
};
use landfall_objects::Cloud as _;
use landfall_s3::{S3Options, S3Store};
use landfall_test_services::{
    Garage, Proxy,
    proxy::{Fault, Operation, Rule},
};

use crate::support::{
    MIB, append, assert_same, client, create, finish, options, pattern, pieces, read,
};

const KIB: usize = 1024;

fn tiny_parts(stem: &str, adjust: impl Fn(&mut S3Options)) -> S3Options {
    let mut options = options(&Garage::shared().bucket(stem));
    options.min_part = 64 << 10;
    options.part_size = 64 << 10;
    adjust(&mut options);
    options
}

fn store(options: S3Options) -> S3Store {
    S3Store::new(client(&Garage::shared().access()), options).unwrap()
}

async fn part_sizes(store: &S3Store, id: &str) -> Vec<u64> {
    let (object, multipart) = id.rsplit_once('+').unwrap();
    let object_ref =
        landfall_s3::client::ObjectRef::new(&store.options().bucket, format!("up/{object}"));
    let parts = store.client().list_parts(&object_ref, multipart).await;
    parts.unwrap().iter().map(|part| part.size).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_equal_and_large_enough_for_the_length() {
    let options = tiny_parts("equal", |options| options.max_parts = 10);
    let store = store(options);
    let bytes = pattern(1, 1900 * KIB + 5);
    let upload = create(&store, bytes.len() as u64).await;
    let mut start = 0;
    for (fence, end) in (1..).zip([
        10,
        100 * KIB,
        700 * KIB,
        701 * KIB,
        1500 * KIB,
        bytes.len() - 1,
    ]) {
        append(&store, &upload.id, fence, &bytes.slice(start..end)).await;
        start = end;
    }
    let sizes = part_sizes(&store, upload.id.as_str()).await;
    assert!(sizes.windows(2).all(|pair| pair[0] == pair[1]), "{sizes:?}");
    append(&store, &upload.id, 99, &bytes.slice(start..)).await;
    assert_same(&read(&store, &upload).await, &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_grow_while_the_length_is_unknown() {
    let options = tiny_parts("grow", |options| options.max_parts = 20);
    let first = store(options.clone());
    // 20 parts of 64 KiB would be 1,280 KiB.
    let bytes = pattern(2, 6 * MIB);
    let upload = create(&first, None).await;
    append(&first, &upload.id, 1, &bytes.slice(..2 * MIB)).await;
    let second = store(options);
    append(&second, &upload.id, 2, &bytes.slice(2 * MIB..)).await;
    let deferrer = second.capabilities().length_deferrer.unwrap();
    let upload = deferrer
        .declare_length(&upload, bytes.len() as u64, Fence(3))
        .await
        .unwrap();
    finish(&second, &upload, 3).await;
    assert_same(&read(&second, &upload).await, &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_too_large_is_rejected_and_received_bytes_stay() {
    let options = tiny_parts("large", |options| {
        options.max_parts = 4;
        options.max_part = 128 << 10;
    });
    let store = store(options);
    assert_eq!(store.max_size(), 512 << 10);
    let mut upload =
        landfall::upload::Upload::new(landfall::upload::UploadId::random(), Some(512 * 1024 + 1));
    let refused = store.assign_id(&mut upload).await;
    assert!(
        matches!(refused, Err(StoreError::TooLarge { limit: 524_288 })),
        "{refused:?}"
    );
    // With an unknown length: as much as fits.
    let bytes = pattern(3, 700 * KIB);
    let upload = create(&store, None).await;
    let (_, mut append) = store.resume(&upload.id, Fence(1)).await.unwrap();
    let refused = append.write(&mut pieces(&bytes)).await;
    assert!(
        matches!(refused, Err(StoreError::TooLarge { .. })),
        "{refused:?}"
    );
    drop(append);
    assert!(store.load(&upload.id).await.unwrap().offset >= 128 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_parts_than_one_listing_page() {
    let options = tiny_parts("pages", |options| {
        options.min_part = 1024;
        options.part_size = 1024;
    });
    let first = store(options.clone());
    let bytes = pattern(4, 1100 * KIB);
    let upload = create(&first, bytes.len() as u64).await;
    append(&first, &upload.id, 1, &bytes.slice(..1050 * KIB + 3)).await;
    let second = store(options);
    assert_eq!(
        second.load(&upload.id).await.unwrap().offset,
        1050 * 1024 + 3
    );
    append(&second, &upload.id, 2, &bytes.slice(1050 * KIB + 3..)).await;
    assert_same(&read(&second, &upload).await, &bytes);
}

/// Counts the calls of a client's requests.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_made_twice() {
    let access = Garage::shared().access();
    let proxy = Proxy::start(&access);
    let options = options(&Garage::shared().bucket("calls"));
    let store = S3Store::new(client(&access.through_proxy(&proxy)), options).unwrap();
    let bytes = pattern(5, 40 * MIB);

    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes).await;
    finish(&store, &upload, 1).await;
    assert_eq!(proxy.count(Operation::UploadPart), 8);
    assert_eq!(proxy.calls().len(), 8 + 4, "{}", proxy.transcript());

    // 2,000,000 bytes per request: each also writes one incomplete part.
    let before = proxy.calls().len();
    let upload = create(&store, bytes.len() as u64).await;
    for (fence, start) in (1..).zip((0..bytes.len()).step_by(2_000_000)) {
        let end = bytes.len().min(start + 2_000_000);
        append(&store, &upload.id, fence, &bytes.slice(start..end)).await;
    }
    finish(&store, &upload, 21).await;
    let calls = proxy.calls().len() - before;
    assert!(calls <= 21 + 8 + 6, "{calls} calls: {}", proxy.transcript());
    assert_same(&read(&store, &upload).await, &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_do_not_starve_a_fast_one() {
    let mut options = options(&Garage::shared().bucket("slow"));
    options.memory = 16 << 20;
    options.part_size = 5 << 20;
    let store = store(options);
    // 30 clients send 1 MiB and then stop: twice the memory budget.
    let slow_bytes = pattern(6, 6 * MIB);
    let mut slow = Vec::new();
    for _ in 0..30 {
        let upload = create(&store, slow_bytes.len() as u64).await;
        let (_, mut append) = store.resume(&upload.id, Fence(1)).await.unwrap();
        append
            .write(&mut pieces(&slow_bytes.slice(..MIB)))
            .await
            .unwrap();
        slow.push((upload, append));
    }
    let bytes = pattern(7, 60 * MIB);
    let started = Instant::now();
    let fast = create(&store, bytes.len() as u64).await;
    append(&store, &fast.id, 1, &bytes).await;
    finish(&store, &fast, 1).await;
    println!("60 MiB with 30 idle uploads: {:?}", started.elapsed());
    let stats = store.stats();
    assert!(stats.memory_used <= stats.memory_limit);
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_same(&read(&store, &fast).await, &bytes);
    // Then all of them send the rest at the same time.
    let mut tasks = tokio::task::JoinSet::new();
    for (upload, mut append) in slow {
        let (store, bytes) = (store.clone(), slow_bytes.clone());
        tasks.spawn(async move {
            append
                .write(&mut pieces(&bytes.slice(MIB..)))
                .await
                .unwrap();
            assert_eq!(append.commit().await.unwrap(), bytes.len() as u64);
            drop(append);
            finish(&store, &upload, 1).await;
            assert_same(&read(&store, &upload).await, &bytes);
        });
    }
    tasks.join_all().await;
    assert_eq!(store.stats().memory_used, 0);
    assert_eq!(store.stats().parts_in_flight, 0);
}

/// The costs of several nodes in docs/scaling.md.
#[tokio::test(flavor = "multi_thread")]
async fn shared_bucket_costs_as_documented() {
    let moto = landfall_test_services::Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let mut options = options(&moto.bucket("costs"));
    options.shared = true;
    options.conditional_writes = true;
    let node = || {
        S3Store::new(
            client(&moto.access().through_proxy(&proxy)),
            options.clone(),
        )
        .unwrap()
    };
    let (one, other) = (node(), node());
    let bytes = pattern(8, 30 * KIB);
    let count = || proxy.calls().len();

    let at = count();
    let upload = create(&one, bytes.len() as u64).await;
    assert_eq!(count() - at, 2, "to create: {}", proxy.transcript());
    let at = count();
    append(&one, &upload.id, 1001, &bytes.slice(..10 * KIB)).await;
    assert_eq!(
        count() - at,
        4 + 2,
        "a node's first request: {}",
        proxy.transcript()
    );
    let at = count();
    append(&one, &upload.id, 1002, &bytes.slice(10 * KIB..20 * KIB)).await;
    assert_eq!(count() - at, 2, "its next one: {}", proxy.transcript());
    let at = count();
    append(&other, &upload.id, 1003, &bytes.slice(20 * KIB..25 * KIB)).await;
    // The incomplete part of the other node is read again.
    assert_eq!(
        count() - at,
        4 + 2 + 1,
        "another node's: {}",
        proxy.transcript()
    );
    let at = count();
    one.load(&upload.id).await.unwrap();
    assert_eq!(
        count() - at,
        3,
        "to ask for the offset: {}",
        proxy.transcript()
    );
}

/// A mark of unverified bytes must not apply to the bytes of a later request.
///
/// A request with a checksum is dropped after its bytes were marked as unverified in the
/// description, and before a part contained any of them.
#[tokio::test(flavor = "multi_thread")]
async fn request_dropped_before_its_first_part_leaves_no_unverified_mark() {
    let access = Garage::shared().access();
    let proxy = Proxy::start(&access);
    let options = tiny_parts("dropped", |options| options.concurrent_parts = 1);
    let store = S3Store::new(client(&access.through_proxy(&proxy)), options.clone()).unwrap();
    let bytes = pattern(9, 300 * KIB);
    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes.slice(..10 * KIB)).await;

    // Another upload occupies the only slot meanwhile.
    let other = create(&store, None).await;
    let rule = Rule::on(Operation::UploadPart).once();
    proxy.inject(rule, Fault::Delay(Duration::from_secs(2)));
    let (_, mut slow) = store.resume(&other.id, Fence(1)).await.unwrap();
    slow.write(&mut pieces(&bytes.slice(..64 * KIB)))
        .await
        .unwrap();
    let (_, mut held) = store.resume(&upload.id, Fence(2)).await.unwrap();
    held.begin_unverified().await.unwrap();
    let mut bad = pieces(&pattern(10, 100 * KIB));
    let dropped = tokio::time::timeout(Duration::from_millis(800), held.write(&mut bad)).await;
    assert!(dropped.is_err(), "it had to wait: {}", proxy.transcript());
    drop(held);

    let end = append(&store, &upload.id, 3, &bytes.slice(10 * KIB..50 * KIB)).await;
    let next = S3Store::new(client(&access), options).unwrap();
    let offset = next.load(&upload.id).await.unwrap().offset;
    assert_eq!(offset, end, "{}", proxy.transcript());
    append(&next, &upload.id, 9, &bytes.slice(50 * KIB..)).await;
    assert_same(&read(&next, &upload).await, &bytes);
}

/// Far more concurrent uploads than the memory has parts for, and a slow S3.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_take_turns_where_memory_is_scarce() {
    let garage = Garage::shared();
    let proxy = Proxy::start(&garage.access());
    let mut options = options(&garage.bucket("scarce"));
    options.memory = 16 << 20;
    options.part_size = 8 << 20;
    let store = S3Store::new(client(&garage.access().through_proxy(&proxy)), options).unwrap();
    let rule = Rule::on(Operation::UploadPart);
    proxy.inject(rule, Fault::Delay(Duration::from_millis(500)));
    let bytes = pattern(8, 9 * MIB);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (store, bytes) = (store.clone(), bytes.clone());
        let upload = create(&store, bytes.len() as u64).await;
        tasks.spawn(async move {
            append(&store, &upload.id, 1, &bytes).await;
            finish(&store, &upload, 1).await;
            assert_same(&read(&store, &upload).await, &bytes);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    // No bytes were moved to `.part` and read again repeatedly.
    let rests = proxy.calls();
    let rests = rests.iter().filter(|call| call.key.ends_with(".part"));
    let puts = rests.filter(|call| call.operation == Operation::PutObject);
    assert!(puts.count() < 60, "{}", proxy.transcript());
    assert_eq!(store.stats().memory_used, 0);
}
