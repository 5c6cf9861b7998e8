//! The client against a server that does what a script says.

mod script;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use landfall::BoxError;

use self::script::{Script, Step, answer};
use http::{HeaderMap, Method};

use super::*;

const OK: &str = "200 OK";
const DENIED: &str = "403 Forbidden";
const MISSING: &str = "404 Not Found";
const BUSY: &str = "503 Service Unavailable";

fn settings(script: &Script) -> ClientSettings {
    ClientSettings {
        endpoint: Some(script.endpoint()),
        region: Some("us-east-1".to_owned()),
        credentials: CredentialSource::Static(Credentials::new("AKID", "the-secret")),
        attempts: 3,
        backoff: Duration::from_millis(2),
        longest_backoff: Duration::from_secs(2),
        idle_timeout: Duration::from_millis(400),
        connect_timeout: Duration::from_millis(400),
        ..ClientSettings::default()
    }
}

fn client(script: &Script) -> Client {
    Client::new(settings(script)).expect("a client")
}

fn place() -> Place {
    Place::new("bucket", "folder/a key")
}

fn payload() -> Payload {
    Payload::new(
        vec![Bytes::from_static(b"hello "), Bytes::from_static(b"world")],
        None,
    )
}

fn error(status: &str, code: &str) -> Step {
    let body = format!("<Error><Code>{code}</Code><Message>why</Message></Error>");
    answer(status, &[("x-amz-request-id", "RID")], &body)
}

fn stored() -> Step {
    answer(OK, &[("etag", "\"tag\"")], "")
}

async fn upload(client: &Client) -> Result<String> {
    client
        .upload_part(&place(), "up/load+id", 7, payload())
        .await
}

#[tokio::test]
async fn a_part_is_sent_as_it_is_signed() {
    let script = Script::start([stored()]).await;
    assert_eq!(upload(&client(&script)).await.expect("stored"), "\"tag\"");
    let request = script.request(0);
    assert_eq!(
        request.line,
        "PUT /bucket/folder/a%20key?partNumber=7&uploadId=up%2Fload%2Bid HTTP/1.1"
    );
    assert_eq!(request.header("content-length"), Some("11"));
    assert_eq!(
        request.header("x-amz-content-sha256"),
        Some("UNSIGNED-PAYLOAD")
    );
    assert_eq!(
        request.header("host"),
        Some(script.endpoint().trim_start_matches("http://"))
    );
    let authorization = request.header("authorization").expect("signed");
    assert!(authorization.contains(
        "/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
    ));
    assert!(
        request
            .header("user-agent")
            .expect("told")
            .starts_with("landfall/")
    );
    assert_eq!(request.header("transfer-encoding"), None);
    assert_eq!(request.body, b"hello world");
}

#[tokio::test]
async fn a_digest_that_is_given_is_used_as_it_is() {
    let script = Script::start([stored()]).await;
    let payload = Payload::new(vec![Bytes::from_static(b"x")], Some([0xab; 32]));
    client(&script)
        .upload_part(&place(), "u", 1, payload)
        .await
        .expect("stored");
    assert_eq!(
        script.request(0).header("x-amz-content-sha256"),
        Some(&*"ab".repeat(32))
    );
}

#[tokio::test]
async fn an_empty_object_tells_its_length() {
    let script = Script::start([stored()]).await;
    let client = client(&script);
    let object = ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        content_disposition: Some("attachment; filename=\"a  b.txt\"".to_owned()),
        metadata: [("name".to_owned(), "wörld".to_owned())].into(),
        ..ObjectHeaders::default()
    };
    client
        .put_object(&place(), Payload::default(), &object, Condition::IfAbsent)
        .await
        .expect("stored");
    let request = script.request(0);
    assert_eq!(request.header("content-length"), Some("0"));
    assert_eq!(request.header("if-none-match"), Some("*"));
    assert_eq!(request.header("content-type"), Some("text/plain"));
    assert_eq!(request.header("x-amz-meta-name"), Some("wörld"));
    assert_eq!(
        request.header("x-amz-content-sha256"),
        Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    );
}

