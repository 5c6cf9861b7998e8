//! What is where in the bucket: as tusd has it, by templates, by hooks.

use std::time::Duration;

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Store as _, StoreError},
    upload::{Metadata, Upload, UploadId},
};
use landfall_s3::{
    S3Options, S3Store, UploadIds,
    client::{Client, Condition, ErrorKind, ObjectHeaders, Payload, Place},
};
use landfall_test_services::{Garage, Moto};

use crate::support::{MIB, append, assert_same, client, create, finish, options, pattern, read};

/// A store on Garage in a bucket of its own.
fn garage(stem: &str, adjust: impl Fn(&mut S3Options)) -> S3Store {
    let garage = Garage::shared();
    let mut options = options(&garage.bucket(stem));
    adjust(&mut options);
    S3Store::new(client(&garage.access()), options).unwrap()
}

async fn keys(store: &S3Store) -> Vec<String> {
    let bucket = &store.options().bucket;
    let listed = store
        .client()
        .list_objects(bucket, "", None, 100)
        .await
        .unwrap();
    listed
        .objects
        .into_iter()
        .map(|object| object.key)
        .collect()
}

async fn put(client: &Client, place: &Place, bytes: &[u8]) {
    let payload = Payload::new(vec![Bytes::copy_from_slice(bytes)], None);
    let headers = ObjectHeaders::default();
    client
        .put_object(place, payload, &headers, Condition::None)
        .await
        .unwrap();
}

/// An upload as tusd leaves it when it is stopped in the middle.
async fn of_tusd(store: &S3Store, bytes: &Bytes, parts: &[usize], rest: usize) -> UploadId {
    let (client, bucket) = (store.client(), store.options().bucket.clone());
    let object = UploadId::random();
    let place = Place::new(&bucket, format!("up/{object}"));
    let multipart = client
        .create_multipart(&place, &ObjectHeaders::default())
        .await
        .unwrap();
    let id = format!("{object}+{multipart}");
    let info = format!(
        r#"{{"ID":"{id}","Size":{},"SizeIsDeferred":false,"Offset":0,"MetaData":{{"filename":"a.bin"}},"IsPartial":false,"IsFinal":false,"PartialUploads":null,"Storage":{{"Bucket":"{bucket}","Key":"up/{object}","Type":"s3store"}}}}"#,
        bytes.len()
    );
    put(
        client,
        &Place::new(&bucket, format!("up/{object}.info")),
        info.as_bytes(),
    )
    .await;
    let mut at = 0;
    for (number, len) in (1..).zip(parts) {
        let payload = Payload::new(vec![bytes.slice(at..at + len)], None);
        client
            .upload_part(&place, &multipart, number, payload)
            .await
            .unwrap();
        at += len;
    }
    if rest > 0 {
        let key = format!("up/{object}.part");
        put(client, &Place::new(&bucket, key), &bytes[at..at + rest]).await;
    }
    UploadId::new(&id).unwrap()
}

