use bytes::Bytes;
use landfall_objects::{Cloud as _, Condition, PartCondition};

use super::*;

const HELLO: &[u8] = b"hello world";

fn payload() -> Payload {
    let chunks = vec![Bytes::from_static(b"hello "), Bytes::from_static(b"world")];
    Payload::new(chunks, None)
}

#[tokio::test]
async fn object_is_written_with_its_checksum_and_condition() {
    let stored = ok(&resource("p/id", 7, of(HELLO)));
    let script = Script::new([stored.clone(), stored.clone(), stored]);
    let client = client(&script);
    let headers = ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        ..ObjectHeaders::default()
    };
    for (condition, query) in [
        (Condition::None, ""),
        (Condition::IfAbsent, "&ifGenerationMatch=0"),
        (
            Condition::IfMatch("\"6\"".to_owned()),
            "&ifGenerationMatch=6",
        ),
    ] {
        let put = client.put_object(object(), payload(), &headers, condition, None);
        assert_eq!(put.await.expect("written"), "\"7\"");
        let request = script.requests().pop().expect("a request");
        let line = request.line();
        assert!(
            line.starts_with(
                "POST https://storage.googleapis.com/upload/storage/v1/b/bucket/o?uploadType=multipart&fields="
            ) && line.ends_with(query),
            "{line}"
        );
        assert!(
            query.is_empty() != line.contains("ifGenerationMatch"),
            "{line}"
        );
        let length = request.body.len().to_string();
        assert_eq!(request.header("content-length"), Some(&*length));
        assert_eq!(request.header("authorization"), None);
        let text = request.text();
        let crc32c = of(HELLO).encoded();
        let json =
            json!({"contentType": "text/plain", "name": "p/id", "crc32c": crc32c}).to_string();
        assert!(
            text.contains(&json) && text.contains("\r\n\r\nhello world\r\n--"),
            "{text}"
        );
    }
    let other = Condition::IfMatch("\"an-etag\"".to_owned());
    let put = client.put_object(object(), payload(), &headers, other, None);
    let error = put.await.expect_err("no version of this service");
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn retried_conditional_write_recognizes_its_object() {
    let put = async |script: &Arc<Script>| {
        let headers = ObjectHeaders::default();
        let client = client(script);
        let put = client.put_object(object(), payload(), &headers, Condition::IfAbsent, None);
        put.await
    };
    let unmet = || failure(412, "conditionNotMet");
    let script = Script::new([lost(), unmet(), ok(&resource("p/id", 9, of(HELLO)))]);
    assert_eq!(put(&script).await.expect("ours"), "\"9\"");
    let script = Script::new([
        lost(),
        unmet(),
        ok(&resource("p/id", 9, of(b"HELLO WORLD"))),
    ]);
    let error = put(&script).await.expect_err("another's");
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    let script = Script::new([unmet()]);
    put(&script).await.expect_err("it was there before");
    let script = Script::new([ok(&resource("p/id", 9, of(b"HELLO WORLD")))]);
    let error = put(&script).await.expect_err("damaged");
    assert!(error.to_string().contains("other bytes"), "{error}");
}

