//! Whole blobs: writes with conditions, reads of ranges, listings.

use landfall_objects::{Cloud as _, Condition, ErrorKind, ObjectHeaders, Result};

use crate::{Container, payload};

async fn put_text(
    container: &Container,
    key: &str,
    bytes: &'static [u8],
    condition: Condition,
) -> Result<String> {
    let (object, headers) = (container.blob(key), ObjectHeaders::default());
    let put = container
        .client
        .put_object(&object, payload(bytes), &headers, condition, None);
    put.await
}

#[tokio::test]
async fn objects_keep_their_headers() {
    let container = Container::new();
    let object = container.blob("folder/a b+c~ü%&?.txt");
    let text = |text: &str| Some(text.to_owned());
    let headers = ObjectHeaders {
        content_type: text("text/x-test"),
        content_disposition: text("attachment; filename=\"a.txt\""),
        cache_control: text("no-store"),
        metadata: [
            ("filename", "grün"),
            ("landfall-upload", "id"),
            ("a-b", "c"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..ObjectHeaders::default()
    };
    let client = &container.client;
    let etag = client.put_object(&object, payload(b"hello"), &headers, Condition::None, None);
    let etag = etag.await.unwrap();
    let head = client.head_object(&object).await.unwrap();
    assert_eq!((head.size, &head.etag), (5, &etag));
    assert_eq!(head.content_type.as_deref(), Some("text/x-test"));
    assert!(head.modified.is_some());
    let metadata: Vec<_> = head
        .metadata
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(
        metadata,
        [
            ("a_b", "c"),
            ("filename", "gr?n"),
            ("landfall-upload", "id")
        ]
    );
    assert_eq!(container.read(&object).await, "hello");
    let part = client.get_object(&object, Some(1..4)).await.unwrap();
    assert_eq!((part.head.size, part.range.clone()), (5, 1..4));
    assert_eq!(part.bytes(10).await.unwrap(), "ell");
    let end = client.get_object(&object, Some(3..99)).await.unwrap();
    assert_eq!(end.bytes(10).await.unwrap(), "lo");
    let outside = client
        .get_object(&object, Some(6..9))
        .await
        .expect_err("outside");
    assert_eq!(*outside.kind(), ErrorKind::InvalidRange);
}

#[tokio::test]
async fn large_objects_are_verified_by_another_checksum() {
    let container = Container::new();
    let object = container.blob("large");
    let bytes = bytes::Bytes::from(
        (0..5 << 20)
            .map(|n: u32| (n % 251) as u8)
            .collect::<Vec<_>>(),
    );
    let headers = ObjectHeaders::default();
    let chunks = bytes
        .chunks(1 << 20)
        .map(|chunk| bytes.slice_ref(chunk))
        .collect();
    let payload = landfall_objects::Payload::new(chunks, None);
    let put = container
        .client
        .put_object(&object, payload, &headers, Condition::None, None);
    put.await.unwrap();
    assert!(container.read(&object).await == bytes);
}

#[tokio::test]
async fn missing_objects() {
    let container = Container::new();
    let object = container.blob("missing");
    let client = &container.client;
    let error = client.head_object(&object).await.expect_err("missing");
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
    let error = client.get_object(&object, None).await.expect_err("missing");
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
    client.delete_object(&object).await.unwrap();
    put_text(&container, "missing", b"x", Condition::None)
        .await
        .unwrap();
    client.delete_object(&object).await.unwrap();
    client.delete_object(&object).await.unwrap();
    let other = landfall_objects::ObjectRef::new("no-such-container", "k");
    let error = client
        .get_object(&other, None)
        .await
        .expect_err("no container");
    assert_eq!(*error.kind(), ErrorKind::NoSuchBucket);
    assert!(error.to_string().contains("--azure-storage"), "{error}");
}

#[tokio::test]
async fn writes_with_conditions() {
    let container = Container::new();
    let one = put_text(&container, "k", b"one", Condition::IfAbsent)
        .await
        .unwrap();
    let again = put_text(&container, "k", b"two", Condition::IfAbsent)
        .await
        .expect_err("there");
    assert_eq!(*again.kind(), ErrorKind::PreconditionFailed, "{again}");
    let two = put_text(&container, "k", b"two", Condition::IfMatch(one.clone()))
        .await
        .unwrap();
    assert_ne!(one, two);
    let stale = put_text(&container, "k", b"three", Condition::IfMatch(one))
        .await
        .expect_err("stale");
    assert_eq!(*stale.kind(), ErrorKind::PreconditionFailed, "{stale}");
    assert_eq!(container.read(&container.blob("k")).await, "two");
    let missing = put_text(&container, "m", b"x", Condition::IfMatch(two))
        .await
        .expect_err("missing");
    assert_eq!(*missing.kind(), ErrorKind::PreconditionFailed, "{missing}");
}

#[tokio::test]
async fn listings_have_pages() {
    let container = Container::new();
    let keys = ["in/a", "in/a b&<c>", "in/b", "in/b/c", "in/ü"];
    for key in keys.iter().chain(&["i", "out"]) {
        put_text(&container, key, b"x", Condition::None)
            .await
            .unwrap();
    }
    // Blocks without a commit are no blob.
    container
        .client
        .create_multipart(&container.blob("in/unfinished"), &ObjectHeaders::default())
        .await
        .unwrap();
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = container
            .client
            .list_objects(&container.name, "in/", after, 2)
            .await
            .unwrap();
        assert!(page.objects.len() <= 2 && page.time.is_some());
        pages += 1;
        found.extend(page.objects);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    let names: Vec<_> = found.iter().map(|object| &*object.key).collect();
    assert_eq!(names, keys);
    let head = container
        .client
        .head_object(&container.blob("in/a"))
        .await
        .unwrap();
    assert_eq!((found[0].size, &found[0].etag), (1, &head.etag));
    assert!(found[0].modified.is_some());
    let none = container
        .client
        .list_objects(&container.name, "no", None, 10)
        .await
        .unwrap();
    assert_eq!((none.objects.len(), none.next), (0, None));
}
