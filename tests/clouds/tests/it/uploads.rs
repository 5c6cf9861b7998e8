//! Uploads of every kind: sizes, ids, deferred lengths, concatenations, ranges, unverified bytes, many at once.

use std::sync::Arc;

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Store, StoreError},
    upload::{Completion, Upload, UploadId, UploadKind},
};
use landfall_objects::{Cloud as _, Condition, ObjectHeaders, ObjectRef, PartCondition};
use landfall_test_clouds::{
    KIB, Service, append, assert_same, client, create, finish, on_each_cloud, options, pattern,
    pieces, read, store,
};

async fn sizes_from_none_to_many_parts(service: &impl Service) {
    let bucket = service.bucket("sizes");
    let store = store(service, options(&bucket));
    for len in [
        0,
        1,
        64 * KIB - 1,
        64 * KIB,
        64 * KIB + 1,
        33 * 64 * KIB + 5,
    ] {
        let id = format!("size-{len}");
        let bytes = pattern(len as u64, len);
        let upload = create(&store, &id, len as u64).await;
        assert_eq!(append(&store, &upload.id, 1, &bytes).await, len as u64);
        finish(&store, &upload, 1).await;
        let fresh = landfall_test_clouds::store(service, options(&bucket));
        let snapshot = fresh.load(&upload.id).await.unwrap();
        assert_eq!(snapshot.offset, len as u64, "{id}");
        assert_same(&read(&fresh, &snapshot.upload, 0..len as u64).await, &bytes);
        let terminator = fresh.capabilities().terminator.unwrap();
        assert!(terminator.terminate(&upload, Fence(2)).await.unwrap());
        assert!(!terminator.terminate(&upload, Fence(3)).await.unwrap());
    }
    let left = client(service)
        .list_objects(&bucket, "", None, 100)
        .await
        .unwrap();
    assert!(left.objects.is_empty(), "{left:?}");
}

async fn ids_that_tusd_mixes_up_stay_apart(service: &impl Service) {
    let bucket = service.bucket("ids");
    let store = store(service, options(&bucket));
    let ids = ["a", "a_10", "a_x", "a_0x", "a/b", "a_b_c", "ab", "a+b"];
    let mut uploads = Vec::new();
    for (seed, id) in ids.iter().enumerate() {
        uploads.push(create(&store, id, 200_000).await);
        let bytes = pattern(seed as u64, 200_000);
        append(&store, &uploads[seed].id, 1, &bytes.slice(..150_000)).await;
    }
    let next = landfall_test_clouds::store(service, options(&bucket));
    for (seed, upload) in uploads.iter().enumerate() {
        let snapshot = next.load(&upload.id).await.unwrap();
        assert_eq!(snapshot.offset, 150_000, "{}", upload.id);
        let bytes = pattern(seed as u64, 200_000);
        append(&next, &upload.id, 2, &bytes.slice(150_000..)).await;
        finish(&next, upload, 2).await;
    }
    for (seed, upload) in uploads.iter().enumerate() {
        let bytes = pattern(seed as u64, 200_000);
        assert_same(&read(&next, upload, 0..200_000).await, &bytes);
        let terminator = next.capabilities().terminator.unwrap();
        terminator.terminate(upload, Fence(3)).await.unwrap();
        for later in &uploads[seed + 1..] {
            assert_eq!(next.load(&later.id).await.unwrap().offset, 200_000);
        }
    }
}

async fn a_range_of_a_file_is_read(service: &impl Service) {
    let store = store(service, options(&service.bucket("range")));
    let bytes = pattern(3, 300_000);
    let upload = create(&store, "range", 300_000).await;
    append(&store, &upload.id, 1, &bytes).await;
    finish(&store, &upload, 1).await;
    for range in [0..1, 65_535..65_537, 123_456..299_999, 299_999..300_000] {
        let got = read(&store, &upload, range.clone()).await;
        let wanted = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        assert_same(&got, &bytes[wanted]);
    }
}

async fn a_length_may_be_declared_late(service: &impl Service) {
    let bucket = service.bucket("defer");
    let store = store(service, options(&bucket));
    let bytes = pattern(4, 200_000);
    let upload = create(&store, "defer", None).await;
    append(&store, &upload.id, 1, &bytes.slice(..150_000)).await;
    let deferrer = store.capabilities().length_deferrer.unwrap();
    let upload = deferrer
        .declare_length(&upload, 200_000, Fence(2))
        .await
        .unwrap();
    append(&store, &upload.id, 3, &bytes.slice(150_000..)).await;
    finish(&store, &upload, 3).await;
    assert_same(&read(&store, &upload, 0..200_000).await, &bytes);
}

