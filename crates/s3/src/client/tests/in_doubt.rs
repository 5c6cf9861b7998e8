use super::*;
use landfall_objects::{Cloud as _, ObjectHeaders};

const PARTS: &[(u32, &str)] = &[(1, "\"0cc175b9c0f1b6a831c399e269772661\"")];
/// From md5sum: the digest of the sixteen bytes above, and one part.
const WHOLE: &str = "\"b6ff9a06b7e20bcb2858c5b8ff744aea-1\"";

async fn complete(client: &Client) -> Result<String> {
    let parts: Vec<_> = PARTS
        .iter()
        .map(|(number, etag)| (*number, (*etag).to_owned()))
        .collect();
    client
        .complete_multipart(&object(), "id", &parts, &ObjectHeaders::default())
        .await
}

fn completed() -> Step {
    response(
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
async fn error_in_a_200_response_is_an_error() {
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
async fn complete_may_respond_slowly_after_white_space() {
    let slow = |end: &str| {
        let mut pieces = vec!["HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned()];
        pieces.extend((0..6).map(|_| " \n".to_owned()));
        pieces.push(format!("<?xml version=\"1.0\"?>{end}"));
        Step::Slow(pieces, Duration::from_millis(100))
    };
    let failed = slow("<Error><Code>InternalError</Code></Error>");
    let done =
        slow("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>");
    let script = Script::start([failed, done]).await;
    // Longer in all than the timeout of one response head.
    let client = Client::new(ClientSettings {
        calls: CallLimits {
            idle_timeout: Duration::from_millis(300),
            connect_timeout: Duration::from_millis(100),
            ..limits()
        }
        .into(),
        ..settings(&script)
    })
    .expect("a client");
    complete(&client).await.expect("completed");
    assert_eq!(script.requests(), 2);
}

#[tokio::test]
async fn complete_with_lost_response_succeeds() {
    let gone = || error(MISSING, "NoSuchUpload");
    // Without MD5 entity tags (SSE-KMS) only the number of parts is compared.
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
    let script = Script::start([Step::Cut, gone(), response(MISSING, &[], "")]).await;
    let lost = complete(&client(&script)).await.expect_err("nothing there");
    assert_eq!(*lost.kind(), ErrorKind::NoSuchUpload);
    let script = Script::start([Step::Cut, gone(), head("\"a-single-object\"")]).await;
    complete(&client(&script))
        .await
        .expect_err("something else is there");
}

#[tokio::test]
async fn without_a_lost_response_only_the_same_object_counts() {
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
async fn retried_conditional_write_recognizes_its_own_object() {
    const HELLO_WORLD: &str = "\"5eb63bbbe01eeed093cb22bb8f5acdc3\"";
    let failed = || error("412 Precondition Failed", "PreconditionFailed");
    let put = async |script: &Script| {
        let headers = ObjectHeaders::default();
        client(script)
            .put_object(&object(), payload(), &headers, Condition::IfAbsent)
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