async fn goes_on_from_tusd(store: &S3Store) {
    let bytes = pattern(1, 25 * MIB + 7);
    for (parts, rest) in [
        (vec![], 0),
        (vec![], 1000),
        (vec![5 * MIB + 1], 0),
        (vec![5 * MIB, 7 * MIB, 6 * MIB + 3], 2 * MIB),
        (vec![20 * MIB, 5 * MIB + 7], 0),
    ] {
        let id = of_tusd(store, &bytes, &parts, rest).await;
        let kept = parts.iter().sum::<usize>() + rest;
        let loaded = store.load(&id).await.unwrap();
        assert_eq!(loaded.offset, kept as u64);
        assert_eq!(
            loaded.upload.metadata.get_text("filename").as_deref(),
            Some("a.bin")
        );
        append(store, &id, 7, &bytes.slice(kept..)).await;
        finish(store, &loaded.upload, 7).await;
        assert_same(&read(store, &loaded.upload).await, &bytes);
        assert!(store.load(&id).await.unwrap().is_complete());
    }
    assert!(!keys(store).await.iter().any(|key| key.ends_with(".part")));
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_with_what_tusd_began_on_garage() {
    goes_on_from_tusd(&garage("tusd", |_| {})).await;
    goes_on_from_tusd(&garage("tusd", |options| options.shared = true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_with_what_tusd_began_on_moto() {
    let moto = Moto::shared();
    let mut options = options(&moto.bucket("tusd"));
    options.conditional_writes = true;
    goes_on_from_tusd(&S3Store::new(client(&moto.access()), options).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_tusd_that_landed_above_a_missing_one_do_no_harm() {
    let store = garage("gap", |_| {});
    let bytes = pattern(2, 18 * MIB);
    let id = of_tusd(&store, &bytes, &[6 * MIB], 0).await;
    let (object, multipart) = id.as_str().split_once('+').unwrap();
    let place = Place::new(&store.options().bucket, format!("up/{object}"));
    // Part 3 of tusd's landed, part 2 did not.
    let payload = Payload::new(vec![bytes.slice(12 * MIB..)], None);
    store
        .client()
        .upload_part(&place, multipart, 3, payload)
        .await
        .unwrap();
    let loaded = store.load(&id).await.unwrap();
    assert_eq!(loaded.offset, 6 * MIB as u64);
    append(&store, &id, 1, &bytes.slice(6 * MIB..17 * MIB)).await;
    assert_eq!(store.load(&id).await.unwrap().offset, 17 * MIB as u64);
    append(&store, &id, 2, &bytes.slice(17 * MIB..)).await;
    assert_same(&read(&store, &loaded.upload).await, &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn tusd_could_go_on_with_what_began_here() {
    let store = garage("totusd", |_| {});
    let bytes = pattern(3, 20 * MIB);
    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes.slice(..12 * MIB + 5)).await;
    // As tusd finds out where an upload stands.
    let (object, multipart) = upload.id.as_str().rsplit_once('+').unwrap();
    let bucket = &store.options().bucket;
    let place = Place::new(bucket, format!("up/{object}"));
    let parts = store
        .client()
        .list_parts(&place, multipart, 0)
        .await
        .unwrap()
        .parts;
    let numbers: Vec<_> = parts.iter().map(|part| part.number).collect();
    assert_eq!(numbers, [1, 2]);
    let rest = Place::new(bucket, format!("up/{object}.part"));
    let rest = store.client().head_object(&rest).await.unwrap().size;
    let sum = parts.iter().map(|part| part.size).sum::<u64>() + rest;
    assert_eq!(sum, 12 * MIB as u64 + 5);
    let info = Place::new(bucket, format!("up/{object}.info"));
    let info = store.client().get_object(&info, None).await.unwrap();
    let info = info.bytes(1 << 20).await.unwrap();
    let text = std::str::from_utf8(&info).unwrap();
    assert!(
        text.starts_with(&format!(r#"{{"ID":"{}","Size":20971520,"#, upload.id)),
        "{text}"
    );
    assert!(
        text.contains(r#""Type":"s3store""#) && text.contains(r#""Key":"up/"#),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_belongs_to_one_upload() {
    let store = garage("ids", |_| {});
    let upload = create(&store, 5).await;
    let (object, _) = upload.id.as_str().rsplit_once('+').unwrap();
    for wrong in [
        format!("{object}+nonsense"),
        object.to_owned(),
        format!("{}+x", upload.id),
    ] {
        let loaded = store.load(&UploadId::new(&wrong).unwrap()).await;
        assert!(
            matches!(loaded, Err(StoreError::NotFound(_))),
            "{wrong}: {loaded:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_upload_with_a_plain_id_is_two_objects_and_no_multipart_upload() {
    let store = garage("small", |options| options.ids = UploadIds::Plain);
    let upload = create(&store, 1000).await;
    let bytes = pattern(4, 1000);
    append(&store, &upload.id, 1, &bytes).await;
    finish(&store, &upload, 1).await;
    assert_same(&read(&store, &upload).await, &bytes);
    let id = &upload.id;
    assert_eq!(
        keys(&store).await,
        [format!("up/{id}"), format!("up/{id}.info")]
    );
    // Another process sees the same.
    let other = S3Store::new(store.client().clone(), store.options().clone()).unwrap();
    assert!(other.load(id).await.unwrap().is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_without_bytes_are_objects() {
    for ids in [UploadIds::Tusd, UploadIds::Plain] {
        let store = garage("empty", |options| options.ids = ids);
        let upload = create(&store, 0).await;
        finish(&store, &upload, 1).await;
        assert!(read(&store, &upload).await.is_empty());
        assert_eq!(
            keys(&store).await.len(),
            2,
            "the object and its description"
        );
        let bucket = &store.options().bucket;
        let left = store
            .client()
            .list_multiparts(bucket, "", None, 10)
            .await
            .unwrap();
        assert!(left.uploads.is_empty());
        // One that was created just before its process died.
        let upload = create(&store, 0).await;
        let other = S3Store::new(store.client().clone(), store.options().clone()).unwrap();
        assert!(other.load(&upload.id).await.unwrap().is_complete());
        assert!(read(&other, &upload).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_go_where_templates_and_hooks_want_them() {
    let store = garage("place", |options| {
        options.key_template = Some("in/{meta:user}/{id}-{filename}".into());
        options.headers.cache_control = Some("max-age=60".into());
    });
    let other_bucket = Garage::shared().bucket("elsewhere");
    let bytes = pattern(5, 6 * MIB);
    for by_hook in [false, true] {
        let mut upload = Upload::new(UploadId::random(), Some(bytes.len() as u64));
        let object = upload.id.clone();
        upload.metadata = Metadata::from_pairs([
            ("user", "ann"),
            ("filename", "ünï.bin"),
            ("filetype", "video/mp4"),
        ]);
        let place = if by_hook {
            upload.storage = [
                ("Bucket".into(), other_bucket.clone()),
                ("Key".into(), "by/hook.bin".into()),
                ("ContentDisposition".into(), "attachment".into()),
            ]
            .into();
            Place::new(&other_bucket, "by/hook.bin")
        } else {
            Place::new(
                &store.options().bucket,
                format!("up/in/ann/{object}-ünï.bin"),
            )
        };
        store.assign_id(&mut upload).await.unwrap();
        let upload = store.create(upload).await.unwrap();
        append(&store, &upload.id, 1, &bytes.slice(..4 * MIB)).await;
        // Another node finds it.
        let next = S3Store::new(store.client().clone(), store.options().clone()).unwrap();
        append(&next, &upload.id, 2, &bytes.slice(4 * MIB..)).await;
        finish(&next, &upload, 2).await;
        let head = next.client().head_object(&place).await.unwrap();
        assert_eq!(head.size, bytes.len() as u64);
        assert_eq!(head.content_type.as_deref(), Some("video/mp4"));
        assert_eq!(head.metadata["user"], "ann");
        assert_eq!(head.metadata["filename"], "?n?.bin");
        assert_same(&read(&next, &upload).await, &bytes);
        next.terminator()
            .unwrap()
            .terminate(&upload, Fence(3))
            .await
            .unwrap();
        let gone = next.client().head_object(&place).await.unwrap_err();
        assert_eq!(*gone.kind(), ErrorKind::NoSuchKey);
    }
    assert!(keys(&store).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_are_none_are_refused() {
    let store = garage("noplace", |_| {});
    for key in ["a.info", "/a", "a/../b", "x.part"] {
        let mut upload = Upload::new(UploadId::random(), Some(1));
        upload.storage = [("Key".into(), key.into())].into();
        let refused = store.assign_id(&mut upload).await;
        assert!(
            matches!(refused, Err(StoreError::InvalidPath(_))),
            "{key}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_can_be_had_from_s3_itself() {
    let store = garage("link", |options| {
        options.redirect = Some(Duration::from_secs(60))
    });
    let bytes = pattern(6, 70_000);
    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes).await;
    finish(&store, &upload, 1).await;
    let reader = store.reader().unwrap();
    let disposition = "attachment;filename=\"a b.txt\"";
    let link = reader
        .link(&upload, "text/plain", disposition)
        .await
        .unwrap()
        .unwrap();
    let output = tokio::process::Command::new("curl")
        .args(["-sSi", &link])
        .output()
        .await
        .unwrap();
    let at = output
        .stdout
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&output.stdout[..at]).to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain"), "{head}");
    assert!(
        head.contains("content-disposition: attachment;filename=\"a b.txt\""),
        "{head}"
    );
    assert_same(&output.stdout[at + 4..], &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_nothing_is_found_and_removed() {
    let store = garage("left", |options| options.orphan_age = Duration::ZERO);
    let (client, bucket) = (store.client(), &store.options().bucket);
    let kept = create(&store, 100).await;
    append(&store, &kept.id, 1, &pattern(1, 50)).await;
    let begin = async |key: String| {
        let place = Place::new(bucket, key);
        client
            .create_multipart(&place, &ObjectHeaders::default())
            .await
            .unwrap();
    };
    begin(format!("up/{}", UploadId::random())).await;
    begin(format!("up/2026/{}.bin", UploadId::random())).await;
    // Perhaps another program's.
    begin("up/theirs.bin".into()).await;
    // Only an application deletes a description before the bytes.
    let part = UploadId::random();
    put(
        client,
        &Place::new(bucket, format!("up/{part}.part")),
        b"rest",
    )
    .await;
    put(client, &Place::new(bucket, "other/x.part"), b"not ours").await;
    // Bytes of a multipart upload whose description somebody deleted.
    let lost = Place::new(bucket, format!("up/{}", UploadId::random()));
    let multipart = client
        .create_multipart(&lost, &ObjectHeaders::default())
        .await
        .unwrap();
    client
        .upload_part(&lost, &multipart, 1, Bytes::from_static(b"bytes").into())
        .await
        .unwrap();
    // A description whose multipart upload is gone.
    let half = create(&store, 7).await;
    let (object, multipart) = half.id.as_str().rsplit_once('+').unwrap();
    let place = Place::new(bucket, format!("up/{object}"));
    client.abort_multipart(&place, multipart).await.unwrap();

    let other = S3Store::new(client.clone(), store.options().clone()).unwrap();
    let enumerator = other.enumerator().unwrap();
    for limit in [1, 2, 1000] {
        let (mut uploads, mut orphans) = (Vec::new(), Vec::new());
        let mut cursor = None;
        loop {
            let page = enumerator.page(cursor, limit).await.unwrap();
            assert!(page.uploads.len() + page.orphans.len() <= limit);
            uploads.extend(page.uploads);
            orphans.extend(page.orphans);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(uploads.len(), 1);
        assert_eq!(uploads[0].offset, 50);
        assert_eq!(orphans.len(), 5, "{orphans:#?}");
        let reported = orphans.iter().filter(|orphan| !orphan.removable);
        assert_eq!(reported.count(), 2, "what holds bytes: {orphans:#?}");
        if limit == 1000 {
            for orphan in &orphans {
                enumerator.remove_orphan(orphan).await.unwrap();
            }
        }
    }
    let mut left = keys(&store).await;
    left.retain(|key| !key.contains(kept.id.as_str().split('+').next().unwrap()));
    assert_eq!(left, ["other/x.part", &format!("up/{part}.part")]);
    let multiparts = client
        .list_multiparts(bucket, "", None, 10)
        .await
        .unwrap()
        .uploads;
    let left: Vec<_> = multiparts
        .iter()
        .map(|multipart| multipart.key.as_str())
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.contains(&"up/theirs.bin") && left.contains(&&*lost.key));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_see_to_is_left_alone() {
    let store = garage("leave", |options| {
        options.orphan_age = Duration::ZERO;
        options.leave = vec!["up/theirs/".into(), String::new()];
    });
    let (client, bucket) = (store.client(), &store.options().bucket);
    for folder in ["up/theirs", "up/ours"] {
        let place = Place::new(bucket, format!("{folder}/{}", UploadId::random()));
        let headers = ObjectHeaders::default();
        client.create_multipart(&place, &headers).await.unwrap();
        for suffix in [".part", ".info"] {
            let key = format!("{folder}/{}{suffix}", UploadId::random());
            put(client, &Place::new(bucket, key), b"bytes").await;
        }
    }
    let upload = create(&store, 7).await;
    append(&store, &upload.id, 1, &pattern(1, 5)).await;

    let other = S3Store::new(client.clone(), store.options().clone()).unwrap();
    let enumerator = other.enumerator().unwrap();
    let (mut uploads, mut orphans) = (Vec::new(), Vec::new());
    let mut cursor = None;
    loop {
        let page = enumerator.page(cursor, 100).await.unwrap();
        uploads.extend(page.uploads);
        orphans.extend(page.orphans);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(uploads.len(), 1);
    assert_eq!(orphans.len(), 3, "{orphans:#?}");
    for orphan in &orphans {
        assert!(orphan.name.contains("up/ours/"), "{orphan:?}");
        enumerator.remove_orphan(orphan).await.unwrap();
    }
    let listed = client.list_multiparts(bucket, "up/", None, 10);
    let listed = listed.await.unwrap().uploads;
    let theirs = listed
        .iter()
        .filter(|one| one.key.starts_with("up/theirs/"));
    assert_eq!(theirs.count(), 1, "{listed:?}");
    assert!(!listed.iter().any(|one| one.key.starts_with("up/ours/")));
    assert_eq!(
        keys(&store)
            .await
            .iter()
            .filter(|key| key.contains("theirs"))
            .count(),
        2
    );
}

/// tusd counts all bytes of `.part`, so none that parts hold may stay in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rest_that_a_part_has_taken_is_emptied() {
    let store = garage("emptied", |_| {});
    let part = usize::try_from(store.options().part_size).unwrap();
    let bytes = pattern(9, 2 * part);
    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes.slice(..1000)).await;
    append(&store, &upload.id, 2, &bytes.slice(1000..part)).await;
    let object = upload.id.as_str().split('+').next().unwrap();
    let key = format!("{}/{object}.part", store.options().object_prefix);
    let place = Place::new(&store.options().bucket, key);
    let head = store.client().head_object(&place).await;
    assert!(head.is_ok_and(|head| head.size == 0));
    append(&store, &upload.id, 3, &bytes.slice(part..)).await;
    finish(&store, &upload, 3).await;
    assert!(store.client().head_object(&place).await.is_err());
    assert_same(&read(&store, &upload).await, &bytes);
}
