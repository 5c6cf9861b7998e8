//! A node is killed while it writes, and another one takes over at once.

use std::{ops::Range, thread, time::Duration};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Store as _, StoreError},
    upload::{Upload, UploadId, UploadKind},
};
use landfall_objects::Cloud as _;
use landfall_s3::{
    S3Options, S3Store,
    client::{Client, ObjectRef},
};
use landfall_test_services::{
    Access, Garage, Moto, Proxy, count_kills,
    proxy::{Fault, Operation, Rule},
};

use crate::support::{
    MIB, append, assert_same, client, create, finish, options, pattern, pieces, read,
};

const KIB: usize = 1024;

/// Writes on a thread with a separate runtime, which is stopped after `time`.
///
/// As with a killed process, its sockets close, whatever is in flight.
async fn write_until_killed(
    access: &Access,
    options: &S3Options,
    id: &UploadId,
    fence: u64,
    bytes: &Bytes,
    time: Duration,
) {
    let (access, options, id, bytes) = (access.clone(), options.clone(), id.clone(), bytes.clone());
    let victim = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let store = S3Store::new(client(&access), options).unwrap();
            let Ok((snapshot, mut append)) = store.resume(&id, Fence(fence)).await else {
                return;
            };
            let rest = bytes.slice(usize::try_from(snapshot.offset).unwrap()..);
            for piece in pieces(&rest) {
                if append.write(&mut vec![piece]).await.is_err() {
                    return;
                }
            }
            if append.commit().await.is_ok()
                && let Some(finisher) = store.capabilities().finisher
            {
                let _ = finisher.finish(&snapshot.upload, Fence(fence)).await;
            }
        });
        thread::sleep(time);
        runtime.shutdown_background();
    });
    tokio::task::spawn_blocking(move || victim.join().unwrap())
        .await
        .unwrap();
}

/// `LANDFALL_LONG=1` kills in 200 rounds.
fn rounds() -> u64 {
    let is_long = std::env::var("LANDFALL_LONG").is_ok_and(|long| long == "1");
    if is_long { 200 } else { 6 }
}

