//! Keys and objects: tusd's layout, key templates, hooks.

use std::time::Duration;

use bytes::Bytes;
use landfall::{
    lease::Fence,
    removal::{self, RemovalClock},
    store::{Enumerate, Orphan, OrphanKind, Store as _, StoreError},
    upload::{Metadata, Upload, UploadId},
};
use landfall_objects::{Cloud as _, PartCondition};
use landfall_s3::{
    S3Options, S3Store, UploadIds,
    client::{Client, Condition, ErrorKind, ObjectHeaders, ObjectRef, Payload},
};
use landfall_test_services::{Garage, Moto};

use crate::support::{MIB, append, assert_same, client, create, finish, options, pattern, read};

/// A store on Garage with a separate bucket.
fn garage(stem: &str, adjust: impl Fn(&mut S3Options)) -> S3Store {
    let garage = Garage::shared();
    let mut options = options(&garage.bucket(stem));
    adjust(&mut options);
    S3Store::new(client(&garage.access()), options).unwrap()
}

/// As the sweeper does.
async fn remove_orphan(enumerator: &dyn Enumerate, orphan: &Orphan) {
    let now = RemovalClock::new().now();
    if let Ok(permission) =
        removal::Removable::orphan(orphan.kind, orphan.modified, Duration::ZERO, now)
    {
        enumerator.remove_orphan(orphan, permission).await.unwrap();
    }
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

async fn put_object(client: &Client, object_ref: &ObjectRef, bytes: &[u8]) {
    let payload = Payload::new(vec![Bytes::copy_from_slice(bytes)], None);
    let headers = ObjectHeaders::default();
    client
        .put_object(object_ref, payload, &headers, Condition::None)
        .await
        .unwrap();
}

/// An upload as an interrupted tusd leaves it.
async fn of_tusd(store: &S3Store, bytes: &Bytes, parts: &[usize], rest: usize) -> UploadId {
    let (client, bucket) = (store.client(), store.options().bucket.clone());
    let object = UploadId::random();
    let object_ref = ObjectRef::new(&bucket, format!("up/{object}"));
    let multipart = client
        .create_multipart(&object_ref, &ObjectHeaders::default())
        .await
        .unwrap();
    let id = format!("{object}+{multipart}");
    let info = format!(
        r#"{{"ID":"{id}","Size":{},"SizeIsDeferred":false,"Offset":0,"MetaData":{{"filename":"a.bin"}},"IsPartial":false,"IsFinal":false,"PartialUploads":null,"Storage":{{"Bucket":"{bucket}","Key":"up/{object}","Type":"s3store"}}}}"#,
        bytes.len()
    );
    put_object(
        client,
        &ObjectRef::new(&bucket, format!("up/{object}.info")),
        info.as_bytes(),
    )
    .await;
    let mut at = 0;
    for (number, len) in (1..).zip(parts) {
        let payload = Payload::new(vec![bytes.slice(at..at + len)], None);
        client
            .upload_part(
                &object_ref,
                &multipart,
                number,
                payload,
                PartCondition::default(),
            )
            .await
            .unwrap();
        at += len;
    }
    if rest > 0 {
        let key = format!("up/{object}.part");
        put_object(client, &ObjectRef::new(&bucket, key), &bytes[at..at + rest]).await;
    }
    UploadId::new(&id).unwrap()
}

async fn resumes_upload_of_tusd(store: &S3Store) {
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
async fn resumes_upload_of_tusd_on_garage() {
    resumes_upload_of_tusd(&garage("tusd", |_| {})).await;
    resumes_upload_of_tusd(&garage("tusd", |options| options.shared = true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resumes_upload_of_tusd_on_moto() {
    let moto = Moto::shared();
    let mut options = options(&moto.bucket("tusd"));
    options.conditional_writes = true;
    resumes_upload_of_tusd(&S3Store::new(client(&moto.access()), options).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_tusd_above_a_missing_one_do_not_count() {
    let store = garage("gap", |_| {});
    let bytes = pattern(2, 18 * MIB);
    let id = of_tusd(&store, &bytes, &[6 * MIB], 0).await;
    let (object, multipart) = id.as_str().split_once('+').unwrap();
    let object_ref = ObjectRef::new(&store.options().bucket, format!("up/{object}"));
    // Part 3 of tusd was stored, part 2 was not.
    let payload = Payload::new(vec![bytes.slice(12 * MIB..)], None);
    store
        .client()
        .upload_part(&object_ref, multipart, 3, payload, PartCondition::default())
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
async fn tusd_could_resume_an_upload() {
    let store = garage("totusd", |_| {});
    let bytes = pattern(3, 20 * MIB);
    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes.slice(..12 * MIB + 5)).await;
    // The calls by which tusd determines the offset.
    let (object, multipart) = upload.id.as_str().rsplit_once('+').unwrap();
    let bucket = &store.options().bucket;
    let object_ref = ObjectRef::new(bucket, format!("up/{object}"));
    let parts = store
        .client()
        .list_parts(&object_ref, multipart)
        .await
        .unwrap();
    let numbers: Vec<_> = parts.iter().map(|part| part.number).collect();
    assert_eq!(numbers, [1, 2]);
    let rest = ObjectRef::new(bucket, format!("up/{object}.part"));
    let rest = store.client().head_object(&rest).await.unwrap().size;
    let sum = parts.iter().map(|part| part.size).sum::<u64>() + rest;
    assert_eq!(sum, 12 * MIB as u64 + 5);
    let info = ObjectRef::new(bucket, format!("up/{object}.info"));
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
async fn empty_uploads_become_objects() {
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
        // Created just before its process died.
        let upload = create(&store, 0).await;
        let other = S3Store::new(store.client().clone(), store.options().clone()).unwrap();
        assert!(other.load(&upload.id).await.unwrap().is_complete());
        assert!(read(&other, &upload).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_and_hooks_choose_object_keys() {
    let store = garage("objects", |options| {
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
        let object_ref = if by_hook {
            upload.storage = [
                ("Bucket".into(), other_bucket.clone()),
                ("Key".into(), "by/hook.bin".into()),
                ("ContentDisposition".into(), "attachment".into()),
            ]
            .into();
            ObjectRef::new(&other_bucket, "by/hook.bin")
        } else {
            ObjectRef::new(
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
        let head = next.client().head_object(&object_ref).await.unwrap();
        assert_eq!(head.size, bytes.len() as u64);
        assert_eq!(head.content_type.as_deref(), Some("video/mp4"));
        assert_eq!(head.metadata["user"], "ann");
        assert_eq!(head.metadata["filename"], "?n?.bin");
        assert_same(&read(&next, &upload).await, &bytes);
        next.capabilities()
            .terminator
            .unwrap()
            .terminate(&upload, Fence(3))
            .await
            .unwrap();
        let gone = next.client().head_object(&object_ref).await.unwrap_err();
        assert_eq!(*gone.kind(), ErrorKind::NoSuchKey);
    }
    assert!(keys(&store).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_object_keys_are_rejected() {
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
async fn download_redirects_to_s3() {
    let store = garage("link", |options| {
        options.redirect = Some(Duration::from_secs(60))
    });
    let bytes = pattern(6, 70_000);
    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes).await;
    finish(&store, &upload, 1).await;
    let reader = store.capabilities().reader.unwrap();
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
async fn orphans_are_found_and_removed() {
    let store = garage("left", |options| options.orphan_age = Duration::ZERO);
    let (client, bucket) = (store.client(), &store.options().bucket);
    let kept = create(&store, 100).await;
    append(&store, &kept.id, 1, &pattern(1, 50)).await;
    let begin = async |key: String| {
        let object_ref = ObjectRef::new(bucket, key);
        client
            .create_multipart(&object_ref, &ObjectHeaders::default())
            .await
            .unwrap();
    };
    begin(format!("up/{}", UploadId::random())).await;
    begin(format!("up/2026/{}.bin", UploadId::random())).await;
    // May belong to another program.
    begin("up/theirs.bin".into()).await;
    // Only an application deletes a description before the bytes.
    let part = UploadId::random();
    put_object(
        client,
        &ObjectRef::new(bucket, format!("up/{part}.part")),
        b"rest",
    )
    .await;
    put_object(client, &ObjectRef::new(bucket, "other/x.part"), b"not ours").await;
    // A multipart upload with bytes whose description was deleted.
    let lost = ObjectRef::new(bucket, format!("up/{}", UploadId::random()));
    let multipart = client
        .create_multipart(&lost, &ObjectHeaders::default())
        .await
        .unwrap();
    client
        .upload_part(
            &lost,
            &multipart,
            1,
            Bytes::from_static(b"bytes").into(),
            PartCondition::default(),
        )
        .await
        .unwrap();
    // A description whose multipart upload was aborted expires as any other.
    let half = create(&store, 7).await;
    let (object, multipart) = half.id.as_str().rsplit_once('+').unwrap();
    let object_ref = ObjectRef::new(bucket, format!("up/{object}"));
    client
        .abort_multipart(&object_ref, multipart)
        .await
        .unwrap();

    let other = S3Store::new(client.clone(), store.options().clone()).unwrap();
    let enumerator = other.capabilities().enumerator.unwrap();
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
        let mut found: Vec<_> = uploads
            .iter()
            .map(|one| (&one.upload.id, one.offset))
            .collect();
        found.sort_unstable_by_key(|(_, offset)| *offset);
        assert_eq!(found, [(&half.id, 0), (&kept.id, 50)]);
        assert_eq!(orphans.len(), 4, "{orphans:#?}");
        let is_reported = |orphan: &Orphan| orphan.kind == OrphanKind::Unproven;
        assert!(orphans.iter().all(is_reported), "{orphans:#?}");
        if limit == 1000 {
            for orphan in &orphans {
                remove_orphan(enumerator, orphan).await;
            }
        }
    }
    let mut left = keys(&store).await;
    for id in [&kept.id, &half.id] {
        left.retain(|key| !key.contains(id.as_str().split('+').next().unwrap()));
    }
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
    assert_eq!(left.len(), 5, "names prove nothing: {left:?}");
    assert!(left.contains(&"up/theirs.bin") && left.contains(&&*lost.key));
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_prefixes_are_ignored() {
    let store = garage("leave", |options| {
        options.orphan_age = Duration::ZERO;
        options.excluded_prefixes = vec!["up/theirs/".into(), String::new()];
    });
    let (client, bucket) = (store.client(), &store.options().bucket);
    for folder in ["up/theirs", "up/ours"] {
        let object_ref = ObjectRef::new(bucket, format!("{folder}/{}", UploadId::random()));
        let headers = ObjectHeaders::default();
        client
            .create_multipart(&object_ref, &headers)
            .await
            .unwrap();
        for suffix in [".part", ".info"] {
            let key = format!("{folder}/{}{suffix}", UploadId::random());
            put_object(client, &ObjectRef::new(bucket, key), b"bytes").await;
        }
    }
    let upload = create(&store, 7).await;
    append(&store, &upload.id, 1, &pattern(1, 5)).await;

    let other = S3Store::new(client.clone(), store.options().clone()).unwrap();
    let enumerator = other.capabilities().enumerator.unwrap();
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
        remove_orphan(enumerator, orphan).await;
    }
    let listed = client.list_multiparts(bucket, "up/", None, 10);
    let listed = listed.await.unwrap().uploads;
    let theirs = listed
        .iter()
        .filter(|one| one.key.starts_with("up/theirs/"));
    assert_eq!(theirs.count(), 1, "{listed:?}");
    let ours = listed.iter().filter(|one| one.key.starts_with("up/ours/"));
    assert_eq!(ours.count(), 1, "its name alone proves nothing: {listed:?}");
    assert_eq!(
        keys(&store)
            .await
            .iter()
            .filter(|key| key.contains("theirs"))
            .count(),
        2
    );
}

/// tusd counts all bytes of `.part`, so bytes that parts contain must not stay there.
#[tokio::test(flavor = "multi_thread")]
async fn obsolete_incomplete_part_is_emptied() {
    let store = garage("emptied", |_| {});
    let part = usize::try_from(store.options().part_size).unwrap();
    let bytes = pattern(9, 2 * part);
    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes.slice(..1000)).await;
    append(&store, &upload.id, 2, &bytes.slice(1000..part)).await;
    let object = upload.id.as_str().split('+').next().unwrap();
    let key = format!("{}/{object}.part", store.options().object_prefix);
    let object_ref = ObjectRef::new(&store.options().bucket, key);
    let head = store.client().head_object(&object_ref).await;
    assert!(head.is_ok_and(|head| head.size == 0));
    append(&store, &upload.id, 3, &bytes.slice(part..)).await;
    finish(&store, &upload, 3).await;
    assert!(store.client().head_object(&object_ref).await.is_err());
    assert_same(&read(&store, &upload).await, &bytes);
}
