//! Single objects.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use landfall_objects::Cloud as _;
use landfall_s3::client::{Condition, ErrorKind, ObjectHeaders, Operation, Payload};

use super::{Bucket, on_each};
use crate::support::{MIB, assert_same, pattern, pieces};

on_each!(
    put_and_read_object_with_headers,
    missing_object_is_reported,
    ranges,
    an_empty_object,
    every_key_round_trips,
    odd_header_values,
    a_large_object_in_many_chunks_and_runtimes,
);

async fn put_object(bucket: &Bucket, key: &str, bytes: &[u8]) -> String {
    let payload = Payload::from(Bytes::copy_from_slice(bytes));
    bucket
        .client
        .put_object(
            &bucket.object_ref(key),
            payload,
            &ObjectHeaders::default(),
            Condition::None,
        )
        .await
        .unwrap()
}

async fn get(bucket: &Bucket, key: &str) -> Bytes {
    let object = bucket
        .client
        .get_object(&bucket.object_ref(key), None)
        .await
        .unwrap();
    object.bytes(1 << 30).await.unwrap()
}

async fn put_and_read_object_with_headers(bucket: Bucket) {
    let object_ref = bucket.object_ref("folder/object");
    let object = ObjectHeaders {
        content_type: Some("video/mp4".to_owned()),
        content_disposition: Some("attachment; filename=\"a b.mp4\"".to_owned()),
        cache_control: Some("max-age=60".to_owned()),
        metadata: [
            ("plain".to_owned(), "value".to_owned()),
            ("coded".to_owned(), "w%C3%B6rld=?&".to_owned()),
        ]
        .into(),
        ..ObjectHeaders::default()
    };
    let payload = Payload::new(vec!["he".into(), Bytes::new(), "llo".into()], None);
    let etag = bucket
        .client
        .put_object(&object_ref, payload, &object, Condition::None)
        .await
        .unwrap();
    assert_eq!(etag, "\"5d41402abc4b2a76b9719d911017c592\"");

    let head = bucket.client.head_object(&object_ref).await.unwrap();
    assert_eq!((head.size, &head.etag), (5, &etag));
    assert_eq!(head.content_type.as_deref(), Some("video/mp4"));
    assert_eq!(head.metadata, object.metadata);
    let age = SystemTime::now()
        .duration_since(head.modified.unwrap())
        .unwrap_or_default();
    assert!(age < Duration::from_secs(60), "{age:?}");

    let read = bucket.client.get_object(&object_ref, None).await.unwrap();
    assert_eq!(read.head, head);
    assert_eq!(read.range, 0..5);
    assert_eq!(read.bytes(5).await.unwrap(), "hello");

    put_object(&bucket, "folder/object", b"other").await;
    assert_eq!(get(&bucket, "folder/object").await, "other");
    assert!(
        bucket
            .client
            .head_object(&object_ref)
            .await
            .unwrap()
            .metadata
            .is_empty()
    );

    bucket.client.delete_object(&object_ref).await.unwrap();
    let error = bucket.client.head_object(&object_ref).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
    let stats = bucket.client.stats();
    assert_eq!(stats.operation(Operation::PutObject.name()).bytes_out, 10);
    assert_eq!(stats.operation(Operation::HeadObject.name()).failures, 1);
    assert_eq!(stats.calls(), stats.requests(), "nothing was tried twice");
}

async fn missing_object_is_reported(bucket: Bucket) {
    let object_ref = bucket.object_ref("nothing");
    let error = bucket
        .client
        .get_object(&object_ref, None)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
    let error = bucket.client.head_object(&object_ref).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
    bucket.client.delete_object(&object_ref).await.unwrap();
}

async fn ranges(bucket: Bucket) {
    put_object(&bucket, "k", b"0123456789").await;
    let object_ref = bucket.object_ref("k");
    for (range, got) in [(0..1, 0..1), (3..7, 3..7), (9..10, 9..10), (8..999, 8..10)] {
        let object = bucket
            .client
            .get_object(&object_ref, Some(range))
            .await
            .unwrap();
        assert_eq!((object.head.size, object.range.clone()), (10, got.clone()));
        let bytes = object.bytes(10).await.unwrap();
        assert_eq!(bytes, &b"0123456789"[got.start as usize..got.end as usize]);
    }
    let error = bucket
        .client
        .get_object(&object_ref, Some(10..11))
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidRange);
}

async fn an_empty_object(bucket: Bucket) {
    let etag = put_object(&bucket, "empty", b"").await;
    assert_eq!(etag, "\"d41d8cd98f00b204e9800998ecf8427e\"");
    assert_eq!(get(&bucket, "empty").await, "");
    assert_eq!(
        bucket
            .client
            .head_object(&bucket.object_ref("empty"))
            .await
            .unwrap()
            .size,
        0
    );
}