#[tokio::test]
async fn what_no_header_can_hold_is_not_sent() {
    let script = Script::start([]).await;
    let client = client(&script);
    for metadata in [("na me", "x"), ("name", "two\nlines")] {
        let object = ObjectHeaders {
            metadata: [(metadata.0.to_owned(), metadata.1.to_owned())].into(),
            ..ObjectHeaders::default()
        };
        let error = client
            .create_multipart(&place(), &object)
            .await
            .expect_err("refused");
        assert_eq!(*error.kind(), ErrorKind::Other);
    }
    assert_eq!(script.requests(), 0);
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    for step in [
        Step::Cut,
        Step::CutUnread,
        Step::Raw("HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 9\r\n\r\nabc".to_owned()),
        error("500 Internal Server Error", "InternalError"),
        error(BUSY, "SlowDown"),
        error("400 Bad Request", "RequestTimeout"),
        answer("429 Too Many Requests", &[], ""),
        answer("502 Bad Gateway", &[], "<html>nginx</html>"),
    ] {
        let script = Script::start([step.clone(), step.clone(), stored()]).await;
        let client = client(&script);
        assert_eq!(
            upload(&client).await.expect("stored"),
            "\"tag\"",
            "{step:?}"
        );
        assert_eq!(script.requests(), 3, "{step:?}");
        assert_eq!(script.request(2).body, b"hello world");
        let stats = client.stats().of(Operation::UploadPart);
        assert_eq!(
            (stats.calls(), stats.failures(), stats.retries()),
            (1, 0, 2)
        );
        assert_eq!(stats.bytes_out(), 33);
    }
}

#[tokio::test]
async fn what_stays_is_not() {
    for (status, code, kind) in [
        (MISSING, "NoSuchUpload", ErrorKind::NoSuchUpload),
        (DENIED, "AccessDenied", ErrorKind::AccessDenied),
        (DENIED, "SignatureDoesNotMatch", ErrorKind::BadCredentials),
        (DENIED, "RequestTimeTooSkewed", ErrorKind::ClockSkew),
        ("400 Bad Request", "ExpiredToken", ErrorKind::BadCredentials),
        ("400 Bad Request", "InvalidPart", ErrorKind::Other),
    ] {
        let script = Script::start([error(status, code), stored()]).await;
        let client = client(&script);
        let error = upload(&client).await.expect_err("refused");
        assert_eq!(*error.kind(), kind, "{code}");
        assert_eq!(script.requests(), 1, "{code}");
        assert_eq!(client.stats().of(Operation::UploadPart).failures(), 1);
    }
}

#[tokio::test]
async fn a_lasting_fault_is_told_after_the_last_attempt() {
    let script = Script::start([error(BUSY, "SlowDown"), Step::Cut, error(BUSY, "SlowDown")]).await;
    let error = upload(&client(&script)).await.expect_err("busy");
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after: None });
    assert_eq!(
        error.to_string(),
        "UploadPart bucket/folder/a key: 503 SlowDown: why (request RID)"
    );
    assert_eq!(script.requests(), 3);
}

#[tokio::test]
async fn nobody_listening_is_told_as_such() {
    let script = Script::start([]).await;
    let client = client(&script);
    drop(script);
    let error = upload(&client).await.expect_err("nobody there");
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after: None });
    let text = error.to_string();
    assert!(
        text.starts_with("UploadPart bucket/folder/a key: could not connect: "),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");
    assert_eq!(client.stats().of(Operation::UploadPart).retries(), 2);
}

