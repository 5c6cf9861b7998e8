use super::*;
use landfall_objects::{Cloud as _, PartCondition};

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
async fn given_digest_is_sent() {
    let script = Script::start([stored()]).await;
    let payload = Payload::new(vec![Bytes::from_static(b"x")], Some([0xab; 32]));
    client(&script)
        .upload_part(&object(), "u", 1, payload, PartCondition::default())
        .await
        .expect("stored");
    assert_eq!(
        script.request(0).header("x-amz-content-sha256"),
        Some(&*"ab".repeat(32))
    );
}

#[tokio::test]
async fn empty_object_has_a_content_length() {
    let script = Script::start([stored()]).await;
    let client = client(&script);
    let headers = ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        content_disposition: Some("attachment; filename=\"a  b.txt\"".to_owned()),
        metadata: [("name".to_owned(), "wörld".to_owned())].into(),
        ..ObjectHeaders::default()
    };
    client
        .put_object(&object(), Payload::default(), &headers, Condition::IfAbsent)
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
async fn invalid_header_value_is_not_sent() {
    let script = Script::start([]).await;
    let client = client(&script);
    for metadata in [("na me", "x"), ("name", "two\nlines")] {
        let headers = ObjectHeaders {
            metadata: [(metadata.0.to_owned(), metadata.1.to_owned())].into(),
            ..ObjectHeaders::default()
        };
        let error = client
            .create_multipart(&object(), &headers)
            .await
            .expect_err("refused");
        assert_eq!(*error.kind(), ErrorKind::Other);
    }
    assert_eq!(script.requests(), 0);
}

#[tokio::test]
async fn pages_are_requested_in_order() {
    let part = |number| {
        format!("<Part><PartNumber>{number}</PartNumber><Size>5</Size><ETag>e</ETag></Part>")
    };
    let page = |more, number| {
        let part = part(number);
        let body = format!("<R><IsTruncated>{more}</IsTruncated>{part}</R>");
        response(OK, &[], &body)
    };
    let script = Script::start([page(true, 1_000), page(false, 1_001)]).await;
    let client = client(&script);
    let parts = client.list_parts(&object(), "u").await.expect("two pages");
    let numbers: Vec<_> = parts.iter().map(|part| part.number).collect();
    assert_eq!(numbers, [1_000, 1_001]);
    assert!(script.request(0).line.contains("?uploadId=u "));
    assert!(
        script
            .request(1)
            .line
            .contains("?part-number-marker=1000&uploadId=u ")
    );
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
            &object(),
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
async fn presigned_url_lifetime_is_one_second_to_one_week() {
    let script = Script::start([]).await;
    let client = client(&script);
    let presign = async |seconds| {
        let expires = Duration::from_secs(seconds);
        client
            .presign(
                Method::PUT,
                &object(),
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
    // The script's runtime runs on a separate thread.
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

/// Counts requests and forwards them.
#[derive(Debug)]
struct Counting {
    pool: Arc<dyn HttpSend>,
    sent: AtomicU32,
}

#[async_trait]
impl HttpSend for Counting {
    async fn send(
        &self,
        request: http::Request<PayloadBody>,
    ) -> Result<http::Response<ResponseBody>, BoxError> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.pool.send(request).await
    }
}

#[tokio::test]
async fn custom_transport_is_used() {
    let script = Script::start([Step::Cut, stored()]).await;
    let settings = settings(&script);
    let own = settings.calls.clone().caller(false).expect("connections");
    let pool = own.http;
    let counting = Arc::new(Counting {
        pool,
        sent: AtomicU32::default(),
    });
    let calls = CallSettings {
        http: Some(counting.clone()),
        ..limits().into()
    };
    let client = Client::new(ClientSettings { calls, ..settings }).expect("a client");
    upload(&client).await.expect("stored");
    assert_eq!(counting.sent.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn attempts_are_logged_if_enabled() {
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("unbroken").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer({
            let lines = lines.clone();
            move || lines.clone()
        })
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    for log_calls in [false, true] {
        let script = Script::start([error(BUSY, "SlowDown"), stored()]).await;
        let settings = ClientSettings {
            calls: CallSettings {
                log_calls,
                ..limits().into()
            },
            ..settings(&script)
        };
        upload(&Client::new(settings).expect("a client"))
            .await
            .expect("stored");
    }
    let text = String::from_utf8(lines.0.lock().expect("unbroken").clone()).expect("text");
    let calls: Vec<_> = text
        .lines()
        .filter(|line| line.contains("S3APICall"))
        .collect();
    assert_eq!(calls.len(), 2, "{text}");
    assert!(calls[0].contains("operation=\"UploadPart\"") && calls[0].contains("status=503"));
    assert!(calls[1].contains("duration_ms=") && calls[1].contains("status=200"));
    assert!(
        !text.contains("the-secret") && !text.contains("Signature="),
        "{text}"
    );
}

#[tokio::test]
async fn sequential_calls_share_a_connection() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let serve = async {
        let (stream, _) = listener.accept().await.expect("accepts");
        let mut stream = BufReader::new(stream);
        let mut lines = String::new();
        while stream.read_line(&mut lines).await.expect("a line") > 0 {
            if !lines.ends_with("\r\n\r\n") {
                continue;
            }
            let body = if lines.starts_with("GET") {
                "hello"
            } else {
                ""
            };
            let response = format!("HTTP/1.1 200 OK\r\netag: e\r\ncontent-length: 5\r\n\r\n{body}");
            stream
                .write_all(response.as_bytes())
                .await
                .expect("written");
            lines.clear();
        }
    };
    let script = Script::start([]).await;
    let client = Client::new(ClientSettings {
        endpoint: Some(endpoint),
        ..settings(&script)
    })
    .expect("a client");
    let work = async {
        for _ in 0..5 {
            client.head_object(&object()).await.expect("there");
            let object = client.get_object(&object(), None).await.expect("opened");
            assert_eq!(object.bytes(5).await.expect("all"), "hello");
        }
    };
    tokio::select! {
        // A second connection would never be accepted.
        () = serve => panic!("the connection was closed"),
        () = work => {}
    }
    assert_eq!(client.stats().requests(), 10);
}

#[tokio::test]
async fn denied_read_may_mean_a_missing_object() {
    for (denied_is_missing, wanted) in [
        (false, ErrorKind::AccessDenied),
        (true, ErrorKind::NoSuchKey),
    ] {
        let denied = || error("403 Forbidden", "AccessDenied");
        let script = Script::start([denied(), denied(), denied()]).await;
        let client = Client::new(ClientSettings {
            denied_is_missing,
            ..settings(&script)
        })
        .expect("a client");
        let get = client
            .get_object(&object(), None)
            .await
            .expect_err("denied");
        assert_eq!(*get.kind(), wanted);
        let head = client.head_object(&object()).await.expect_err("denied");
        assert_eq!(*head.kind(), wanted);
        // A denied write stays a denied write.
        let put = upload(&client).await.expect_err("denied");
        assert_eq!(*put.kind(), ErrorKind::AccessDenied);
    }
}
