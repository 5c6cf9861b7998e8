//! Multipart uploads.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use landfall_objects::{Cloud as _, PartCondition};
use landfall_s3::client::{ErrorKind, ObjectHeaders, ObjectRef, Operation, Payload};

use super::{Bucket, on, on_each};
use crate::support::{MIB, assert_same, pattern, pieces};

on_each!(
    completed_parts_become_an_object,
    complete_is_idempotent,
    aborted_upload_no_longer_exists,
    parts_are_copied,
    a_part_is_replaced,
    multipart_uploads_are_listed_page_by_page,
    thousands_of_parts,
);

async fn create(bucket: &Bucket, object_ref: &ObjectRef) -> String {
    bucket
        .client
        .create_multipart(object_ref, &ObjectHeaders::default())
        .await
        .unwrap()
}

async fn upload(
    bucket: &Bucket,
    object_ref: &ObjectRef,
    id: &str,
    number: u32,
    bytes: &Bytes,
) -> String {
    let payload = Payload::new(pieces(bytes), None);
    bucket
        .client
        .upload_part(object_ref, id, number, payload, PartCondition::default())
        .await
        .unwrap()
}

async fn read(bucket: &Bucket, object_ref: &ObjectRef) -> Bytes {
    let object = bucket.client.get_object(object_ref, None).await.unwrap();
    object.bytes(1 << 30).await.unwrap()
}

async fn completed_parts_become_an_object(bucket: Bucket) {
    let object_ref = bucket.object_ref("a key/with+all ü");
    let object = ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        metadata: [("name".to_owned(), "value".to_owned())].into(),
        ..ObjectHeaders::default()
    };
    let id = bucket
        .client
        .create_multipart(&object_ref, &object)
        .await
        .unwrap();
    assert_eq!(
        bucket.client.list_parts(&object_ref, &id).await.unwrap(),
        []
    );
    let bytes = pattern(1, 10 * MIB + 12_345);
    // Concurrently and out of order.
    let [one, two, three] =
        [0..5 * MIB, 5 * MIB..10 * MIB, 10 * MIB..bytes.len()].map(|range| bytes.slice(range));
    let (third, first, second) = tokio::join!(
        upload(&bucket, &object_ref, &id, 3, &three),
        upload(&bucket, &object_ref, &id, 1, &one),
        upload(&bucket, &object_ref, &id, 2, &two),
    );
    let parts = bucket.client.list_parts(&object_ref, &id).await.unwrap();
    let listed: Vec<_> = parts
        .iter()
        .map(|part| (part.number, part.size, part.etag.clone()))
        .collect();
    let size = 5 * MIB as u64;
    let wanted = [
        (1, size, first.clone()),
        (2, size, second.clone()),
        (3, 12_345, third.clone()),
    ];
    assert_eq!(listed, wanted);
    assert!(parts[0].modified.is_some());

    let parts = [(1, first), (2, second), (3, third)];
    bucket
        .client
        .complete_multipart(&object_ref, &id, &parts, &ObjectHeaders::default())
        .await
        .unwrap();
    assert_same(&read(&bucket, &object_ref).await, &bytes);
    let head = bucket.client.head_object(&object_ref).await.unwrap();
    assert_eq!(head.metadata, object.metadata);
    assert_eq!(head.content_type.as_deref(), Some("text/plain"));
}

async fn complete_is_idempotent(bucket: Bucket) {
    let object_ref = bucket.object_ref("twice");
    let id = create(&bucket, &object_ref).await;
    let etag = upload(&bucket, &object_ref, &id, 1, &pattern(2, 1_000)).await;
    let parts = [(1, etag)];
    bucket
        .client
        .complete_multipart(&object_ref, &id, &parts, &ObjectHeaders::default())
        .await
        .unwrap();
    bucket
        .client
        .complete_multipart(&object_ref, &id, &parts, &ObjectHeaders::default())
        .await
        .unwrap();
}