#[tokio::test]
async fn the_service_says_when_to_come_again() {
    let busy = |seconds| answer(BUSY, &[("retry-after", seconds)], "");
    let script = Script::start([busy("1"), stored()]).await;
    let begun = Instant::now();
    upload(&client(&script)).await.expect("stored");
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let script = Script::start([busy("60"), stored()]).await;
    let error = upload(&client(&script))
        .await
        .expect_err("later than we wait");
    let retry_after = Some(Duration::from_secs(60));
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after });
    assert_eq!(script.requests(), 1);
}

#[tokio::test]
async fn silence_ends_an_attempt() {
    let script = Script::start([Step::Silence, stored()]).await;
    let client = Client::new(ClientSettings {
        connect_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(100),
        ..settings(&script)
    })
    .expect("a client");
    upload(&client).await.expect("stored");
    assert_eq!(script.requests(), 2);
}

#[tokio::test]
async fn the_deadline_ends_the_call() {
    let script = Script::start([Step::Silence, Step::Silence, Step::Silence]).await;
    let client = Client::new(ClientSettings {
        deadline: Duration::from_millis(150),
        ..settings(&script)
    })
    .expect("a client");
    let begun = Instant::now();
    let error = upload(&client).await.expect_err("nothing comes");
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after: None });
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

const PARTS: &[(u32, &str)] = &[(1, "\"0cc175b9c0f1b6a831c399e269772661\"")];
/// By md5sum, of the sixteen bytes above; and one part.
const WHOLE: &str = "\"b6ff9a06b7e20bcb2858c5b8ff744aea-1\"";

async fn complete(client: &Client) -> Result<()> {
    let parts: Vec<_> = PARTS
        .iter()
        .map(|(number, etag)| (*number, (*etag).to_owned()))
        .collect();
    client.complete_multipart(&place(), "id", &parts).await
}

fn completed() -> Step {
    answer(
        OK,
        &[],
        "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>",
    )
}

fn head(etag: &str) -> Step {
    Step::Raw(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\netag: {etag}\r\nconnection: close\r\n\r\n"
    ))
}

#[tokio::test]
async fn an_error_in_a_200_is_an_error() {
    let passing = error(OK, "InternalError");
    let script = Script::start([passing, completed()]).await;
    complete(&client(&script)).await.expect("completed");
    assert_eq!(script.requests(), 2);
    assert!(
        script
            .request(1)
            .text()
            .contains("<PartNumber>1</PartNumber>")
    );

    let script = Script::start([error(OK, "InvalidPart")]).await;
    let error = complete(&client(&script)).await.expect_err("refused");
    assert_eq!(error.code(), Some("InvalidPart"));
}

