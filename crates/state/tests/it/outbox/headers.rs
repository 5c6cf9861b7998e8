//! Request headers in stored and delivered events.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use landfall::{
    event::{Event, EventKind, EventSink},
    hook::RequestInfo,
    upload::{Upload, UploadId},
};
use landfall_hooks::{
    Creations, DeliveryError, EventHeaders, HookNames, HookResponse, Message, ProgressNotifier,
    Route, Transport,
};
use landfall_state::outbox::{HeaderKey, Query};
use landfall_state::sql::{Durability, Row, Statement};
use landfall_test_services::until;

use super::harness::{
    Receiver, Running, TestDatabase, TestTransport, in_any_state, on_each_database,
    prepare_and_emit,
};

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
    let mut request = RequestInfo::default();
    request.method = Method::POST;
    request.uri = "/files/".parse().unwrap();
    request.remote = "203.0.113.7:59395".into();
    request.headers = headers;
    Arc::new(request)
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

/// The messages, and the encrypted headers, of all rows.
async fn stored(database: &TestDatabase) -> Vec<(String, Option<String>)> {
    let connections = database.database.open(Durability::ProcessCrash).await;
    let select = "SELECT message, headers FROM outbox_deliveries ORDER BY route";
    let rows = connections.unwrap().read(Statement::new(select)).await;
    let text = |row: &Row| row.text("message").unwrap();
    let headers = |row: &Row| row.opt_text("headers").unwrap();
    rows.unwrap()
        .iter()
        .map(|row| (text(row), headers(row)))
        .collect()
}

/// Asserts that text contains no secret of `request()`.
fn assert_without_secrets(text: &str) {
    assert!(!text.contains("secret"), "{text}");
    assert!(!text.contains("Upload-Metadata"), "{text}");
}

/// Asserts that nothing that was stored or shown contains a secret.
fn assert_stored_without_secrets(rows: &[(String, Option<String>)]) {
    for (message, headers) in rows {
        assert!(
            message.len() <= ORDINARY,
            "{} bytes: {message}",
            message.len()
        );
        assert_without_secrets(message);
        assert_without_secrets(headers.as_deref().unwrap_or_default());
    }
}

const CREDENTIALS: [&str; 4] = ["Authorization", "Cookie", "Proxy-Authorization", "X-Tenant"];

fn assert_has_credentials(message: &Message) {
    let headers = &message.request.headers;
    for name in CREDENTIALS {
        assert_eq!(headers[name], [header(name)], "{name}");
    }
    assert!(!headers.contains_key("X-Api-Key"));
    assert_eq!(message.request.header("Host"), Some("uploads.example.com"));
}

fn header(name: &str) -> String {
    let request = request();
    request.headers[name].to_str().unwrap().to_owned()
}

/// A receiver that names `names`, and is down.
fn receiver<const N: usize>(names: [&str; N]) -> Arc<Receiver> {
    let receiver = Arc::new(Receiver::default());
    *receiver.headers.lock().unwrap() = EventHeaders::default().with(names);
    receiver.set_down(true);
    receiver
}

