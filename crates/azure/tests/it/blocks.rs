//! Blocks: tusd's ids, the sentinel, commits, copies.

use landfall_azure::{AccessTier, AzureClient};
use landfall_objects::{
    Cloud as _, Condition, ErrorKind, ObjectHeaders, ObjectRef, Part, PartCondition,
};
use landfall_test_services::Azurite;

use crate::{Container, client, payload};

fn owned(owner: &str) -> ObjectHeaders {
    ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        content_disposition: Some("attachment".to_owned()),
        metadata: [("landfall-upload".to_owned(), owner.to_owned())].into(),
        ..ObjectHeaders::default()
    }
}

async fn begin(client: &AzureClient, object: &ObjectRef) {
    let headers = ObjectHeaders::default();
    client.create_multipart(object, &headers).await.unwrap();
}

/// Returns the tag of the part.
async fn stage(
    client: &AzureClient,
    object: &ObjectRef,
    number: u32,
    bytes: &'static [u8],
) -> String {
    let part = client.upload_part(object, "", number, payload(bytes), PartCondition::default());
    part.await.unwrap()
}

async fn parts(container: &Container, object: &ObjectRef) -> Vec<(u32, u64)> {
    let parts = container.client.list_parts(object, "").await.unwrap();
    parts
        .iter()
        .map(|part: &Part| (part.number, part.size))
        .collect()
}

#[tokio::test]
async fn parts_become_a_blob() {
    let container = Container::new();
    let (object, client) = (container.blob("folder/a b+c"), &container.client);
    assert_eq!(parts(&container, &object).await, [], "nothing is staged");
    begin(client, &object).await;
    assert_eq!(parts(&container, &object).await, [], "only the sentinel");
    let two = stage(client, &object, 2, b"world").await;
    stage(client, &object, 1, b"?").await;
    let one = stage(client, &object, 1, b"hello ").await;
    // Of a process that does not know of its end.
    stage(client, &object, 1_026, b"stale").await;
    assert_eq!(
        parts(&container, &object).await,
        [(1, 6), (2, 5), (1_026, 5)]
    );
    let listed = client.list_parts(&object, "").await.unwrap();
    assert_eq!((&listed[0].etag, &listed[1].etag), (&one, &two));
    let error = client
        .head_object(&object)
        .await
        .expect_err("not committed");
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);

    let planned = [(1, one), (2, two)];
    let etag = client
        .complete_multipart(&object, "", &planned, &owned("a"))
        .await
        .unwrap();
    let head = client.head_object(&object).await.unwrap();
    assert_eq!((head.size, &head.etag), (11, &etag));
    assert_eq!(head.content_type.as_deref(), Some("text/plain"));
    assert_eq!(head.metadata["landfall-upload"], "a");
    assert_eq!(container.read(&object).await, "hello world");
    let error = client.list_parts(&object, "").await.expect_err("committed");
    assert_eq!(*error.kind(), ErrorKind::NoSuchUpload);

    // A commit whose response was lost.
    let again = client
        .complete_multipart(&object, "", &planned, &owned("a"))
        .await
        .unwrap();
    assert_eq!(again, etag);
    for other in [owned("b"), ObjectHeaders::default()] {
        let error = client
            .complete_multipart(&object, "", &planned, &other)
            .await;
        assert_eq!(
            *error.expect_err("of another upload").kind(),
            ErrorKind::PreconditionFailed
        );
    }
    let error = client
        .complete_multipart(&object, "", &planned[..1], &owned("a"))
        .await;
    assert_eq!(
        *error.expect_err("another size").kind(),
        ErrorKind::PreconditionFailed
    );
}

#[tokio::test]
async fn empty_blobs() {
    let container = Container::new();
    let (object, client) = (container.blob("empty"), &container.client);
    begin(client, &object).await;
    client
        .complete_multipart(&object, "", &[], &owned("a"))
        .await
        .unwrap();
    client
        .complete_multipart(&object, "", &[], &owned("a"))
        .await
        .unwrap();
    assert_eq!(client.head_object(&object).await.unwrap().size, 0);
    let error = client.list_parts(&object, "").await.expect_err("committed");
    assert_eq!(*error.kind(), ErrorKind::NoSuchUpload);
    assert_eq!(container.read(&object).await, "");
    let error = client
        .upload_part(&object, "", 1, payload(b""), PartCondition::default())
        .await
        .expect_err("no byte");
    assert_eq!(*error.kind(), ErrorKind::InvalidPart);
    let error = client
        .upload_part(&object, "", 0, payload(b"x"), PartCondition::default())
        .await
        .expect_err("no part");
    assert_eq!(*error.kind(), ErrorKind::InvalidPart);
}