#[tokio::test]
async fn a_complete_may_answer_slowly_behind_white_space() {
    let slow = |end: &str| {
        let mut pieces = vec!["HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned()];
        pieces.extend((0..6).map(|_| " \n".to_owned()));
        pieces.push(format!("<?xml version=\"1.0\"?>{end}"));
        Step::Slow(pieces, Duration::from_millis(100))
    };
    let failed = slow("<Error><Code>InternalError</Code></Error>");
    let done = slow("<CompleteMultipartUploadResult/>");
    let script = Script::start([failed, done]).await;
    // Longer in all than the time that one attempt has for its head.
    let client = Client::new(ClientSettings {
        idle_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(100),
        ..settings(&script)
    })
    .expect("a client");
    complete(&client).await.expect("completed");
    assert_eq!(script.requests(), 2);
}

#[tokio::test]
async fn a_complete_whose_answer_was_lost_has_succeeded() {
    let gone = || error(MISSING, "NoSuchUpload");
    // With keys of its own the service's tags are no MD5; the number of parts has to do.
    for etag in [WHOLE, "\"of-another-kind-1\""] {
        let script = Script::start([Step::Cut, gone(), head(etag)]).await;
        complete(&client(&script)).await.expect("it was completed");
        assert!(
            script
                .request(2)
                .line
                .starts_with("HEAD /bucket/folder/a%20key ")
        );
    }
    let script = Script::start([Step::Cut, gone(), answer(MISSING, &[], "")]).await;
    let lost = complete(&client(&script)).await.expect_err("nothing there");
    assert_eq!(*lost.kind(), ErrorKind::NoSuchUpload);
    let script = Script::start([Step::Cut, gone(), head("\"a-single-object\"")]).await;
    complete(&client(&script))
        .await
        .expect_err("something else is there");
}

#[tokio::test]
async fn without_a_lost_answer_only_the_very_object_counts() {
    let gone = || error(MISSING, "NoSuchUpload");
    let script = Script::start([gone(), head(WHOLE)]).await;
    complete(&client(&script)).await.expect("completed before");
    let script = Script::start([gone(), head("\"of-another-kind-1\"")]).await;
    let error = complete(&client(&script))
        .await
        .expect_err("perhaps another one");
    assert_eq!(*error.kind(), ErrorKind::NoSuchUpload);
}

#[tokio::test]
async fn a_conditional_write_that_meets_its_own_effect_has_succeeded() {
    const HELLO_WORLD: &str = "\"5eb63bbbe01eeed093cb22bb8f5acdc3\"";
    let failed = || error("412 Precondition Failed", "PreconditionFailed");
    let put = async |script: &Script| {
        let object = ObjectHeaders::default();
        client(script)
            .put_object(&place(), payload(), &object, Condition::IfAbsent)
            .await
    };
    let script = Script::start([Step::Cut, failed(), head(HELLO_WORLD)]).await;
    assert_eq!(put(&script).await.expect("ours"), HELLO_WORLD);
    let script = Script::start([Step::Cut, failed(), head("\"other\"")]).await;
    let error = put(&script).await.expect_err("another's");
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    let script = Script::start([failed(), head(HELLO_WORLD)]).await;
    put(&script).await.expect_err("it was there before");
    assert_eq!(script.requests(), 1);
}

/// Gives a new key each time.
#[derive(Debug, Default)]
struct Rotating {
    given: AtomicU32,
}

#[async_trait]
impl ProvideCredentials for Rotating {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        let turn = self.given.fetch_add(1, Ordering::Relaxed);
        Ok(Credentials::new(format!("KEY{turn}"), "the-secret"))
    }
}

#[tokio::test]
async fn keys_that_have_ended_are_renewed_once() {
    let ended = || error("400 Bad Request", "ExpiredToken");
    let rotating = |script: &Script| {
        let credentials = CredentialSource::Provider(Arc::new(Rotating::default()));
        Client::new(ClientSettings {
            credentials,
            ..settings(script)
        })
        .expect("a client")
    };
    let script = Script::start([ended(), stored()]).await;
    upload(&rotating(&script)).await.expect("stored");
    for (index, key) in [(0, "=KEY0/"), (1, "=KEY1/")] {
        let request = script.request(index);
        assert!(
            request
                .header("authorization")
                .expect("signed")
                .contains(key)
        );
    }
    let script = Script::start([ended(), ended()]).await;
    let error = upload(&rotating(&script)).await.expect_err("still ended");
    assert_eq!(*error.kind(), ErrorKind::BadCredentials);
    assert_eq!(script.requests(), 2);
}

#[tokio::test]
async fn the_bucket_is_followed_to_its_region_once() {
    let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-x-9</Region></Error>";
    let elsewhere = || answer("400 Bad Request", &[], body);
    let script = Script::start([elsewhere(), stored(), stored()]).await;
    let client = self::client(&script);
    upload(&client).await.expect("stored");
    upload(&client).await.expect("stored");
    for index in [1, 2] {
        let request = script.request(index);
        let authorization = request.header("authorization").expect("signed");
        assert!(authorization.contains("/eu-x-9/s3/"), "learned, and kept");
    }
    let script = Script::start([elsewhere(), elsewhere()]).await;
    let error = upload(&self::client(&script)).await.expect_err("nowhere");
    assert_eq!(*error.kind(), ErrorKind::WrongRegion);
    assert_eq!(error.message(), Some("the bucket is in region eu-x-9"));
}