async fn forty_uploads_are_concatenated(service: &impl Service) {
    let bucket = service.bucket("concat");
    let store = store(service, options(&bucket));
    let mut parts: Vec<Arc<Upload>> = Vec::new();
    let mut all = Vec::new();
    for n in 0..40 {
        let len = [0, 5, 70_000][n % 3];
        let bytes = pattern(n as u64, len);
        let mut part = Upload::new(
            UploadId::new(&format!("part{n}")).unwrap(),
            Some(len as u64),
        );
        part.kind = UploadKind::Partial;
        let part = store.create(part).await.unwrap();
        append(&store, &part.id, 1, &bytes).await;
        finish(&store, &part, 1).await;
        all.extend_from_slice(&bytes);
        parts.push(part);
    }
    let mut target = Upload::new(UploadId::new("target").unwrap(), Some(all.len() as u64));
    target.kind = UploadKind::Final {
        header: String::new(),
        parts: parts.iter().map(|part| part.id.clone()).collect(),
        concatenated: false,
    };
    let target = store.create(target).await.unwrap();
    let concatenator = store.capabilities().concatenator.unwrap();
    let sum = concatenator
        .concatenate(&target, &parts, Fence(1))
        .await
        .unwrap();
    assert_eq!(sum, all.len() as u64);
    assert_same(&read(&store, &target, 0..sum).await, &all);
}

async fn unverified_bytes_never_count(service: &impl Service) {
    let bucket = service.bucket("unverified");
    let bytes = pattern(5, 400_000);
    for shared in [false, true] {
        let mut options = options(&bucket);
        options.shared = shared;
        let id = format!("unverified-{shared}");
        let store = store(service, options.clone());
        let upload = create(&store, &id, 400_000).await;
        append(&store, &upload.id, 1, &bytes.slice(..100_000)).await;
        // A wrong checksum.
        let (_, mut wrong) = store.resume(&upload.id, Fence(2)).await.unwrap();
        wrong.begin_unverified().await.unwrap();
        wrong
            .write(&mut pieces(&pattern(6, 200_000)))
            .await
            .unwrap();
        wrong.commit().await.unwrap();
        wrong.discard_unverified().await.unwrap();
        drop(wrong);
        assert_eq!(store.load(&upload.id).await.unwrap().offset, 100_000);
        append(&store, &upload.id, 3, &bytes.slice(100_000..150_000)).await;
        // A process that dies meanwhile.
        let (_, mut lost) = store.resume(&upload.id, Fence(4)).await.unwrap();
        lost.begin_unverified().await.unwrap();
        lost.write(&mut pieces(&pattern(7, 200_000))).await.unwrap();
        lost.commit().await.unwrap();
        drop((lost, store));
        let next = landfall_test_clouds::store(service, options);
        assert_eq!(next.load(&upload.id).await.unwrap().offset, 150_000);
        append(&next, &upload.id, 5, &bytes.slice(150_000..300_000)).await;
        append(&next, &upload.id, 6, &bytes.slice(300_000..)).await;
        finish(&next, &upload, 6).await;
        assert_same(&read(&next, &upload, 0..400_000).await, &bytes);
    }
}

async fn many_uploads_stay_within_the_memory(service: &impl Service) {
    let bucket = service.bucket("memory");
    let mut options = options(&bucket);
    options.part_size = 4 << 20;
    options.memory = 16 << 20;
    let store = store(service, options);
    let uploads = (0..64_u64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let bytes = pattern(n, 1 << 20);
            let upload = create(&store, &format!("memory-{n}"), 1 << 20).await;
            for fence in 0..4 {
                let from = fence as usize * (256 << 10);
                let piece = bytes.slice(from..from + (256 << 10));
                append(&store, &upload.id, fence + 1, &piece).await;
            }
            finish(&store, &upload, 4).await;
            assert_same(&read(&store, &upload, 0..1 << 20).await, &bytes);
        })
    });
    let uploads: Vec<_> = uploads.collect();
    while !uploads.iter().all(tokio::task::JoinHandle::is_finished) {
        let stats = store.stats();
        assert!(
            stats.memory_used <= stats.memory_limit + (4 << 20),
            "{stats:?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for upload in uploads {
        upload.await.unwrap();
    }
}