#[tokio::test]
async fn part_replaces_only_the_one_that_is_named() {
    let tag = PartTag::new(8, of(HELLO)).to_string();
    let script = Script::new([
        ok(&resource("p/id_0", 8, of(HELLO))),
        ok(&resource("p/id_0", 8, of(HELLO))),
    ]);
    let client = client(&script);
    let upload = client.upload_part(object(), "", 1, payload(), PartCondition::default());
    assert_eq!(upload.await.expect("stored"), tag);
    assert!(script.request(0).url.ends_with("&ifGenerationMatch=0"));
    assert!(script.request(0).text().contains(r#""name":"p/id_0""#));
    let upload = client.upload_part(object(), "", 1, payload(), over(&tag));
    upload.await.expect("replaced");
    assert!(script.request(1).url.ends_with("&ifGenerationMatch=8"));
    let upload = client.upload_part(object(), "", 1, payload(), over("\"etag\""));
    let error = upload.await.expect_err("no tag");
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    let upload = client.upload_part(object(), "", 0, payload(), PartCondition::default());
    assert_eq!(
        *upload.await.expect_err("no part").kind(),
        ErrorKind::InvalidPart
    );
}

#[tokio::test(start_paused = true)]
async fn write_that_comes_too_soon_is_repeated_after_a_second() {
    let script = Script::new([
        failure(429, "rateLimitExceeded"),
        ok(&resource("p/id_0", 8, of(HELLO))),
    ]);
    let started = tokio::time::Instant::now();
    let client = client(&script);
    let upload = client.upload_part(object(), "", 1, payload(), PartCondition::default());
    upload.await.expect("stored");
    assert!(started.elapsed() >= std::time::Duration::from_secs(1));
}

#[tokio::test]
async fn download_names_the_generation_when_it_continues() {
    let opened = reply(206, "lo wo")
        .with("content-range", "bytes 3-7/11")
        .with("x-goog-generation", "5")
        .with("content-type", "text/plain");
    let script = Script::new([opened, reply(404, "No such object: bucket/p/id")]);
    let client = client(&script);
    let opened = client
        .get_object(object(), Some(3..8))
        .await
        .expect("opened");
    assert_eq!((opened.head.size, &*opened.head.etag), (11, "\"5\""));
    let request = script.request(0);
    assert!(
        request.url.ends_with("/b/bucket/o/p%2Fid?alt=media"),
        "{}",
        request.url
    );
    assert_eq!(request.header("range"), Some("bytes=3-7"));
    assert_eq!(request.header("accept-encoding"), Some("gzip"));
    assert_eq!(opened.bytes(99).await.expect("read"), "lo wo");

    use landfall_objects::Service as _;
    let again = client.inner.open(object(), Some(5..8), Some("\"5\"")).await;
    let error = again.map(drop).expect_err("it has changed");
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    assert!(script.request(1).url.ends_with("?alt=media&generation=5"));
}

#[tokio::test]
async fn parts_are_listed_and_a_finish_is_recognized() {
    let list = |names: &[&str]| {
        let items = names.iter().map(|name| resource(name, 1, of(b"x")));
        ok(&json!({"items": items.collect::<Vec<_>>()}))
    };
    let missing = || failure(404, "notFound");
    let first = json!({"items": [resource("p/id_0", 3, of(b"x"))], "nextPageToken": "t/+"});
    let script = Script::new([ok(&first), list(&["p/id_2", "p/id_1_0"])]);
    let parts = client(&script)
        .list_parts(object(), "")
        .await
        .expect("listed");
    let numbers: Vec<_> = parts.iter().map(|part| part.number).collect();
    assert_eq!(numbers, [1, 3], "a gap is for the caller");
    assert_eq!(
        PartTag::parse(&parts[0].etag),
        Some(PartTag::new(3, of(b"x")))
    );
    let (one, two) = (script.request(0).url, script.request(1).url);
    assert!(
        one.contains("&prefix=p%2Fid_&startOffset=p%2Fid_0&endOffset=p%2Fid_%3A"),
        "{one}"
    );
    assert!(two.contains("&pageToken=t%2F%2B"), "{two}");

    for (names, steps, wanted) in [
        (&[][..], missing(), Some(0)),
        (&["p/id_4"], missing(), Some(1)),
        (&[], ok(&resource("p/id", 1, of(b"x"))), None),
        (&["p/id_4"], ok(&resource("p/id", 1, of(b"x"))), None),
    ] {
        let script = Script::new([list(names), steps]);
        let listed = client(&script).list_parts(object(), "").await;
        match wanted {
            Some(count) => assert_eq!(listed.expect("listed").len(), count),
            None => assert_eq!(
                *listed.expect_err("finished").kind(),
                ErrorKind::NoSuchUpload
            ),
        }
    }
}

#[tokio::test]
async fn copy_is_repeated_until_it_is_done() {
    let step = |token| ok(&json!({"done": false, "objectSize": "11", "rewriteToken": token}));
    let done = || {
        ok(&json!({"done": true, "objectSize": "11", "resource": resource("p/id_1", 4, of(HELLO))}))
    };
    let source = ObjectRef::new("other", "a b");
    let script = Script::new([step("t1"), step("t2"), done()]);
    let copied = client(&script)
        .copy_part(object(), "", 2, &source, 0..11)
        .await;
    assert_eq!(
        copied.expect("copied"),
        PartTag::new(4, of(HELLO)).to_string()
    );
    let last = script.request(2).line();
    assert!(
        last.contains("/b/other/o/a%20b/rewriteTo/b/bucket/o/p%2Fid_1?")
            && last.ends_with("&rewriteToken=t2"),
        "{last}"
    );

    let script = Script::new([
        failure(412, "conditionNotMet"),
        ok(&resource("p/id_1", 3, of(b""))),
        done(),
    ]);
    let copied = client(&script)
        .copy_part(object(), "", 2, &source, 0..11)
        .await;
    copied.expect("replaced");
    assert!(script.request(2).url.contains("ifGenerationMatch=3"));

    let script = Script::new([done(), reply(204, "")]);
    let copied = client(&script)
        .copy_part(object(), "", 2, &source, 0..10)
        .await;
    assert_eq!(
        *copied.expect_err("not whole").kind(),
        ErrorKind::InvalidRange
    );
    assert!(
        script
            .request(1)
            .line()
            .ends_with("/o/p%2Fid_1?ifGenerationMatch=4")
    );
}

/// As of objects that are encrypted with a key of the customer.
#[tokio::test]
async fn missing_checksums_of_a_listing_are_requested() {
    let mut encrypted = resource("p/id_1", 2, of(b"x"));
    encrypted["crc32c"] = Value::Null;
    let listed = json!({"items": [resource("p/id_0", 1, of(b"x")), encrypted]});
    let script = Script::new([ok(&listed), ok(&resource("p/id_1", 2, of(b"x")))]);
    let parts = client(&script)
        .list_parts(object(), "")
        .await
        .expect("listed");
    let tags: Vec<_> = parts.into_iter().map(|part| part.etag).collect();
    let wanted = [1, 2].map(|generation| PartTag::new(generation, of(b"x")).to_string());
    assert_eq!(tags, wanted);
}

fn over(tag: &str) -> PartCondition<'_> {
    PartCondition {
        over: Some(tag),
        ..PartCondition::default()
    }
}