async fn every_key_round_trips(bucket: Bucket) {
    let mut keys = vec![
        "a b",
        "a+b",
        "a%20b",
        "a%2Fb",
        "ü/é/名",
        "x//y",
        "~t-_.",
        "q?x=1&y#z",
        "(1)'!*",
        "trail/",
        "a;b,c:d@e$f",
        "quote\"<>&'|^`{}[]\\",
        " lead",
        "trail ",
        "%",
        "...",
        "a/..b/c",
    ];
    for key in &keys {
        put_object(&bucket, key, key.as_bytes()).await;
    }
    for key in &keys {
        assert_eq!(get(&bucket, key).await, key.as_bytes(), "{key:?}");
        let page = bucket
            .client
            .list_objects(&bucket.name, key, None, 10)
            .await
            .unwrap();
        let listed: Vec<_> = page
            .objects
            .iter()
            .map(|object| object.key.as_str())
            .collect();
        assert!(listed.contains(key), "{key:?} is not in {listed:?}");
    }
    let page = bucket
        .client
        .list_objects(&bucket.name, "", None, 1_000)
        .await
        .unwrap();
    let listed: Vec<_> = page.objects.into_iter().map(|object| object.key).collect();
    keys.sort_unstable();
    assert_eq!(listed, keys);
    for key in &keys {
        bucket
            .client
            .delete_object(&bucket.object_ref(key))
            .await
            .unwrap();
    }
    let page = bucket
        .client
        .list_objects(&bucket.name, "", None, 1_000)
        .await
        .unwrap();
    assert_eq!(page.objects, []);
}

/// Signatures cover values with collapsed spaces.
async fn odd_header_values(bucket: Bucket) {
    let object_ref = bucket.object_ref("odd");
    let object = ObjectHeaders {
        content_disposition: Some("attachment;  filename=\"two  spaces.txt\"".to_owned()),
        metadata: [("spaces".to_owned(), "one  two".to_owned())].into(),
        ..ObjectHeaders::default()
    };
    let payload = Payload::from(Bytes::from_static(b"x"));
    bucket
        .client
        .put_object(&object_ref, payload, &object, Condition::None)
        .await
        .unwrap();
    let head = bucket.client.head_object(&object_ref).await.unwrap();
    assert_eq!(head.metadata, object.metadata);
}

async fn a_large_object_in_many_chunks_and_runtimes(bucket: Bucket) {
    let bytes = pattern(7, 20 * MIB + 17);
    let object_ref = bucket.object_ref("large");
    let payload = Payload::new(pieces(&bytes), None);
    let client = bucket.client.clone();
    // A short-lived second runtime has separate connections.
    let sent = std::thread::spawn({
        let object_ref = object_ref.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let object = ObjectHeaders::default();
            runtime.block_on(client.put_object(&object_ref, payload, &object, Condition::None))
        }
    });
    tokio::task::spawn_blocking(|| sent.join().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_same(&get(&bucket, "large").await, &bytes);
    let whole = bucket.client.stats().operation(Operation::GetObject.name());
    assert_eq!(whole.bytes_in, bytes.len() as u64);
}

#[tokio::test]
async fn a_digest_is_checked_by_the_service() {
    use sha2::{Digest, Sha256};
    let bucket = Bucket::garage();
    let chunk = Bytes::from_static(b"hello");
    let right = Payload::new(vec![chunk.clone()], Some(Sha256::digest(&chunk).into()));
    let wrong = Payload::new(vec![chunk], Some([7; 32]));
    let object = ObjectHeaders::default();
    let object_ref = bucket.object_ref("checked");
    bucket
        .client
        .put_object(&object_ref, right, &object, Condition::None)
        .await
        .unwrap();
    bucket.client.delete_object(&object_ref).await.unwrap();
    bucket
        .client
        .put_object(&object_ref, wrong, &object, Condition::None)
        .await
        .unwrap_err();
    let error = bucket.client.head_object(&object_ref).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
}

#[tokio::test]
async fn conditions() {
    let bucket = Bucket::moto();
    let object_ref = bucket.object_ref("one");
    let put_object = async |text: &'static str, condition| {
        let payload = Payload::from(Bytes::from_static(text.as_bytes()));
        let object = ObjectHeaders::default();
        bucket
            .client
            .put_object(&object_ref, payload, &object, condition)
            .await
    };
    let first = put_object("first", Condition::IfAbsent).await.unwrap();
    let error = put_object("second", Condition::IfAbsent).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    let second = put_object("second", Condition::IfMatch(first.clone()))
        .await
        .unwrap();
    let error = put_object("third", Condition::IfMatch(first))
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    assert_eq!(
        bucket.client.head_object(&object_ref).await.unwrap().etag,
        second
    );
}