async fn aborted_upload_no_longer_exists(bucket: Bucket) {
    let object_ref = bucket.object_ref("aborted");
    let id = create(&bucket, &object_ref).await;
    upload(&bucket, &object_ref, &id, 1, &pattern(3, 10)).await;
    bucket
        .client
        .abort_multipart(&object_ref, &id)
        .await
        .unwrap();
    bucket
        .client
        .abort_multipart(&object_ref, &id)
        .await
        .unwrap();
    let error = bucket.client.head_object(&object_ref).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
}

async fn parts_are_copied(bucket: Bucket) {
    copy_parts(bucket, "a source+ü/").await;
}

// Ceph 16 decodes the source twice.
on!(of_odd_key_on_garage, garage: parts_of_an_odd_key_are_copied);
on!(of_odd_key_on_moto, moto: parts_of_an_odd_key_are_copied);

async fn parts_of_an_odd_key_are_copied(bucket: Bucket) {
    copy_parts(bucket, "a source+ü/%").await;
}

async fn copy_parts(bucket: Bucket, source: &str) {
    let source = bucket.object_ref(source);
    let bytes = pattern(4, 11 * MIB);
    let payload = Payload::from(bytes.clone());
    let object = ObjectHeaders::default();
    let condition = landfall_s3::client::Condition::None;
    bucket
        .client
        .put_object(&source, payload, &object, condition)
        .await
        .unwrap();
    let object_ref = bucket.object_ref("target");
    let id = create(&bucket, &object_ref).await;
    let [all, middle] = [0..11, 5..10].map(|part| part.start * MIB as u64..part.end * MIB as u64);
    let copy = async |number, range| {
        bucket
            .client
            .copy_part(&object_ref, &id, number, &source, range)
            .await
            .unwrap()
    };
    let parts = [(1, copy(1, all).await), (2, copy(2, middle).await)];
    bucket
        .client
        .complete_multipart(&object_ref, &id, &parts, &ObjectHeaders::default())
        .await
        .unwrap();
    let wanted = [&bytes[..], &bytes[5 * MIB..10 * MIB]].concat();
    assert_same(&read(&bucket, &object_ref).await, &wanted);

    let id = create(&bucket, &object_ref).await;
    let missing = bucket.object_ref("missing");
    let copied = bucket
        .client
        .copy_part(&object_ref, &id, 1, &missing, 0..5)
        .await;
    let error = copied.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey, "{error:?}");
    bucket
        .client
        .abort_multipart(&object_ref, &id)
        .await
        .unwrap();
}

async fn a_part_is_replaced(bucket: Bucket) {
    let object_ref = bucket.object_ref("replaced");
    let id = create(&bucket, &object_ref).await;
    upload(&bucket, &object_ref, &id, 1, &pattern(5, 100)).await;
    let etag = upload(&bucket, &object_ref, &id, 1, &pattern(6, 200)).await;
    let parts = bucket.client.list_parts(&object_ref, &id).await.unwrap();
    let listed: Vec<_> = parts.iter().map(|part| (part.size, &part.etag)).collect();
    assert_eq!(listed, [(200, &etag)]);
    bucket
        .client
        .complete_multipart(&object_ref, &id, &[(1, etag)], &ObjectHeaders::default())
        .await
        .unwrap();
    assert_same(&read(&bucket, &object_ref).await, &pattern(6, 200));
}

async fn multipart_uploads_are_listed_page_by_page(bucket: Bucket) {
    let mut wanted = Vec::new();
    for key in ["p/a b", "p/b+c", "p/c%20", "p/dü", "p/e", "q"] {
        let object_ref = bucket.object_ref(key);
        wanted.push((key.to_owned(), create(&bucket, &object_ref).await));
    }
    assert_eq!(list(&bucket, "", 1_000).await, wanted);
    assert_eq!(list(&bucket, "p/", 2).await, wanted[..5]);
    assert_eq!(list(&bucket, "nothing", 2).await, []);
    for (key, id) in &wanted {
        bucket
            .client
            .abort_multipart(&bucket.object_ref(key), id)
            .await
            .unwrap();
    }
    assert_eq!(list(&bucket, "", 1_000).await, []);
}