/// Kills nodes at every stage of an upload; another node finishes it at once.
async fn completes_after_kills(access: &Access, options: S3Options, rounds: Range<u64>) {
    let bytes = pattern(5, 15 * MIB + 70 * KIB);
    for round in rounds {
        let store = S3Store::new(client(access), options.clone()).unwrap();
        let upload = create(&store, bytes.len() as u64).await;
        let id = &upload.id;
        for (fence, spread) in [(1, 37), (2, 61)] {
            let time = Duration::from_millis(3 + round * spread % 190);
            write_until_killed(access, &options, id, fence, &bytes, time).await;
        }
        count_kills(2);
        let next = S3Store::new(client(access), options.clone()).unwrap();
        let (snapshot, mut append) = next.resume(id, Fence(10)).await.unwrap();
        let rest = bytes.slice(usize::try_from(snapshot.offset).unwrap()..);
        append.write(&mut pieces(&rest)).await.unwrap();
        assert_eq!(append.commit().await.unwrap(), bytes.len() as u64);
        drop(append);
        let finished = next
            .capabilities()
            .finisher
            .unwrap()
            .finish(&upload, Fence(10))
            .await;
        assert!(finished.is_ok(), "round {round}: {finished:?}");
        assert_same(&read(&next, &upload).await, &bytes);
        let terminator = next.capabilities().terminator.unwrap();
        assert!(terminator.terminate(&upload, Fence(20)).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_completes_after_kills_and_quick_takeovers_on_garage() {
    let garage = Garage::shared();
    let mut options = options(&garage.bucket("quick"));
    options.conditional_writes = false;
    options.shared = true;
    completes_after_kills(&garage.access(), options, 0..rounds()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_completes_after_kills_and_quick_restarts_on_garage() {
    let garage = Garage::shared();
    let mut options = options(&garage.bucket("restart"));
    options.conditional_writes = false;
    completes_after_kills(&garage.access(), options, 0..rounds()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_completes_after_kills_and_quick_takeovers_on_moto() {
    for round in (0..rounds()).step_by(20) {
        // moto becomes slow after many broken connections, so replace it now and then.
        let moto = Moto::start();
        let mut options = options(&moto.bucket("quick"));
        options.shared = true;
        let rounds = round..rounds().min(round + 20);
        completes_after_kills(&moto.access(), options, rounds).await;
    }
}

/// The numbers of the parts that were sent.
fn numbers(proxy: &Proxy) -> Vec<u32> {
    let calls = proxy.calls().into_iter();
    let parts = calls.filter(|call| call.operation == Operation::UploadPart);
    parts
        .map(|call| call.parameter("partNumber").unwrap().parse().unwrap())
        .collect()
}

/// Garage cannot complete an upload of which two processes sent the same part at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_killed_node_are_never_sent_under_the_same_number() {
    let garage = Garage::shared();
    let proxy = Proxy::start(&garage.access());
    let access = garage.access().through_proxy(&proxy);
    let bytes = pattern(6, 12 * MIB);
    for is_shared in [true, false] {
        let mut options = options(&garage.bucket("numbers"));
        options.conditional_writes = false;
        options.shared = is_shared;
        let first = S3Store::new(client(&access), options.clone()).unwrap();
        let upload = create(&first, bytes.len() as u64).await;
        let rule = Rule::on(Operation::UploadPart).once();
        proxy.inject(rule, Fault::Delay(Duration::from_secs(2)));
        let (_, mut older) = first.resume(&upload.id, Fence(1)).await.unwrap();
        older
            .write(&mut pieces(&bytes.slice(..6 * MIB)))
            .await
            .unwrap();
        while numbers(&proxy).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The second node takes over while the first part is in flight.
        let second = S3Store::new(client(&access), options.clone()).unwrap();
        let half = append(&second, &upload.id, 2, &bytes.slice(..6 * MIB)).await;
        assert_eq!(half, 6 * MIB as u64);
        let sent = numbers(&proxy);
        assert!(sent[1] > sent[0] + 1, "{sent:?}");
        if is_shared {
            // The second node has ended its request, so a third one may reuse its numbers.
            let third = S3Store::new(client(&access), options.clone()).unwrap();
            append(&third, &upload.id, 3, &bytes.slice(6 * MIB..)).await;
            let all = numbers(&proxy);
            assert_eq!(
                all[2..],
                [sent[1] + 1, sent[1] + 2],
                "{}",
                proxy.transcript()
            );
            finish(&third, &upload, 3).await;
        } else {
            append(&second, &upload.id, 3, &bytes.slice(6 * MIB..)).await;
            let all = numbers(&proxy);
            assert_eq!(
                all[2..],
                [sent[1] + 1, sent[1] + 2],
                "{}",
                proxy.transcript()
            );
            finish(&second, &upload, 3).await;
        }
        drop(older);
        assert_same(&read(&second, &upload).await, &bytes);
        proxy.revive();
        proxy.forget();
    }
}

/// The service lists parts and rejects them.
#[tokio::test(flavor = "multi_thread")]
async fn upload_with_rejected_parts_is_damaged_and_not_completed_again() {
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let access = moto.access().through_proxy(&proxy);
    for is_shared in [true, false] {
        let mut options = options(&moto.bucket("refused"));
        options.shared = is_shared;
        let store = S3Store::new(client(&access), options.clone()).unwrap();
        let bytes = pattern(7, 6 * MIB);
        let upload = create(&store, bytes.len() as u64).await;
        let completing = || Rule::on(Operation::CompleteMultipartUpload);
        let refused = Fault::Answer {
            status: 400,
            code: "InvalidPart",
        };
        // A transient error is not a damage.
        proxy.inject(completing().times(2), refused);
        append(&store, &upload.id, 1, &bytes).await;
        finish(&store, &upload, 1).await;
        assert_same(&read(&store, &upload).await, &bytes);

        let upload = create(&store, bytes.len() as u64).await;
        proxy.inject(completing(), refused);
        append(&store, &upload.id, 1, &bytes).await;
        let finished = store
            .capabilities()
            .finisher
            .unwrap()
            .finish(&upload, Fence(1))
            .await;
        assert_damaged(finished);
        let calls = proxy.count(Operation::CompleteMultipartUpload);
        let next = S3Store::new(client(&access), options).unwrap();
        assert_damaged(next.load(&upload.id).await);
        assert_damaged(next.resume(&upload.id, Fence(2)).await.map(drop));
        assert_eq!(proxy.count(Operation::CompleteMultipartUpload), calls);
        let terminator = next.capabilities().terminator.unwrap();
        assert!(terminator.terminate(&upload, Fence(3)).await.unwrap());
        proxy.revive();
    }
}

/// While one node completes an upload, or was killed while it did, Garage may show another one neither parts nor object.
#[tokio::test(flavor = "multi_thread")]
async fn the_offset_does_not_fall_while_another_node_completes_the_upload() {
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let access = moto.access().through_proxy(&proxy);
    let mut options = options(&moto.bucket("hidden"));
    (options.shared, options.conditional_writes) = (true, false);
    let load = async |options: &S3Options, id: &UploadId, hidden: usize| {
        proxy.revive();
        let rule = Rule::on(Operation::ListParts).times(hidden);
        proxy.inject(rule, Fault::NoParts);
        let reader = S3Store::new(client(&access), options.clone()).unwrap();
        reader.load(id).await.map(|found| found.offset)
    };
    let lens = [20 * KIB, 5 * MIB, 6 * MIB].into_iter();
    for (len, is_safe) in lens.flat_map(|len| [(len, true), (len, false)]) {
        options.safe_overwrites = is_safe;
        let bytes = pattern(8, len + 1);
        let writer = S3Store::new(client(&access), options.clone()).unwrap();
        let upload = create(&writer, bytes.len() as u64).await;
        append(&writer, &upload.id, 1, &bytes.slice(..len)).await;
        assert_eq!(load(&options, &upload.id, 2).await.unwrap(), len as u64);
        append(&writer, &upload.id, 1, &bytes.slice(len..)).await;
        let rule = Rule::on(Operation::CompleteMultipartUpload).once();
        proxy.inject(rule, Fault::KillAfter);
        let finisher = writer.capabilities().finisher.unwrap();
        finisher.finish(&upload, Fence(1)).await.unwrap_err();
        match load(&options, &upload.id, usize::MAX).await {
            Ok(offset) => assert_eq!((offset, len), (len as u64, 20 * KIB)),
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}"),
        }
        // Its incomplete part was read before, and Garage lists no parts once.
        let hidden = usize::from(!is_safe);
        assert_eq!(
            load(&options, &upload.id, hidden).await.unwrap(),
            bytes.len() as u64
        );
        let part = format!("up/{}.part", upload.id.as_str().split('+').next().unwrap());
        let part = ObjectRef::new(&options.bucket, part);
        let kept = client(&moto.access()).head_object(&part).await;
        assert!(kept.is_err(), "the incomplete part is still there");
        // Only where the service may hide parts for longer, the object is asked for.
        for hidden in [0, 1, 2, usize::MAX].into_iter().filter(|_| !is_safe) {
            let found = load(&options, &upload.id, hidden).await;
            assert_eq!(found.unwrap(), bytes.len() as u64, "{hidden}");
        }
    }
}

/// Garage may list no parts of an upload that is complete. Nothing of it was concatenated then, and a final upload without its
/// bytes was reported as complete.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_seems_to_be_empty_is_not_concatenated() {
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let access = moto.access().through_proxy(&proxy);
    let mut options = options(&moto.bucket("seems-empty"));
    options.shared = true;
    let store = || S3Store::new(client(&access), options.clone()).unwrap();
    let (bytes, mut parts) = (pattern(13, 20 * KIB), Vec::new());
    for _ in 0..2 {
        let part = create(&store(), bytes.len() as u64).await;
        append(&store(), &part.id, 1, &bytes).await;
        finish(&store(), &part, 1).await;
        parts.push(part);
    }
    let mut target = Upload::new(UploadId::random(), Some(2 * bytes.len() as u64));
    target.kind = UploadKind::Final {
        parts: parts.iter().map(|part| part.id.clone()).collect(),
        header: "final;a b".into(),
        concatenated: false,
    };
    let store = store();
    store.assign_id(&mut target).await.unwrap();
    let target = store.create(target).await.unwrap();
    let concatenator = store.capabilities().concatenator.unwrap();
    proxy.inject(Rule::on(Operation::ListParts).once(), Fault::NoParts);
    let result = concatenator.concatenate(&target, &parts, Fence(1)).await;
    assert!(
        matches!(result, Err(StoreError::Unavailable(_))),
        "{result:?}"
    );
    let sum = concatenator.concatenate(&target, &parts, Fence(1)).await;
    assert_eq!(sum.unwrap(), 2 * bytes.len() as u64);
    let whole = [&*bytes, &*bytes].concat();
    assert_same(&read(&store, &target).await, &whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_repeated_if_another_node_completes_the_upload_meanwhile() {
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let access = moto.access().through_proxy(&proxy);
    let mut options = options(&moto.bucket("meanwhile"));
    options.shared = true;
    let node = || S3Store::new(client(&access), options.clone()).unwrap();
    let bytes = pattern(12, 20 * KIB);
    let upload = create(&node(), bytes.len() as u64).await;
    append(&node(), &upload.id, 1, &bytes.slice(..10 * KIB)).await;
    let late = node();
    let (_, mut last) = late.resume(&upload.id, Fence(2)).await.unwrap();
    let rest = bytes.slice(10 * KIB..);
    last.write(&mut pieces(&rest)).await.unwrap();
    let (status, code) = (404, "NoSuchUpload");
    let rule = Rule::on(Operation::UploadPart).once();
    proxy.inject(rule, Fault::Answer { status, code });
    let error = last.commit().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    drop(last);
    append(&late, &upload.id, 3, &rest).await;
    finish(&late, &upload, 3).await;
    assert_same(&read(&late, &upload).await, &bytes);
}

/// A cluster of Garage may lose an object, for a while or for good, if the connection of the request that writes it
/// breaks. `true`: its copy is written; the write had its effect; the service loses the object after it was read.
#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_part_that_the_service_loses_has_a_copy() {
    const LEN: usize = 20 * KIB;
    const KILLS: [(bool, bool, bool); 6] = [
        (true, true, true),
        (false, false, true),
        // Only the copy is there now.
        (true, true, false),
        (false, true, true),
        (false, true, false),
        (true, false, false),
    ];
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let access = moto.access().through_proxy(&proxy);
    let direct = client(&moto.access());
    for (is_shared, start) in [(true, 0), (false, 5 * MIB)] {
        let mut options = options(&moto.bucket("lost-part"));
        (options.shared, options.safe_overwrites) = (is_shared, false);
        let node = || S3Store::new(client(&access), options.clone()).unwrap();
        let bytes = pattern(11, start + (2 * KILLS.len() + 3) * LEN);
        let mut writer = node();
        let upload = create(&writer, bytes.len() as u64).await;
        let id = &upload.id;
        if start > 0 {
            append(&writer, id, 1, &bytes.slice(..start + LEN)).await;
        }
        let mut seen = if start > 0 { start + LEN } else { 0 };
        for ((of_copy, has_effect, is_lost), fence) in KILLS.into_iter().zip(1..) {
            let before = leftovers(&direct, &options).await;
            let rule = Rule::on(Operation::PutObject);
            let rule = rule.matching(move |call| match of_copy {
                true => call.key.contains("/parts/"),
                false => call.key.ends_with(".part"),
            });
            let fault = if has_effect {
                Fault::KillAfter
            } else {
                Fault::Kill
            };
            proxy.inject(rule.once(), fault);
            let (_, mut killed) = writer.resume(id, Fence(2 * fence)).await.unwrap();
            let piece = bytes.slice(seen..seen + LEN);
            killed.write(&mut pieces(&piece)).await.unwrap();
            killed.commit().await.unwrap_err();
            drop((killed, writer));
            proxy.revive();

            let found = node().load(id).await.unwrap();
            if found.is_settled {
                assert!(found.offset >= seen as u64, "{} < {seen}", found.offset);
                seen = usize::try_from(found.offset).unwrap();
            }
            // A node that is alone has written it again.
            if is_lost && !found.is_settled {
                // The object that was being written.
                let found = leftovers(&direct, &options).await.into_iter();
                let lost = found.filter(|object| match of_copy {
                    true => !before.contains(object),
                    false => object.0.ends_with(".part"),
                });
                for (key, _) in lost {
                    let object = ObjectRef::new(&options.bucket, key);
                    direct.delete_object(&object).await.unwrap();
                }
            }
            writer = node();
            let (resumed, _) = writer.resume(id, Fence(2 * fence + 1)).await.unwrap();
            assert!(resumed.is_settled);
            assert!(resumed.offset >= seen as u64, "{} < {seen}", resumed.offset);
            seen = usize::try_from(resumed.offset).unwrap();
            let read = node().load(id).await.unwrap();
            assert_eq!((read.is_settled, read.offset), (true, resumed.offset));
        }
        let middle = seen + LEN;
        append(&writer, id, 20, &bytes.slice(seen..middle)).await;
        append(&node(), id, 21, &bytes.slice(middle..)).await;
        finish(&node(), &upload, 22).await;
        assert_same(&read(&writer, &upload).await, &bytes);
        assert_eq!(leftovers(&direct, &options).await, []);

        let removed = create(&writer, bytes.len() as u64).await;
        append(&writer, &removed.id, 1, &bytes.slice(..LEN)).await;
        assert_eq!(leftovers(&direct, &options).await.len(), 2);
        let terminator = writer.capabilities().terminator.unwrap();
        assert!(terminator.terminate(&removed, Fence(2)).await.unwrap());
        assert_eq!(leftovers(&direct, &options).await, []);
    }
}

/// Returns the keys and tags of incomplete parts and their copies.
async fn leftovers(client: &Client, options: &S3Options) -> Vec<(String, String)> {
    let page = client.list_objects(&options.bucket, "up/", None, 1000);
    let objects = page.await.unwrap().objects.into_iter();
    let found = objects.map(|object| (object.key, object.etag));
    found
        .filter(|(key, _)| key.ends_with(".part") || key.contains("/parts/"))
        .collect()
}

/// Garage lists a part whose sender was killed, and never completes an upload with it (`400 InvalidPart`). It may have the
/// first bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_last_part_that_is_refused_does_not_count() {
    let moto = Moto::shared();
    let proxy = Proxy::start(&moto.access());
    let access = moto.access().through_proxy(&proxy);
    for (is_shared, len) in [
        (true, 20 * KIB),
        (true, 6 * MIB),
        (false, 20 * KIB),
        (true, 0),
        (false, 0),
    ] {
        let mut options = options(&moto.bucket("refused-last"));
        options.shared = is_shared;
        let bytes = pattern(9, len + KIB);
        let killed = S3Store::new(client(&access), options.clone()).unwrap();
        let upload = create(&killed, bytes.len() as u64).await;
        if len > 0 {
            append(&killed, &upload.id, 1, &bytes.slice(..len)).await;
        }
        // The last part arrives, and nothing after it.
        let rule = Rule::on(Operation::UploadPart).once();
        proxy.inject(rule, Fault::KillAfter);
        let (_, mut last) = killed.resume(&upload.id, Fence(2)).await.unwrap();
        last.write(&mut pieces(&bytes.slice(len..))).await.unwrap();
        last.commit().await.unwrap_err();
        drop((last, killed));
        proxy.revive();

        let number = numbers(&proxy).pop().unwrap();
        let refused = Rule::on(Operation::CompleteMultipartUpload).times(5);
        let code = "InvalidPart";
        proxy.inject(refused, Fault::Answer { status: 400, code });
        let next = S3Store::new(client(&access), options.clone()).unwrap();
        // A client repeats a request that gets a 503.
        let loaded = match next.load(&upload.id).await {
            Err(StoreError::Unavailable(_)) => next.load(&upload.id).await,
            loaded => loaded,
        };
        assert_eq!(loaded.unwrap().offset, len as u64);
        let calls = proxy.count(Operation::CompleteMultipartUpload);
        assert_eq!(calls, 5, "refused for a while");
        let other = S3Store::new(client(&access), options.clone()).unwrap();
        assert_eq!(other.load(&upload.id).await.unwrap().offset, len as u64);
        append(&other, &upload.id, 4, &bytes.slice(len..)).await;
        assert!(numbers(&proxy).pop().unwrap() > number);
        finish(&other, &upload, 4).await;
        assert_same(&read(&other, &upload).await, &bytes);
        proxy.revive();
        proxy.forget();
    }
}

fn assert_damaged<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::Damaged { .. })),
        "{result:?}"
    );
}
