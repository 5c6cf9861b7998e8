//! Request headers in stored and delivered events.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use landfall::{
    event::{Event, EventKind, EventSink},
    hook::RequestInfo,
    upload::{Upload, UploadId},
};
use landfall_database::{Durability, Statement};
use landfall_messages::{
    DeliveryError, EventHeaders, HookName, HookNames, HookResponse, Message, ProgressNotifier,
    Route, Transport,
};

use super::harness::{Harness, TestDatabase, on_each_database};

/// Maximum bytes of an ordinary event's row.
const ORDINARY: usize = 4096;

/// A creation by a browser behind a proxy, with a session cookie and an access token of usual
/// sizes.
fn request() -> Arc<RequestInfo> {
    let cookie = format!("session=cookie-secret{}", "c".repeat(1200));
    let token = format!("Bearer bearer-secret{}", "t".repeat(1500));
    let metadata = "filename dmFjYXRpb24gaW4gdGhlIG1vdW50YWlucy5tcDQ=,filetype dmlkZW8vbXA0";
    let fields = [
        ("accept", "*/*"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-US,en;q=0.9,de;q=0.8"),
        ("authorization", &token),
        ("content-length", "0"),
        ("cookie", &cookie),
        ("host", "uploads.example.com"),
        ("origin", "https://app.example.com"),
        ("proxy-authorization", "Basic proxy-secret"),
        (
            "referer",
            "https://app.example.com/projects/7?invite=referer-secret",
        ),
        ("tus-resumable", "1.0.0"),
        ("upload-length", "734003200"),
        ("upload-metadata", metadata),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        ),
        ("x-api-key", "key-secret"),
        ("x-request-id", "0b9a3f52-6a0e-4a7f-9d4a-6f1a7c1d2e3f"),
        ("x-tenant", "seven"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    Arc::new(RequestInfo {
        method: Method::POST,
        uri: "/files/".parse().unwrap(),
        remote: "203.0.113.7:59395".into(),
        headers,
        ..RequestInfo::default()
    })
}

fn upload() -> Arc<Upload> {
    let mut upload = Upload::new(UploadId::random(), Some(734_003_200));
    upload.created = Some(std::time::SystemTime::now());
    upload.metadata = landfall::upload::Metadata::from_header(
        "filename dmFjYXRpb24gaW4gdGhlIG1vdW50YWlucy5tcDQ=,filetype dmlkZW8vbXA0",
    )
    .unwrap();
    Arc::new(upload)
}

async fn stored(database: &TestDatabase) -> Vec<String> {
    let database = database
        .database
        .open(Durability::ProcessCrash)
        .await
        .unwrap();
    let rows = database
        .read(Statement::new("SELECT message FROM outbox_deliveries"))
        .await
        .unwrap();
    rows.iter().map(|row| row.text(0).unwrap()).collect()
}

/// Asserts that text contains no secret of `request()`.
fn assert_without_secrets(text: &str) {
    assert!(!text.contains("secret"), "{text}");
    assert!(!text.contains("Upload-Metadata"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_events_are_stored_in_four_kib_without_credentials() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        // Credentials stay excluded even if configured.
        let named = ["x-tenant", "Authorization", "COOKIE", "proxy-authorization"];
        settings.headers = EventHeaders::default().with(named);
        let harness = Harness::start(settings).await;
        harness.receiver.set_down(true);
        let (upload, request) = (upload(), request());
        for kind in [EventKind::Created, EventKind::Completed] {
            let event = || Event::new(kind, upload.clone(), 0, Some(request.clone()));
            harness.outbox.prepare(&[event()]).await.unwrap();
            // Both the prepared and the emitted form are stored.
            for message in stored(&database).await {
                assert_without_secrets(&message);
            }
            harness.outbox.emit(event()).await;
        }
        // `prepare` waits for its transaction, which follows earlier commands.
        let last = Event::new(EventKind::Terminated, upload.clone(), 0, None);
        harness.outbox.prepare(&[last]).await.unwrap();
        let rows = stored(&database).await;
        assert_eq!(rows.len(), 3);
        for row in &rows {
            assert!(row.len() <= ORDINARY, "{} bytes: {row}", row.len());
            assert_without_secrets(row);
        }
        harness.receiver.set_down(false);
        let received = harness.receiver.until(2).await;
        let created = &received[0];
        assert_eq!(created.hook, HookName::PostCreate);
        assert_eq!(created.request.header("X-Tenant"), Some("seven"));
        assert_eq!(created.request.header("Host"), Some("uploads.example.com"));
        assert_eq!(created.request.header("Upload-Length"), Some("734003200"));
        // Transports that forward these headers find none.
        for name in [
            "Authorization",
            "Cookie",
            "Proxy-Authorization",
            "X-Api-Key",
        ] {
            assert_eq!(created.request.header(name), None, "{name}");
        }
        assert_eq!(created.upload.metadata["filetype"], "video/mp4");
        harness.close().await;
    })
    .await;
}

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Message>>);

#[async_trait]
impl Transport for Recorder {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        self.0.lock().unwrap().push(message.clone());
        Ok(HookResponse::default())
    }
}

#[tokio::test]
async fn progress_carries_no_credentials() {
    let recorder = Arc::new(Recorder::default());
    let route = Route {
        transport: recorder.clone(),
        names: HookNames::DEFAULT,
    };
    let progress = ProgressNotifier::new(vec![route], EventHeaders::default().with(["X-Tenant"]));
    let upload = upload();
    let event = Event::new(EventKind::Progress, upload.clone(), 5, Some(request()));
    progress.emit(event).await;
    progress.wait_idle(upload.id.as_str()).await;
    let messages = recorder.0.lock().unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].request.header("X-Tenant"), Some("seven"));
    assert_without_secrets(&serde_json::to_string(&messages[0]).unwrap());
    assert_eq!(messages[0].request.header("Cookie"), None);
}

#[test]
fn long_values_of_built_in_headers_are_omitted() {
    let mut request = (*request()).clone();
    let long = HeaderValue::from_str(&"u".repeat(60_000)).unwrap();
    for name in ["user-agent", "x-tenant", "upload-concat"] {
        request.headers.insert(name, long.clone());
    }
    let event = Event::new(EventKind::Created, upload(), 0, Some(Arc::new(request)));
    let message = Message::event(&event, &EventHeaders::default());
    let json = serde_json::to_string(&message).unwrap();
    assert!(json.len() <= ORDINARY, "{} bytes", json.len());
}
