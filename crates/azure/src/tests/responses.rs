//! Lost responses, throttling, interrupted downloads.

use std::time::Duration;

use bytes::Bytes;
use landfall_objects::{Cloud as _, Condition, ErrorKind, ObjectHeaders, PartCondition, Payload};

use super::{ACCOUNT, KEY, client, object, payload, script::Step};

/// Of "hello".
const MD5: &str = "XUFAKrxLKna5cZ2REBfFkg==";

const SENTINEL: &str = "<BlockList><CommittedBlocks/><UncommittedBlocks><Block><Name>////fw==</Name>\
    <Size>1</Size></Block></UncommittedBlocks></BlockList>";

#[tokio::test]
async fn requests_are_signed_and_verified() {
    let (client, script) = client(
        [ACCOUNT, KEY],
        [Step::new(201).header("etag", "\"1\""), Step::new(201)],
    );
    let headers = ObjectHeaders::default();
    let blob = object();
    let put = client.put_object(&blob, payload(), &headers, Condition::IfAbsent, None);
    assert_eq!(put.await.unwrap(), "\"1\"");
    client
        .upload_part(&object(), "", 2, payload(), PartCondition::default())
        .await
        .unwrap();
    let [put, block] = &script.finished()[..] else {
        panic!("two requests")
    };
    assert_eq!(put.url, "https://acme.blob.core.windows.net/uploads/k");
    for (name, value) in [
        ("content-md5", Some(MD5)),
        ("if-none-match", Some("*")),
        ("x-ms-blob-type", Some("BlockBlob")),
        ("content-length", Some("5")),
        ("x-ms-version", Some("2025-11-05")),
    ] {
        assert_eq!(put.header(name), value, "{name}");
    }
    assert!(
        put.header("authorization")
            .unwrap()
            .starts_with("SharedKey acme:")
    );
    assert!(put.header("x-ms-date").is_some());
    let url = "https://acme.blob.core.windows.net/uploads/k?comp=block&blockid=AQAAAA%3D%3D";
    assert_eq!((&*block.url, &*block.body), (url, "hello"));
    assert_eq!(block.header("content-md5"), Some(MD5));
}

#[tokio::test]
async fn large_blocks_have_the_cheaper_checksum() {
    let unknown = Step::refusal(500, "FeatureNotSupported");
    let unknown =
        unknown.body("<Error><Message>x-ms-content-crc64 is not supported</Message></Error>");
    let steps = [Step::new(201), unknown, Step::new(201), Step::new(201)];
    let (client, script) = client([ACCOUNT, KEY], steps);
    let large = || Payload::from(Bytes::from(vec![b'x'; 1 << 20]));
    for _ in 0..3 {
        client
            .upload_part(&object(), "", 1, large(), PartCondition::default())
            .await
            .unwrap();
    }
    let sent = script.finished();
    let names = ["x-ms-content-crc64", "content-md5"];
    let found = sent
        .iter()
        .map(|sent| names.map(|name| sent.header(name).is_some()));
    // An old emulator knows only the other.
    assert_eq!(
        found.collect::<Vec<_>>(),
        [[true, false], [true, false], [false, true], [false, true]]
    );
}

#[tokio::test]
async fn the_source_of_a_copy_has_rights_of_its_own() {
    let signature = ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sr=c&sig=x%3D");
    let source = landfall_objects::ObjectRef::new("uploads", "a b");
    for (credential, query) in [
        (signature, "?sv=1&sr=c&sig=x%3D"),
        (KEY, "&sr=b&sp=r&spr=https&sig="),
    ] {
        let (client, script) = client([ACCOUNT, credential], [Step::new(201)]);
        let tag = client
            .copy_part(&object(), "", 1, &source, 2..7)
            .await
            .unwrap();
        assert_eq!(tag, "5");
        let copy = &script.finished()[0];
        let from = copy.header("x-ms-copy-source").unwrap();
        assert!(
            from.starts_with("https://acme.blob.core.windows.net/uploads/a%20b?sv="),
            "{from}"
        );
        assert!(from.contains(query), "{from}");
        assert_eq!(copy.header("x-ms-source-range"), Some("bytes=2-6"));
    }
}