#[tokio::test]
async fn uploads_of_an_old_tusd_have_no_sentinel() {
    let container = Container::new();
    let (object, client) = (container.blob("old"), &container.client);
    stage(client, &object, 1, b"abc").await;
    assert_eq!(parts(&container, &object).await, [(1, 3)]);
}

#[tokio::test]
async fn late_blocks_do_not_reopen_a_finished_upload() {
    let container = Container::new();
    let (object, client) = (container.blob("late"), &container.client);
    begin(client, &object).await;
    let tag = stage(client, &object, 1, b"abc").await;
    client
        .complete_multipart(&object, "", &[(1, tag)], &owned("a"))
        .await
        .unwrap();
    stage(client, &object, 2, b"late").await;
    let error = client.list_parts(&object, "").await.expect_err("committed");
    assert_eq!(*error.kind(), ErrorKind::NoSuchUpload);
    // With the sentinel, an upload has begun over it.
    begin(client, &object).await;
    assert_eq!(parts(&container, &object).await, [(2, 4)]);
    let error = client
        .complete_multipart(&object, "", &[(2, "4".to_owned())], &owned("b"))
        .await;
    assert_eq!(
        *error.expect_err("a blob is never replaced").kind(),
        ErrorKind::PreconditionFailed
    );
    assert_eq!(container.read(&object).await, "abc");
}

#[tokio::test]
async fn an_upload_may_be_written_as_a_whole() {
    let container = Container::new();
    let archiving = client(
        ("AZURE_STORAGE_KEY", Azurite::KEY),
        Some(AccessTier::Archive),
    );
    for bytes in [&b""[..], b"abc"] {
        let object = container.blob(&format!("whole {}", bytes.len()));
        begin(&archiving, &object).await;
        let condition = Condition::IfAbsent;
        let headers = owned("a");
        let put = archiving.put_object(&object, payload(bytes), &headers, condition, None);
        put.await.unwrap();
        let error = archiving
            .list_parts(&object, "")
            .await
            .expect_err("finished");
        assert_eq!(*error.kind(), ErrorKind::NoSuchUpload);
        archiving.abort_multipart(&object, "").await.unwrap();
        assert_eq!(
            archiving.head_object(&object).await.unwrap().size,
            bytes.len() as u64
        );
        let error = archiving
            .get_object(&object, None)
            .await
            .expect_err("archived");
        assert_eq!(*error.kind(), ErrorKind::Archived);
    }
}

#[tokio::test]
async fn a_missing_block_is_an_invalid_part() {
    let container = Container::new();
    let (object, client) = (container.blob("missing"), &container.client);
    begin(client, &object).await;
    let error = client
        .complete_multipart(&object, "", &[(1, "3".to_owned())], &owned("a"))
        .await;
    assert_eq!(*error.expect_err("missing").kind(), ErrorKind::InvalidPart);
}

#[tokio::test]
async fn aborted_uploads_are_gone() {
    let container = Container::new();
    let (object, client) = (container.blob("aborted"), &container.client);
    client.abort_multipart(&object, "").await.unwrap();
    begin(client, &object).await;
    stage(client, &object, 1, b"abc").await;
    client.abort_multipart(&object, "").await.unwrap();
    assert_eq!(parts(&container, &object).await, []);
    let error = client.head_object(&object).await.expect_err("deleted");
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
    client.abort_multipart(&object, "").await.unwrap();

    let tag = stage(client, &object, 1, b"abc").await;
    client
        .complete_multipart(&object, "", &[(1, tag)], &owned("a"))
        .await
        .unwrap();
    client.abort_multipart(&object, "").await.unwrap();
    assert_eq!(
        container.read(&object).await,
        "abc",
        "a blob is never deleted"
    );
    let empty = container.blob("empty");
    client
        .complete_multipart(&empty, "", &[], &owned("a"))
        .await
        .unwrap();
    client.abort_multipart(&empty, "").await.unwrap();
    assert_eq!(client.head_object(&empty).await.unwrap().size, 0);
}

#[tokio::test]
async fn an_abort_that_was_killed_is_repeated() {
    let container = Container::new();
    let (object, client) = (container.blob("half"), &container.client);
    let mut headers = ObjectHeaders::default();
    headers
        .metadata
        .insert("landfall-aborted".to_owned(), "1".to_owned());
    client
        .complete_multipart(&object, "", &[], &headers)
        .await
        .unwrap();
    client.abort_multipart(&object, "").await.unwrap();
    assert_eq!(
        *client.head_object(&object).await.expect_err("gone").kind(),
        ErrorKind::NoSuchKey
    );
}

