//! The objects of uploads: those that tusd leaves are continued, and tusd can continue ours.

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::Store as _,
    upload::{Metadata, Upload, UploadId},
};
use landfall_objects::{Cloud, Condition, ObjectHeaders, ObjectRef, PartCondition};
use landfall_test_clouds::{
    Azure, Google, Service, append, assert_same, client, create, finish, options, pattern, read,
    store,
};
use serde_json::{Value, json};

/// As tusd 2.10 writes it: one object, no line break at its end.
fn description(id: &str, size: usize, storage: &str) -> Bytes {
    format!(
        "{{\"ID\":\"{id}\",\"Size\":{size},\"SizeIsDeferred\":false,\"Offset\":0,\"MetaData\":{{\"filename\":\"a b.txt\",\
         \"filetype\":\"text/plain\"}},\"IsPartial\":false,\"IsFinal\":false,\"PartialUploads\":null,\"Storage\":{storage}}}"
    )
    .into()
}

async fn put(client: &impl Cloud, bucket: &str, key: &str, bytes: Bytes) {
    let object = ObjectRef::new(bucket, key);
    let headers = ObjectHeaders::default();
    let put = client.put_object(&object, bytes.into(), &headers, Condition::None, None);
    put.await.unwrap();
}

async fn keys(client: &impl Cloud, bucket: &str) -> Vec<String> {
    let page = client.list_objects(bucket, "", None, 1000).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}

