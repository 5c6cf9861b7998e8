use landfall_objects::Cloud as _;
use landfall_test_services::free_port;

use super::*;

#[tokio::test]
async fn transient_errors_are_retried() {
    for step in [
        Step::Cut,
        Step::CutUnread,
        Step::Raw("HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 9\r\n\r\nabc".to_owned()),
        error("500 Internal Server Error", "InternalError"),
        error(BUSY, "SlowDown"),
        error("400 Bad Request", "RequestTimeout"),
        response("429 Too Many Requests", &[], ""),
        response("502 Bad Gateway", &[], "<html>nginx</html>"),
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
        let stats = client.stats().operation(Operation::UploadPart.name());
        assert_eq!((stats.calls, stats.failures, stats.retries), (1, 0, 2));
        assert_eq!(stats.bytes_out, 33);
    }
}

#[tokio::test]
async fn permanent_errors_are_not_retried() {
    for (status, code, kind) in [
        (MISSING, "NoSuchUpload", ErrorKind::NoSuchUpload),
        (DENIED, "AccessDenied", ErrorKind::AccessDenied),
        (DENIED, "SignatureDoesNotMatch", ErrorKind::BadCredentials),
        (DENIED, "RequestTimeTooSkewed", ErrorKind::ClockSkew),
        ("400 Bad Request", "ExpiredToken", ErrorKind::BadCredentials),
        ("400 Bad Request", "InvalidPart", ErrorKind::InvalidPart),
    ] {
        let script = Script::start([error(status, code), stored()]).await;
        let client = client(&script);
        let error = upload(&client).await.expect_err("refused");
        assert_eq!(*error.kind(), kind, "{code}");
        assert_eq!(script.requests(), 1, "{code}");
        assert_eq!(
            client
                .stats()
                .operation(Operation::UploadPart.name())
                .failures,
            1
        );
    }
}

#[tokio::test]
async fn persistent_fault_is_reported_after_the_last_attempt() {
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
async fn retry_after_is_honored() {
    let busy = |seconds| response(BUSY, &[("retry-after", seconds)], "");
    let script = Script::start([busy("1"), stored()]).await;
    let started = Instant::now();
    upload(&client(&script)).await.expect("stored");
    assert!(started.elapsed() >= Duration::from_secs(1));

    let script = Script::start([busy("60"), stored()]).await;
    let error = upload(&client(&script))
        .await
        .expect_err("later than we wait");
    let retry_after = Some(Duration::from_secs(60));
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after });
    assert_eq!(script.requests(), 1);
}

#[tokio::test]
async fn silent_service_times_out() {
    let script = Script::start([Step::Silence, stored()]).await;
    let client = Client::new(ClientSettings {
        calls: CallLimits {
            connect_timeout: Duration::from_millis(50),
            idle_timeout: Duration::from_millis(100),
            ..limits()
        }
        .into(),
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
        calls: CallLimits {
            deadline: Duration::from_millis(150),
            ..limits()
        }
        .into(),
        ..settings(&script)
    })
    .expect("a client");
    let started = Instant::now();
    let error = upload(&client).await.expect_err("nothing comes");
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after: None });
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

/// Provides a new key each time.
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
async fn expired_credentials_are_refreshed_once() {
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
async fn region_redirect_is_followed_once() {
    let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-x-9</Region></Error>";
    let endpoint_override = || response("400 Bad Request", &[], body);
    let script = Script::start([endpoint_override(), stored(), stored()]).await;
    let client = self::client(&script);
    upload(&client).await.expect("stored");
    upload(&client).await.expect("stored");
    for index in [1, 2] {
        let request = script.request(index);
        let authorization = request.header("authorization").expect("signed");
        assert!(authorization.contains("/eu-x-9/s3/"), "learned, and kept");
    }
    // Two concurrent calls, of which only one learns the region.
    let script =
        Script::start([endpoint_override(), endpoint_override(), stored(), stored()]).await;
    let client = self::client(&script);
    let (first, second) = tokio::join!(upload(&client), upload(&client));
    first.expect("stored");
    second.expect("stored");

    let script = Script::start([endpoint_override(), endpoint_override()]).await;
    let error = upload(&self::client(&script)).await.expect_err("nowhere");
    assert_eq!(*error.kind(), ErrorKind::WrongRegion);
    assert_eq!(error.message(), Some("the bucket is in region eu-x-9"));
}

#[tokio::test]
async fn failed_head_bucket_lists_for_the_reason() {
    let script = Script::start([
        response(DENIED, &[], ""),
        error(DENIED, "InvalidAccessKeyId"),
    ])
    .await;
    let error = client(&script)
        .head_bucket("bucket")
        .await
        .expect_err("refused");
    assert_eq!(*error.kind(), ErrorKind::BadCredentials);
    assert!(script.request(1).line.starts_with("GET /bucket?"));
    let script = Script::start([response(MISSING, &[], "")]).await;
    let error = client(&script)
        .head_bucket("bucket")
        .await
        .expect_err("missing");
    assert_eq!(*error.kind(), ErrorKind::NoSuchBucket);
    assert_eq!(error.to_string(), "HeadBucket bucket: 404 Not Found");
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
async fn connection_refused_is_reported() {
    let script = Script::start([]).await;
    let client = Client::new(ClientSettings {
        endpoint: Some(format!("http://127.0.0.1:{}", free_port())),
        ..settings(&script)
    });
    let client = client.expect("a client");
    let error = upload(&client).await.expect_err("connection refused");
    assert_eq!(*error.kind(), ErrorKind::Unavailable { retry_after: None });
    let text = error.to_string();
    assert!(
        text.starts_with("UploadPart bucket/folder/a key: cannot connect: "),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");
    assert_eq!(
        client
            .stats()
            .operation(Operation::UploadPart.name())
            .retries,
        2
    );
}