#[tokio::test]
async fn idle_uploads_are_kept() {
    let container = Container::new();
    let (object, client) = (container.blob("idle"), &container.client);
    client.keep_parts(&object).await.unwrap();
    begin(client, &object).await;
    client.abort_multipart(&object, "").await.unwrap();
    client.keep_parts(&object).await.unwrap();
    begin(client, &object).await;
    let tag = stage(client, &object, 1, b"abc").await;
    client.keep_parts(&object).await.unwrap();
    assert_eq!(parts(&container, &object).await, [(1, 3)]);
    client
        .complete_multipart(&object, "", &[(1, tag)], &owned("a"))
        .await
        .unwrap();
    client.keep_parts(&object).await.unwrap();
    let error = client
        .list_parts(&object, "")
        .await
        .expect_err("still finished");
    assert_eq!(*error.kind(), ErrorKind::NoSuchUpload);
}

#[tokio::test]
async fn ranges_are_copied() {
    let container = Container::new();
    let (source, client) = (container.blob("a source+ü"), &container.client);
    let (bytes, headers) = (payload(b"0123456789"), ObjectHeaders::default());
    client
        .put_object(&source, bytes, &headers, Condition::None, None)
        .await
        .unwrap();
    let object = container.blob("copy");
    begin(client, &object).await;
    let one = client
        .copy_part(&object, "", 1, &source, 3..10)
        .await
        .unwrap();
    let two = client
        .copy_part(&object, "", 2, &source, 0..3)
        .await
        .unwrap();
    assert_eq!(parts(&container, &object).await, [(1, 7), (2, 3)]);
    let missing = client
        .copy_part(&object, "", 3, &container.blob("missing"), 0..1)
        .await;
    assert_eq!(*missing.expect_err("missing").kind(), ErrorKind::NoSuchKey);
    let empty = client.copy_part(&object, "", 3, &source, 3..3).await;
    assert_eq!(*empty.expect_err("empty").kind(), ErrorKind::InvalidRange);
    let planned = [(1, one), (2, two)];
    client
        .complete_multipart(&object, "", &planned, &owned("a"))
        .await
        .unwrap();
    assert_eq!(container.read(&object).await, "3456789012");
}

#[tokio::test]
async fn archived_blobs_cannot_be_read() {
    let container = Container::new();
    let archiving = client(
        ("AZURE_STORAGE_KEY", Azurite::KEY),
        Some(AccessTier::Archive),
    );
    let object = container.blob("archived");
    begin(&archiving, &object).await;
    let tag = stage(&archiving, &object, 1, b"abc").await;
    archiving
        .complete_multipart(&object, "", &[(1, tag)], &owned("a"))
        .await
        .unwrap();
    assert_eq!(archiving.head_object(&object).await.unwrap().size, 3);
    let error = archiving
        .get_object(&object, None)
        .await
        .expect_err("archived");
    assert_eq!(*error.kind(), ErrorKind::Archived);
    assert!(error.to_string().contains("rehydrate"), "{error}");
    // Descriptions stay readable.
    let info = container.blob("archived.info");
    let headers = ObjectHeaders::default();
    archiving
        .put_object(&info, payload(b"{}"), &headers, Condition::None, None)
        .await
        .unwrap();
    assert_eq!(container.read(&info).await, "{}");
    for tier in [AccessTier::Hot, AccessTier::Cool, AccessTier::Cold] {
        let client = client(("AZURE_STORAGE_KEY", Azurite::KEY), Some(tier));
        let object = container.blob(&format!("{tier:?}"));
        let tag = stage(&client, &object, 1, b"abc").await;
        client
            .complete_multipart(&object, "", &[(1, tag)], &owned("a"))
            .await
            .unwrap();
        assert_eq!(container.read(&object).await, "abc");
    }
}

#[tokio::test]
async fn hundreds_of_blocks_are_in_order() {
    let container = Container::new();
    let (object, client) = (container.blob("many"), &container.client);
    let mut planned = Vec::new();
    for number in (1..=300).rev() {
        let bytes = bytes::Bytes::from(format!("{number:03}"));
        let tag = client
            .upload_part(&object, "", number, bytes.into(), PartCondition::default())
            .await
            .unwrap();
        planned.push((number, tag));
    }
    planned.reverse();
    let listed = client.list_parts(&object, "").await.unwrap();
    let listed: Vec<_> = listed
        .into_iter()
        .map(|part| (part.number, part.etag))
        .collect();
    assert_eq!(listed, planned);
    client
        .complete_multipart(&object, "", &planned, &owned("a"))
        .await
        .unwrap();
    let whole: String = (1..=300).map(|number| format!("{number:03}")).collect();
    assert_eq!(container.read(&object).await, whole);
}