/// All pages of at most `most` entries, sorted, since Garage does not sort within a page.
async fn list(bucket: &Bucket, prefix: &str, most: u32) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = bucket
            .client
            .list_multiparts(&bucket.name, prefix, after, most)
            .await
            .unwrap();
        assert!(page.uploads.iter().all(|upload| upload.initiated.is_some()));
        // moto returns all in one page.
        assert!(page.next.is_none() || page.uploads.len() == most as usize);
        all.extend(
            page.uploads
                .into_iter()
                .map(|upload| (upload.key, upload.upload_id)),
        );
        after = page.next;
        if after.is_none() {
            all.sort_unstable();
            return all;
        }
    }
}

/// moto fails on these with a 500.
#[tokio::test]
async fn missing_multipart_upload_is_reported() {
    let bucket = Bucket::garage();
    let object_ref = bucket.object_ref("gone");
    let id = create(&bucket, &object_ref).await;
    let etag = upload(&bucket, &object_ref, &id, 1, &pattern(3, 10)).await;
    let parts = [(1, etag)];
    bucket
        .client
        .complete_multipart(&object_ref, &id, &parts, &ObjectHeaders::default())
        .await
        .unwrap();
    bucket.client.delete_object(&object_ref).await.unwrap();
    let gone = ErrorKind::NoSuchUpload;
    let error = bucket
        .client
        .complete_multipart(&object_ref, &id, &parts, &ObjectHeaders::default())
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), gone, "{error}");
    let error = bucket
        .client
        .list_parts(&object_ref, &id)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), gone, "{error}");
    let payload = Payload::from(Bytes::from_static(b"x"));
    let error = bucket
        .client
        .upload_part(&object_ref, &id, 1, payload, PartCondition::default())
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), gone, "{error}");
}

#[tokio::test]
async fn garage_honors_page_size() {
    let bucket = Bucket::garage();
    for number in 0..5 {
        create(&bucket, &bucket.object_ref(&format!("k{number}"))).await;
    }
    let page = bucket
        .client
        .list_multiparts(&bucket.name, "", None, 2)
        .await
        .unwrap();
    assert_eq!(page.uploads.len(), 2);
    assert!(page.next.is_some());
    assert_eq!(list(&bucket, "", 2).await.len(), 5);
}

#[tokio::test]
async fn small_middle_part_is_reported() {
    let bucket = Bucket::moto();
    let object_ref = bucket.object_ref("small");
    let id = create(&bucket, &object_ref).await;
    let bytes = pattern(8, 10);
    let parts = [
        (1, upload(&bucket, &object_ref, &id, 1, &bytes).await),
        (2, upload(&bucket, &object_ref, &id, 2, &bytes).await),
    ];
    let error = bucket
        .client
        .complete_multipart(&object_ref, &id, &parts, &ObjectHeaders::default())
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::EntityTooSmall);
}

/// More than one page of them.
async fn thousands_of_parts(bucket: Bucket) {
    const PARTS: u32 = 1_100;
    let object_ref = bucket.object_ref("many");
    let id = create(&bucket, &object_ref).await;
    let byte = |number: u32| Bytes::from(vec![number as u8; 1]);
    let uploads = (1..=PARTS).map(|number| {
        let (bucket, object_ref, id) = (&bucket, &object_ref, &id);
        async move {
            (
                number,
                upload(bucket, object_ref, id, number, &byte(number)).await,
            )
        }
    });
    let mut sent: Vec<_> = stream::iter(uploads).buffer_unordered(8).collect().await;
    sent.sort_unstable();
    let parts = bucket.client.list_parts(&object_ref, &id).await.unwrap();
    let listed: Vec<_> = parts
        .into_iter()
        .map(|part| (part.number, part.etag))
        .collect();
    let stats = bucket.client.stats().operation(Operation::ListParts.name());
    assert_eq!(stats.calls, 2, "pages");
    assert_eq!(listed, sent);
    bucket
        .client
        .abort_multipart(&object_ref, &id)
        .await
        .unwrap();
}
