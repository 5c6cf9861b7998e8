use super::*;
use landfall_objects::Cloud as _;

fn piece(range: (u64, u64), body: &str) -> Step {
    let (first, last) = range;
    let length = last + 1 - first;
    Step::Raw(format!(
        "HTTP/1.1 206 Partial Content\r\netag: \"e\"\r\ncontent-length: {length}\r\n\
         content-range: bytes {first}-{last}/10\r\nconnection: close\r\n\r\n{body}"
    ))
}

#[tokio::test]
async fn interrupted_download_resumes() {
    let script = Script::start([
        piece((2, 7), "234"),
        error(BUSY, "SlowDown"),
        piece((5, 7), "5"),
        piece((6, 7), "67"),
    ])
    .await;
    let client = client(&script);
    let object = client
        .get_object(&object(), Some(2..8))
        .await
        .expect("opened");
    assert_eq!((object.head.size, object.range.clone()), (10, 2..8));
    assert_eq!(object.bytes(100).await.expect("all"), "234567");
    assert_eq!(script.request(0).header("range"), Some("bytes=2-7"));
    assert_eq!(script.request(0).header("if-match"), None);
    assert_eq!(script.request(2).header("range"), Some("bytes=5-7"));
    assert_eq!(script.request(3).header("range"), Some("bytes=6-7"));
    assert_eq!(script.request(3).header("if-match"), Some("\"e\""));
    assert_eq!(
        client
            .stats()
            .operation(Operation::GetObject.name())
            .bytes_in,
        6 + "<Error><Code>SlowDown</Code><Message>why</Message></Error>".len() as u64
    );
}

/// As when the connections of other downloads take its place.
#[tokio::test]
async fn download_continues_after_its_connection_was_closed() {
    const LENGTH: usize = 100_000;
    const FIRST: usize = 1000;
    let whole: String = ('a'..='z').cycle().take(LENGTH).collect();
    let part = |from: usize| {
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\netag: \"e\"\r\ncontent-length: {}\r\n\
             content-range: bytes {from}-{}/{LENGTH}\r\nconnection: close\r\n\r\n",
            LENGTH - from,
            LENGTH - 1
        );
        let (first, rest) = whole[from..].split_at(FIRST);
        Step::Slow(
            vec![head + first, rest.to_owned()],
            Duration::from_millis(100),
        )
    };
    let script = Script::start([part(0), part(FIRST)]).await;
    let client = client(&script);
    let opened = client.get_object(&object(), Some(0..LENGTH as u64)).await;
    let mut body = opened.expect("opened").body;
    let mut got = body.next().await.expect("some").expect("bytes").to_vec();
    assert_eq!(got.len(), FIRST);
    let closed = (1..10).filter_map(|key| client.inner.caller.idle_objects.take(key));
    assert_eq!(closed.count(), 1);
    while let Some(bytes) = body.next().await {
        let bytes = bytes.expect("bytes");
        assert!(bytes.len() <= 32 * 1024);
        got.extend_from_slice(&bytes);
    }
    assert!(got == whole.as_bytes());
    assert_eq!(script.request(1).header("range"), Some("bytes=1000-99999"));
    assert_eq!(script.request(1).header("if-match"), Some("\"e\""));
}

#[tokio::test]
async fn interrupted_download_rejects_a_changed_object() {
    let changed = error("412 Precondition Failed", "PreconditionFailed");
    let script = Script::start([piece((0, 9), "0123"), changed]).await;
    let mut body = client(&script)
        .get_object(&object(), Some(0..10))
        .await
        .expect("opened")
        .body;
    let mut got = Vec::new();
    let error = loop {
        match body.next().await.expect("more, or an error") {
            Ok(bytes) => got.extend_from_slice(&bytes),
            Err(error) => break error,
        }
    };
    assert_eq!(got, b"0123");
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    assert!(body.next().await.is_none(), "nothing after an error");
}

#[tokio::test]
async fn stalled_download_fails() {
    let cut = || piece((0, 9), "");
    let script = Script::start([cut(), cut(), cut(), cut()]).await;
    let object = client(&script)
        .get_object(&object(), Some(0..10))
        .await
        .expect("opened");
    let error = object.bytes(10).await.expect_err("cut each time");
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after: None });
    assert_eq!(script.requests(), 3);
}

#[tokio::test]
async fn ignored_range_is_detected() {
    let script = Script::start([response(OK, &[("etag", "e")], "0123456789")]).await;
    let error = client(&script)
        .get_object(&object(), Some(2..4))
        .await
        .expect_err("all of it");
    assert!(
        error.to_string().ends_with("the service ignored the range"),
        "{error}"
    );
    let error = client(&script)
        .get_object(&object(), Some(4..4))
        .await
        .expect_err("empty");
    assert_eq!(*error.kind(), ErrorKind::InvalidRange);
}

#[tokio::test]
async fn oversized_object_is_not_read_into_memory() {
    let script = Script::start([response(OK, &[("etag", "e")], "0123456789")]).await;
    let object = client(&script)
        .get_object(&object(), None)
        .await
        .expect("opened");
    let error = object.bytes(9).await.expect_err("ten");
    assert_eq!(*error.kind(), ErrorKind::Other);
}

#[tokio::test]
async fn range_beyond_the_end_is_truncated() {
    let script = Script::start([piece((8, 9), "89")]).await;
    let object = client(&script)
        .get_object(&object(), Some(8..1_000))
        .await
        .expect("opened");
    assert_eq!(object.range, 8..10);
    assert_eq!(object.bytes(2).await.expect("all"), "89");
}