fn open_routes(receivers: &[(&'static str, &Arc<Receiver>)]) -> Vec<Route> {
    let receivers = receivers.iter();
    let routes = receivers.map(|(name, receiver)| Route {
        transport: Arc::new(TestTransport(name, (*receiver).clone())),
        names: HookNames::DEFAULT,
    });
    routes.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_gets_what_it_names_and_no_other_gets_it() {
    on_each_database(async |database| {
        let (naming, other) = (receiver(CREDENTIALS), receiver([]));
        let routes = open_routes(&[("http", &naming), ("nats", &other)]);
        let running = Running::start(database.settings(), routes).await;
        let outbox = &running.outbox;
        let upload = upload();
        let event = || Event::new(EventKind::Completed, upload.clone(), 0, Some(request()));
        outbox.prepare(&[event()]).await.unwrap();
        let prepared = stored(&database).await;
        assert_stored_without_secrets(&prepared);
        outbox.emit(event()).await;
        // `prepare` waits for its transaction, which follows earlier commands.
        let last = Event::new(EventKind::Terminated, upload.clone(), 0, None);
        outbox.prepare(&[last]).await.unwrap();
        let rows = stored(&database).await;
        assert_stored_without_secrets(&rows);
        let encrypted = rows.iter().filter(|(_, headers)| headers.is_some());
        assert_eq!(
            encrypted.count(),
            1,
            "only the route that names them stores them"
        );
        let listed = outbox.events().list(&in_any_state()).await.unwrap();
        assert_eq!(listed.len(), 4);
        assert_without_secrets(&format!("{listed:?}"));
        assert_without_secrets(&serde_json::to_string(&listed).unwrap());

        naming.set_down(false);
        other.set_down(false);
        assert_has_credentials(&naming.until(1).await[0]);
        let received = other.until(1).await;
        assert_without_secrets(&format!("{:?}", received[0]));
        assert_eq!(
            received[0].request.header("Upload-Length"),
            Some("734003200")
        );
        for name in CREDENTIALS {
            assert_eq!(received[0].request.header(name), None, "{name}");
        }
        running.close().await;
    })
    .await;
}

/// Stores an event for a receiver that is down, and ends the outbox.
async fn left_behind(database: &TestDatabase, key: &HeaderKey) -> Arc<Receiver> {
    let mut settings = database.settings();
    settings.header_key = key.clone();
    let receiver = receiver(CREDENTIALS);
    let routes = open_routes(&[("http", &receiver)]);
    let running = Running::start(settings, routes).await;
    let event = Event::new(EventKind::Created, upload(), 0, Some(request()));
    prepare_and_emit(&running.outbox, event).await;
    running.close().await;
    receiver
}

#[tokio::test(flavor = "multi_thread")]
async fn another_run_with_the_key_delivers_them() {
    on_each_database(async |database| {
        let key = HeaderKey::random();
        for (next, is_known) in [(key.clone(), true), (HeaderKey::random(), false)] {
            let receiver = left_behind(&database, &key).await;
            assert_stored_without_secrets(&stored(&database).await);
            receiver.set_down(false);
            let mut settings = database.settings();
            settings.header_key = next;
            let running = Running::start(settings, open_routes(&[("http", &receiver)])).await;
            let received = receiver.until(1).await;
            if is_known {
                assert_has_credentials(&received[0]);
            } else {
                // The event arrives all the same.
                assert_eq!(received[0].request.header("Authorization"), None);
                assert_eq!(
                    received[0].request.header("Host"),
                    Some("uploads.example.com")
                );
            }
            running.close().await;
            assert_eq!(stored(&database).await, []);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_has_none() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.retry.retry_for = Duration::ZERO;
        let routes = open_routes(&[("http", &receiver(CREDENTIALS))]);
        let running = Running::start(settings, routes).await;
        let event = Event::new(EventKind::Created, upload(), 0, Some(request()));
        let prepared = std::slice::from_ref(&event);
        running.outbox.prepare(prepared).await.unwrap();
        assert!(stored(&database).await[0].1.is_some());
        running.outbox.emit(event).await;
        let events = running.outbox.events();
        until(async || !events.list(&Query::default()).await.unwrap().is_empty()).await;
        let rows = stored(&database).await;
        assert_stored_without_secrets(&rows);
        assert_eq!(rows[0].1, None);
        running.close().await;
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

    fn event_headers(&self) -> EventHeaders {
        EventHeaders::default().with(["X-Tenant"])
    }
}

#[tokio::test]
async fn progress_carries_what_its_transport_names() {
    let recorder = Arc::new(Recorder::default());
    let route = Route {
        transport: recorder.clone(),
        names: HookNames::DEFAULT,
    };
    let progress = ProgressNotifier::new(vec![route], Creations::default());
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