#[tokio::test(start_paused = true)]
async fn throttled_requests_wait() {
    let steps = [
        Step::refusal(503, "ServerBusy").header("retry-after", "2"),
        Step::refusal(500, "OperationTimedOut"),
        Step::refusal(429, ""),
        Step::new(201),
    ];
    let (client, script) = client([ACCOUNT, KEY], steps);
    let started = tokio::time::Instant::now();
    client
        .create_multipart(&object(), &ObjectHeaders::default())
        .await
        .unwrap();
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(script.finished().len(), 4);
    assert_eq!(client.stats().operation("PutBlock").retries, 3);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_busy_is_unavailable() {
    let (client, script) = client(
        [ACCOUNT, KEY],
        (0..5).map(|_| Step::refusal(503, "ServerBusy")),
    );
    let error = client
        .create_multipart(&object(), &ObjectHeaders::default())
        .await
        .expect_err("busy");
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after: None });
    assert_eq!(script.finished().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_conditional_write_whose_response_was_lost() {
    for (digest, is_ours) in [(MD5, true), ("AAAAAAAAAAAAAAAAAAAAAA==", false)] {
        let head = Step::new(200)
            .header("content-length", 5)
            .header("etag", "\"1\"");
        let steps = [
            Step::lost(),
            Step::refusal(409, "BlobAlreadyExists"),
            head.header("content-md5", digest),
        ];
        let (client, script) = client([ACCOUNT, KEY], steps);
        let headers = ObjectHeaders::default();
        let blob = object();
        let put = client.put_object(&blob, payload(), &headers, Condition::IfAbsent, None);
        match put.await {
            Ok(etag) => assert!(is_ours && etag == "\"1\""),
            Err(error) => assert!(!is_ours && *error.kind() == ErrorKind::PreconditionFailed),
        }
        assert_eq!(script.finished().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_response_was_lost() {
    for size in [5, 6] {
        let head = Step::new(200)
            .header("content-length", size)
            .header("etag", "\"1\"");
        let steps = [Step::lost(), Step::refusal(409, "BlobAlreadyExists"), head];
        let (client, script) = client([ACCOUNT, KEY], steps);
        let parts = [(1, "5".to_owned())];
        let done = client
            .complete_multipart(&object(), "", &parts, &ObjectHeaders::default())
            .await;
        assert_eq!(done.is_ok(), size == 5);
        let sent = &script.finished()[1];
        assert!(
            sent.body.contains("<Uncommitted>AAAAAA==</Uncommitted>"),
            "{}",
            sent.body
        );
        assert_eq!(sent.header("if-none-match"), Some("*"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_whose_response_was_lost() {
    let head = Step::new(200)
        .header("content-length", 0)
        .header("etag", "\"1\"");
    let steps = [
        Step::new(200).body(SENTINEL),
        Step::lost(),
        Step::refusal(409, "BlobAlreadyExists"),
        head.header("x-ms-meta-landfall_aborted", 1),
        Step::new(202),
    ];
    let (client, script) = client([ACCOUNT, KEY], steps);
    client.abort_multipart(&object(), "").await.unwrap();
    let sent = script.finished();
    assert_eq!(
        (sent[4].method.as_str(), sent[4].header("if-match")),
        ("DELETE", Some("\"1\""))
    );
}

#[tokio::test(start_paused = true)]
async fn an_abort_deletes_no_blob_of_others() {
    let head = Step::new(200)
        .header("content-length", 0)
        .header("etag", "\"1\"");
    let steps = [
        Step::new(200).body(SENTINEL),
        Step::refusal(409, "BlobAlreadyExists"),
        head,
    ];
    let (client, script) = client([ACCOUNT, KEY], steps);
    client.abort_multipart(&object(), "").await.unwrap();
    assert_eq!(script.finished().len(), 3);
}

#[tokio::test]
async fn blocks_of_other_programs_are_an_error() {
    let (client, _) = client(
        [ACCOUNT, KEY],
        [Step::new(200).body(SENTINEL.replace("////fw==", "YmxvY2stMQ=="))],
    );
    let error = client
        .list_parts(&object(), "")
        .await
        .expect_err("not ours");
    assert!(error.to_string().contains("another program"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn interrupted_downloads_go_on_with_the_same_version() {
    let first = Step::new(200)
        .header("content-length", 5)
        .header("etag", "\"1\"");
    let second = Step::new(206)
        .header("content-range", "bytes 2-4/5")
        .header("etag", "\"1\"");
    let (client, script) = client([ACCOUNT, KEY], [first.body("he").cut(), second.body("llo")]);
    let opened = client.get_object(&object(), None).await.unwrap();
    assert_eq!(opened.bytes(10).await.unwrap(), "hello");
    let sent = &script.finished()[1];
    assert_eq!(
        (sent.header("range"), sent.header("if-match")),
        (Some("bytes=2-4"), Some("\"1\""))
    );
}

#[tokio::test]
async fn too_many_parts_are_refused_before_they_are_sent() {
    let (client, script) = client([ACCOUNT, KEY], []);
    let parts: Vec<_> = (1..=50_001)
        .map(|number| (number, "1".to_owned()))
        .collect();
    let done = client
        .complete_multipart(&object(), "", &parts, &ObjectHeaders::default())
        .await;
    assert_eq!(
        *done.expect_err("too many").kind(),
        ErrorKind::EntityTooLarge
    );
    assert_eq!(script.finished().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_shows_a_secret() {
    let signature = ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=S3CRET");
    for credential in [("AZURE_STORAGE_KEY", "UzNDUkVU"), signature] {
        let (client, _) = client([ACCOUNT, credential], (0..5).map(|_| Step::lost()));
        let error = client
            .create_multipart(&object(), &ObjectHeaders::default())
            .await
            .expect_err("lost");
        let shown = format!("{client:?} {error} {error:?}");
        assert!(
            !shown.contains("S3CRET") && !shown.contains("UzNDUkVU"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn versions_of_an_account_show_in_a_blob() {
    let versioned = Step::new(200).header("x-ms-version-id", "2026-11-28T00:00:00.0000000Z");
    let steps = [versioned, Step::new(200)];
    let (client, script) = client([ACCOUNT, KEY], steps);
    assert!(client.has_versions(&object()).await.unwrap());
    assert!(!client.has_versions(&object()).await.unwrap());
    assert_eq!(script.finished()[0].method, "HEAD");
}