#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_found_out() {
    let script =
        Script::start([answer(DENIED, &[], ""), error(DENIED, "InvalidAccessKeyId")]).await;
    let error = client(&script)
        .head_bucket("bucket")
        .await
        .expect_err("refused");
    assert_eq!(*error.kind(), ErrorKind::BadCredentials);
    assert!(script.request(1).line.starts_with("GET /bucket?"));
    let script = Script::start([answer(MISSING, &[], "")]).await;
    let error = client(&script)
        .head_bucket("bucket")
        .await
        .expect_err("missing");
    assert_eq!(*error.kind(), ErrorKind::NoSuchBucket);
    assert_eq!(error.to_string(), "HeadBucket bucket: 404 Not Found");
}

fn piece(range: (u64, u64), body: &str) -> Step {
    let (first, last) = range;
    let length = last + 1 - first;
    Step::Raw(format!(
        "HTTP/1.1 206 Partial Content\r\netag: \"e\"\r\ncontent-length: {length}\r\n\
         content-range: bytes {first}-{last}/10\r\nconnection: close\r\n\r\n{body}"
    ))
}

#[tokio::test]
async fn a_download_that_is_cut_goes_on_where_it_stopped() {
    let script = Script::start([
        piece((2, 7), "234"),
        error(BUSY, "SlowDown"),
        piece((5, 7), "5"),
        piece((6, 7), "67"),
    ])
    .await;
    let client = client(&script);
    let object = client
        .get_object(&place(), Some(2..8))
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
        client.stats().of(Operation::GetObject).bytes_in(),
        6 + "<Error><Code>SlowDown</Code><Message>why</Message></Error>".len() as u64
    );
}

#[tokio::test]
async fn a_download_doesnt_go_on_with_another_object() {
    let changed = error("412 Precondition Failed", "PreconditionFailed");
    let script = Script::start([piece((0, 9), "0123"), changed]).await;
    let mut body = client(&script)
        .get_object(&place(), Some(0..10))
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
async fn a_download_that_gets_nowhere_ends() {
    let cut = || piece((0, 9), "");
    let script = Script::start([cut(), cut(), cut(), cut()]).await;
    let object = client(&script)
        .get_object(&place(), Some(0..10))
        .await
        .expect("opened");
    let error = object.bytes(10).await.expect_err("cut each time");
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after: None });
    assert_eq!(script.requests(), 3);
}

#[tokio::test]
async fn an_ignored_range_is_noticed() {
    let script = Script::start([answer(OK, &[("etag", "e")], "0123456789")]).await;
    let error = client(&script)
        .get_object(&place(), Some(2..4))
        .await
        .expect_err("all of it");
    assert!(
        error.to_string().ends_with("the service ignored the range"),
        "{error}"
    );
    let error = client(&script)
        .get_object(&place(), Some(4..4))
        .await
        .expect_err("empty");
    assert_eq!(*error.kind(), ErrorKind::InvalidRange);
}

#[tokio::test]
async fn too_much_is_not_read_into_memory() {
    let script = Script::start([answer(OK, &[("etag", "e")], "0123456789")]).await;
    let object = client(&script)
        .get_object(&place(), None)
        .await
        .expect("opened");
    let error = object.bytes(9).await.expect_err("ten");
    assert_eq!(*error.kind(), ErrorKind::Other);
}

#[tokio::test]
async fn a_range_beyond_the_end_is_what_there_is() {
    let script = Script::start([piece((8, 9), "89")]).await;
    let object = client(&script)
        .get_object(&place(), Some(8..1_000))
        .await
        .expect("opened");
    assert_eq!(object.range, 8..10);
    assert_eq!(object.bytes(2).await.expect("all"), "89");
}