async fn put(service: &impl Service, bucket: &str, id: &str, text: &Bytes) -> ObjectRef {
    let object = ObjectRef::new(bucket, format!("up/{id}"));
    let (client, headers) = (client(service), ObjectHeaders::default());
    let put = client.put_object(
        &object,
        text.clone().into(),
        &headers,
        Condition::IfAbsent,
        None,
    );
    put.await.unwrap();
    object
}

async fn content(service: &impl Service, object: &ObjectRef) -> Bytes {
    let found = client(service).get_object(object, None).await.unwrap();
    found.bytes(1 << 20).await.unwrap()
}

async fn an_object_of_another_program_is_not_replaced(service: &impl Service) {
    let bucket = service.bucket("taken");
    let store = store(service, options(&bucket));
    let upload = create(&store, "taken", 5).await;
    let text = Bytes::from_static(b"of another program");
    let object = put(service, &bucket, "taken", &text).await;
    let (_, mut append) = store.resume(&upload.id, Fence(1)).await.unwrap();
    append.write(&mut vec![pattern(1, 5)]).await.unwrap();
    let committed = append.commit().await;
    drop(append);
    let finisher = store.capabilities().finisher.unwrap();
    let finished = finisher.finish(&upload, Fence(1)).await;
    assert!(committed.is_err() || finished.is_err());
    assert_same(&content(service, &object).await, &text);
}

/// It would be refused when its bytes are there, or take those of the file for its own.
async fn an_upload_whose_key_is_taken_is_not_created(service: &impl Service) {
    let bucket = service.bucket("again");
    let store = store(service, options(&bucket));
    let bytes = pattern(1, 5);
    let upload = create(&store, "again", 5).await;
    append(&store, &upload.id, 1, &bytes).await;
    finish(&store, &upload, 1).await;
    let info = ObjectRef::new(&bucket, "up/again.info");
    client(service).delete_object(&info).await.unwrap();
    let text = Bytes::from_static(b"other");
    let other = put(service, &bucket, "foreign", &text).await;
    let fresh = landfall_test_clouds::store(service, options(&bucket));
    for id in ["again", "foreign"] {
        let again = Upload::new(UploadId::new(id).unwrap(), Some(5));
        let refused = fresh.create(again).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::AlreadyExists(_)),
            "{refused:?}"
        );
    }
    let object = ObjectRef::new(&bucket, "up/again");
    assert_same(&content(service, &object).await, &bytes);
    assert_same(&content(service, &other).await, &text);
}

/// Without a length, or as a concatenation, an upload is not made of an object that happens to have its key.
async fn an_object_of_another_program_completes_nothing(service: &impl Service) {
    let bucket = service.bucket("unowned");
    let store = store(service, options(&bucket));
    let text = Bytes::from_static(b"of another program");
    let deferred = create(&store, "deferred", None).await;
    put(service, &bucket, "deferred", &text).await;
    let part = create(&store, "piece", 5).await;
    append(&store, &part.id, 1, &pattern(1, 5)).await;
    finish(&store, &part, 1).await;
    let mut joined = Upload::new(UploadId::new("joined").unwrap(), Some(5));
    joined.kind = UploadKind::Final {
        header: String::new(),
        parts: vec![part.id.clone()],
        concatenated: false,
    };
    let joined = store.create(joined).await.unwrap();
    let object = put(service, &bucket, "joined", &text).await;
    let fresh = landfall_test_clouds::store(service, options(&bucket));
    assert_eq!(fresh.load(&deferred.id).await.unwrap().offset, 0);
    let concatenator = fresh.capabilities().concatenator.unwrap();
    let joining = concatenator.concatenate(&joined, &[part], Fence(1)).await;
    joining.unwrap_err();
    assert_same(&content(service, &object).await, &text);
}