async fn info(client: &impl Cloud, bucket: &str, id: &str) -> (String, Value) {
    let object = ObjectRef::new(bucket, format!("up/{id}.info"));
    let object = client.get_object(&object, None).await.unwrap();
    let text = object.bytes(100_000).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

/// Sizes of the chunks of tusd, which are the bodies of its requests.
fn tusd_chunks() -> Vec<Vec<usize>> {
    vec![
        vec![],
        vec![0],
        vec![1],
        vec![70_000],
        vec![5, 70_000, 0, 1],
        vec![1000; 31],
        vec![1000; 32],
        vec![1000; 33],
        vec![10; 1025],
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_tusd_go_on_in_google() {
    let service = Google::shared();
    let bucket = service.bucket("tusd");
    let client = client(service);
    for (n, chunks) in tusd_chunks().into_iter().enumerate() {
        let (id, offset) = (format!("of_tusd_{n}"), chunks.iter().sum::<usize>());
        let bytes = pattern(n as u64, offset + 100_000);
        let storage =
            format!("{{\"Bucket\":\"{bucket}\",\"Key\":\"up/{id}\",\"Type\":\"gcsstore\"}}");
        let info = description(&id, bytes.len(), &storage);
        service.0.insert(&bucket, &format!("up/{id}.info"), info);
        let mut at = 0;
        for (number, len) in chunks.iter().enumerate() {
            let name = format!("up/{id}_{number}");
            service.0.insert(&bucket, &name, bytes.slice(at..at + len));
            at += len;
        }
        let store = store(service, options(&bucket));
        let id = UploadId::new(&id).unwrap();
        let snapshot = store.load(&id).await.unwrap();
        assert_eq!(snapshot.offset, offset as u64, "{chunks:?}");
        append(&store, &id, 1, &bytes.slice(offset..offset + 50_000)).await;
        let store = landfall_test_clouds::store(service, options(&bucket));
        append(&store, &id, 2, &bytes.slice(offset + 50_000..)).await;
        finish(&store, &snapshot.upload, 2).await;
        assert_same(
            &service.0.bytes(&bucket, &format!("up/{id}")).unwrap(),
            &bytes,
        );
        let head = client
            .head_object(&ObjectRef::new(&bucket, format!("up/{id}")))
            .await;
        let head = head.unwrap();
        assert_eq!(head.content_type.as_deref(), Some("text/plain"));
        assert_eq!(head.metadata["filename"], "a b.txt");
        let left = keys(&client, &bucket).await;
        let of_it = left.iter().filter(|key| key.contains(id.as_str()));
        let of_it: Vec<_> = of_it.collect();
        assert_eq!(of_it, [&format!("up/{id}"), &format!("up/{id}.info")]);
        let terminator = store.capabilities().terminator.unwrap();
        terminator
            .terminate(&snapshot.upload, Fence(3))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_finishes_end_in_google() {
    let service = Google::shared();
    let bucket = service.bucket("interrupted");
    let client = client(service);
    let bytes = pattern(1, 33_000);
    // Before the composition, with its temporary objects, as tusd leaves them; and after it.
    for (id, composed, left) in [
        ("before", false, 33),
        ("after", true, 33),
        ("middle", true, 4),
    ] {
        let storage =
            format!("{{\"Bucket\":\"{bucket}\",\"Key\":\"up/{id}\",\"Type\":\"gcsstore\"}}");
        let info = description(id, bytes.len(), &storage);
        service.0.insert(&bucket, &format!("up/{id}.info"), info);
        for number in 0..left {
            let chunk = bytes.slice(number * 1000..(number + 1) * 1000);
            service
                .0
                .insert(&bucket, &format!("up/{id}_{number}"), chunk);
        }
        service
            .0
            .insert(&bucket, &format!("up/{id}_tmp_0_0"), bytes.slice(..32_000));
        if composed {
            service
                .0
                .insert(&bucket, &format!("up/{id}"), bytes.clone());
        }
        let store = store(service, options(&bucket));
        let id = UploadId::new(id).unwrap();
        let snapshot = store.load(&id).await.unwrap();
        assert_eq!(snapshot.offset, 33_000, "{id}");
        finish(&store, &snapshot.upload, 1).await;
        assert_same(&read(&store, &snapshot.upload, 0..33_000).await, &bytes);
        let left = keys(&client, &bucket).await;
        let chunks = left.iter().filter(|key| key.contains(&format!("{id}_")));
        let chunks: Vec<_> = chunks.filter(|key| !key.contains("_tmp_")).collect();
        assert!(chunks.is_empty(), "{id}: {chunks:?}");
    }
}

/// For tusd there must be nothing but its own names, contiguous chunks, and its description.
#[tokio::test(flavor = "multi_thread")]
async fn tusd_can_continue_ours_in_google() {
    let service = Google::shared();
    let bucket = service.bucket("ours");
    let client = client(service);
    let store = store(service, options(&bucket));
    let mut upload = Upload::new(UploadId::new("ours").unwrap(), Some(300_000));
    upload.metadata = Metadata::from_pairs([("filename", "a.txt")]);
    let upload = store.create(upload).await.unwrap();
    append(&store, &upload.id, 1, &pattern(1, 200_000)).await;
    let (text, info) = info(&client, &bucket, "ours").await;
    assert!(!text.ends_with('\n'));
    let keys_of_tusd = [
        "ID",
        "Size",
        "SizeIsDeferred",
        "Offset",
        "MetaData",
        "IsPartial",
        "IsFinal",
        "PartialUploads",
        "Storage",
    ];
    let places = keys_of_tusd.map(|key| text.find(&format!("\"{key}\":")).unwrap());
    assert!(places.is_sorted(), "{text}");
    assert_eq!(
        info["Storage"],
        json!({"Bucket": bucket, "Key": "up/ours", "Type": "gcsstore"})
    );
    assert_eq!(
        (&info["Size"], &info["Offset"]),
        (&json!(300_000), &json!(0))
    );
    let objects = service.0.objects(&bucket);
    let seen: Vec<_> = objects
        .iter()
        .filter(|one| one.name.starts_with("up/ours"))
        .collect();
    let names: Vec<_> = seen.iter().map(|object| &*object.name).collect();
    assert_eq!(
        names,
        ["up/ours.info", "up/ours_0", "up/ours_1", "up/ours_2"]
    );
    let chunks: u64 = seen.iter().skip(1).map(|chunk| chunk.size).sum();
    assert_eq!(chunks, 3 * 65_536);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_tusd_go_on_in_azure() {
    let service = Azure::shared();
    let bucket = service.bucket("tusd");
    let client = client(service);
    for (n, chunks) in tusd_chunks().into_iter().enumerate() {
        if chunks.contains(&0) || chunks.len() > 100 {
            continue;
        }
        for has_sentinel in [true, false] {
            let (id, offset) = (
                format!("t_{n}_{has_sentinel}"),
                chunks.iter().sum::<usize>(),
            );
            let bytes = pattern(n as u64, offset + 100_000);
            let key = format!("up/{id}");
            let storage =
                format!("{{\"Container\":\"{bucket}\",\"Key\":\"{key}\",\"Type\":\"azurestore\"}}");
            let info = description(&id, bytes.len(), &storage);
            put(&client, &bucket, &format!("{key}.info"), info).await;
            let object = ObjectRef::new(&bucket, &key);
            if has_sentinel {
                let headers = ObjectHeaders::default();
                Cloud::create_multipart(&client, &object, &headers)
                    .await
                    .unwrap();
            }
            let mut at = 0;
            for (number, len) in (1..).zip(&chunks) {
                let block = bytes.slice(at..at + len);
                let put = Cloud::upload_part(
                    &client,
                    &object,
                    "-",
                    number,
                    block.into(),
                    PartCondition::default(),
                );
                put.await.unwrap();
                at += len;
            }
            let store = store(service, options(&bucket));
            let id = UploadId::new(&id).unwrap();
            let snapshot = store.load(&id).await.unwrap();
            assert_eq!(snapshot.offset, offset as u64, "{chunks:?}");
            append(&store, &id, 1, &bytes.slice(offset..offset + 50_000)).await;
            let store = landfall_test_clouds::store(service, options(&bucket));
            append(&store, &id, 2, &bytes.slice(offset + 50_000..)).await;
            finish(&store, &snapshot.upload, 2).await;
            let all = 0..bytes.len() as u64;
            assert_same(&read(&store, &snapshot.upload, all).await, &bytes);
            let head = client.head_object(&object).await.unwrap();
            assert_eq!(head.content_type.as_deref(), Some("text/plain"));
            assert_eq!(head.metadata["filename"], "a b.txt");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tusd_can_continue_ours_in_azure() {
    let service = Azure::shared();
    let bucket = service.bucket("ours");
    let client = client(service);
    let store = store(service, options(&bucket));
    let upload = create(&store, "ours", 300_000).await;
    append(&store, &upload.id, 1, &pattern(1, 200_000)).await;
    let (_, info) = info(&client, &bucket, "ours").await;
    assert_eq!(
        info["Storage"],
        json!({"Container": bucket, "Key": "up/ours", "Type": "azurestore"})
    );
    let object = ObjectRef::new(&bucket, "up/ours");
    let blocks = Cloud::list_parts(&client, &object, "-").await.unwrap();
    let blocks: Vec<_> = blocks
        .iter()
        .map(|block| (block.number, block.size))
        .collect();
    assert_eq!(blocks, [(1, 65_536), (2, 65_536), (3, 65_536)]);
}