#[tokio::test]
async fn pages_are_asked_for_one_after_the_other() {
    let part = |number| {
        format!("<Part><PartNumber>{number}</PartNumber><Size>5</Size><ETag>e</ETag></Part>")
    };
    let page = |more, number| {
        let part = part(number);
        let body = format!("<R><IsTruncated>{more}</IsTruncated>{part}</R>");
        answer(OK, &[], &body)
    };
    let script = Script::start([page(true, 1_000), page(false, 1_001)]).await;
    let client = client(&script);
    let first = client.list_parts(&place(), "u", 0).await.expect("a page");
    assert_eq!(first.next, Some(1_000));
    let second = client
        .list_parts(&place(), "u", 1_000)
        .await
        .expect("a page");
    assert_eq!((second.parts[0].number, second.next), (1_001, None));
    assert!(script.request(0).line.contains("?uploadId=u "));
    assert!(
        script
            .request(1)
            .line
            .contains("?part-number-marker=1000&uploadId=u ")
    );
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let script = Script::start([Step::Silence]).await;
    let client = client(&script);
    let call = upload(&client);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), call)
            .await
            .is_err()
    );
    tokio::time::timeout(Duration::from_secs(5), script.closed())
        .await
        .expect("closed");
    assert_eq!(client.stats().calls(), 0, "only calls that end are counted");
}

#[tokio::test]
async fn anonymous_requests_are_not_signed() {
    let script = Script::start([stored()]).await;
    let credentials = CredentialSource::Anonymous;
    let client = Client::new(ClientSettings {
        credentials,
        ..settings(&script)
    })
    .expect("a client");
    upload(&client).await.expect("stored");
    assert_eq!(script.request(0).header("authorization"), None);
    let presigned = client
        .presign(
            Method::GET,
            &place(),
            &[],
            &HeaderMap::new(),
            Duration::from_secs(60),
        )
        .await;
    assert_eq!(
        *presigned.expect_err("no keys").kind(),
        ErrorKind::BadCredentials
    );
}

#[tokio::test]
async fn presigned_urls_live_from_a_second_to_a_week() {
    let script = Script::start([]).await;
    let client = client(&script);
    let presign = async |seconds| {
        let expires = Duration::from_secs(seconds);
        client
            .presign(
                Method::PUT,
                &place(),
                &[("partNumber", "1")],
                &HeaderMap::new(),
                expires,
            )
            .await
    };
    for seconds in [0, 604_801] {
        assert_eq!(
            *presign(seconds).await.expect_err("out of bounds").kind(),
            ErrorKind::Other
        );
    }
    let url = presign(604_800).await.expect("a URL");
    assert!(
        url.starts_with(&format!("{}/bucket/folder/a%20key?", script.endpoint())),
        "{url}"
    );
    assert!(url.contains("&partNumber=1&X-Amz-Signature="), "{url}");
    assert!(!url.contains("the-secret"));
    assert_eq!(script.requests(), 0);
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let script = Script::start([error(DENIED, "SignatureDoesNotMatch")]).await;
    let client = client(&script);
    let error = upload(&client).await.expect_err("refused");
    for text in [
        format!("{client:?}"),
        format!("{error:?}"),
        error.to_string(),
    ] {
        assert!(!text.contains("the-secret"), "{text}");
        assert!(!text.contains("Signature="), "{text}");
    }
}

#[test]
fn one_client_serves_several_runtimes() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("one")
    };
    let first = runtime();
    let script = first.block_on(Script::start([stored(), stored()]));
    let client = client(&script);
    // The script's runtime keeps running on a thread of its own.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || first.block_on(stopped));
    for _ in 0..2 {
        let runtime = runtime();
        runtime.block_on(upload(&client)).expect("stored");
    }
    stop.send(()).expect("running");
    thread.join().expect("ended").expect("told");
    assert_eq!(script.requests(), 2);
}