/// Of a process that died, or of one that did not know of the completion. The application may change its file.
async fn late_parts_do_not_reopen_a_finished_upload(service: &impl Service) {
    let bucket = service.bucket("late");
    let (client, headers) = (client(service), ObjectHeaders::default());
    for (number, is_changed) in [(1, false), (1, true), (3, false), (3, true)] {
        let store = || store(service, options(&bucket));
        let id = format!("late-{number}-{is_changed}");
        let bytes = pattern(1, 1000);
        let first = store();
        let upload = create(&first, &id, bytes.len() as u64).await;
        append(&first, &upload.id, 1, &bytes).await;
        let finisher = first.capabilities().finisher.unwrap();
        let etag = finisher.finish(&upload, Fence(1)).await.unwrap();
        let mut finished = Upload::clone(&upload);
        (finished.completion, finished.etag) = (Completion::Done(None), etag);
        first.save(&finished, Fence(1)).await.unwrap();
        let object = ObjectRef::new(&bucket, format!("up/{id}"));
        let condition = PartCondition::default();
        let late = client.upload_part(&object, "-", number, pattern(2, 700).into(), condition);
        late.await.unwrap();
        let mut len = bytes.len() as u64;
        if is_changed {
            let shorter = bytes.slice(..300).into();
            let put = client.put_object(&object, shorter, &headers, Condition::None, None);
            put.await.unwrap();
            len = 300;
        }
        let next = store();
        let found = next.load(&upload.id).await;
        assert_eq!(found.unwrap().offset, len, "{id}");
        let terminator = next.capabilities().terminator.unwrap();
        assert!(terminator.terminate(&upload, Fence(2)).await.unwrap());
    }
}

/// The parts of an upload of unknown length outlive an object that gets its key.
#[tokio::test(flavor = "multi_thread")]
async fn parts_outlive_an_object_of_another_program_in_google() {
    let service = landfall_test_clouds::Google::shared();
    let bucket = service.bucket("outlive");
    let first = store(service, options(&bucket));
    let upload = create(&first, "outlive", None).await;
    append(&first, &upload.id, 1, &pattern(1, 150_000)).await;
    service
        .0
        .insert(&bucket, "up/outlive", "of another program");
    let fresh = store(service, options(&bucket));
    assert_eq!(fresh.load(&upload.id).await.unwrap().offset, 150_000);
    let names: Vec<_> = service
        .0
        .objects(&bucket)
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert!(names.iter().any(|name| name == "up/outlive_0"), "{names:?}");
}

on_each_cloud!(
    an_object_of_another_program_completes_nothing,
    sizes_from_none_to_many_parts,
    ids_that_tusd_mixes_up_stay_apart,
    a_range_of_a_file_is_read,
    a_length_may_be_declared_late,
    forty_uploads_are_concatenated,
    unverified_bytes_never_count,
    many_uploads_stay_within_the_memory,
    an_object_of_another_program_is_not_replaced,
    an_upload_whose_key_is_taken_is_not_created,
    late_parts_do_not_reopen_a_finished_upload,
);

/// An upload `a_0` has the key of the first part of `a`, as in tusd. None may take the bytes of the other.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_with_the_key_of_a_part_lose_nothing_in_google() {
    let service = landfall_test_clouds::Google::shared();
    let bucket = service.bucket("clash");
    let store = store(service, options(&bucket));
    let bytes = pattern(1, 200_000);
    // The file was first.
    let file = create(&store, "c_0", 200_000).await;
    append(&store, &file.id, 1, &bytes).await;
    finish(&store, &file, 1).await;
    let other = create(&store, "c", 200_000).await;
    let (_, mut refused) = store.resume(&other.id, Fence(1)).await.unwrap();
    let written = refused.write(&mut pieces(&pattern(2, 150_000))).await;
    assert!(written.is_err() || refused.commit().await.is_err());
    drop(refused);
    let terminator = store.capabilities().terminator.unwrap();
    terminator.terminate(&other, Fence(2)).await.unwrap();
    assert_same(&read(&store, &file, 0..200_000).await, &bytes);
    // The part was first.
    let whole = create(&store, "d", 200_000).await;
    append(&store, &whole.id, 1, &bytes.slice(..150_000)).await;
    let clash = Upload::new(UploadId::new("d_0").unwrap(), Some(5));
    store.create(clash).await.unwrap_err();
    let next = landfall_test_clouds::store(service, options(&bucket));
    assert_eq!(next.load(&whole.id).await.unwrap().offset, 150_000);
    append(&next, &whole.id, 2, &bytes.slice(150_000..)).await;
    finish(&next, &whole, 2).await;
    assert_same(&read(&next, &whole, 0..200_000).await, &bytes);
}
