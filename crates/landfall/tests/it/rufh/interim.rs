//! Interim responses (sections 4.2.2 and 4.4.2), for a server that can send them.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request, Response, StatusCode, request::Builder};
use http_body::Frame;
use http_body_util::{Empty, StreamBody};
use landfall::{
    Config, Handler, InterimResponses,
    hook::{ClientResponse, CreateDecision},
    removal::RemovalClock,
    service::{Forwarded, InterimSender, ResponseBody},
    store::{
        MemoryStore,
        file::{Durability, FileOptions, FileStore},
    },
};
use landfall_test_services::until;
use tower_service::Service as _;

use super::{NEWEST, PARTIAL, VERSIONS, complete};

const MIB: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);

/// Keeps the responses instead of sending them.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Response<()>>>>);

impl InterimSender for Recorder {
    fn send(&self, response: Response<()>) {
        self.0.lock().unwrap().push(response);
    }
}

impl Recorder {
    fn take(&self) -> Vec<Response<()>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn request(&self, version: u32, method: &str, path: &str) -> Builder {
        let sender: Arc<dyn InterimSender> = Arc::new(self.clone());
        let (flag, value) = complete(version, true);
        Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "h")
            .header("Upload-Draft-Interop-Version", version.to_string())
            .header(flag, value)
            .extension(sender)
    }
}

fn handler(change: impl FnOnce(&mut Config)) -> Handler {
    let mut config = Config::new(MemoryStore::new());
    change(&mut config);
    Handler::new(config).unwrap()
}

type Frames =
    StreamBody<std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>>>;

/// So many bytes after each pause.
fn body(frames: &[(Duration, usize)]) -> Frames {
    let frames = stream::iter(frames.to_vec()).then(async |(pause, length)| {
        tokio::time::sleep(pause).await;
        Ok(Frame::data(Bytes::from(vec![0; length])))
    });
    StreamBody::new(Box::pin(frames))
}

fn text<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    let value = response.headers().get(name)?;
    Some(value.to_str().unwrap())
}

#[track_caller]
fn assert_interim(response: &Response<()>, version: u32) {
    assert_eq!(response.status().as_u16(), 104);
    assert_eq!(
        text(response, "upload-draft-interop-version"),
        Some(&*version.to_string())
    );
}

async fn offset(handler: &Handler, version: u32, path: &str) -> u64 {
    let request = Request::head(path).header("Upload-Draft-Interop-Version", version);
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = handler.clone().call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    text(&response, "upload-offset").unwrap().parse().unwrap()
}

async fn send(
    handler: &Handler,
    request: Builder,
    frames: &[(Duration, usize)],
) -> Response<ResponseBody> {
    let request = request.body(body(frames)).unwrap();
    handler.clone().call(request).await.unwrap()
}

#[tokio::test]
async fn a_creation_names_its_upload_before_it_reads_the_content() {
    for version in VERSIONS {
        let recorder = Recorder::default();
        let handler = handler(|config| config.limits.max_size = Some(1000));
        let (content, received) = tokio::sync::oneshot::channel();
        let frames =
            stream::once(async { Ok::<_, std::io::Error>(Frame::data(received.await.unwrap())) });
        let request = recorder
            .request(version, "POST", "/files/")
            .header("Content-Length", 5);
        let request = request.body(StreamBody::new(Box::pin(frames))).unwrap();
        let response = tokio::spawn(handler.clone().call(request));
        while recorder.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let interim = recorder.take().pop().unwrap();
        assert_interim(&interim, version);
        assert_eq!(
            text(&interim, "upload-limit"),
            Some("min-size=0, max-size=1000")
        );
        assert_eq!(text(&interim, "upload-offset"), None);
        let location = text(&interim, "location").unwrap().to_owned();
        let path = location.strip_prefix("http://h").unwrap();
        assert_eq!(offset(&handler, version, path).await, 0);

        content.send(Bytes::from("hello")).unwrap();
        let response = response.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(text(&response, "location"), Some(&*location));
        assert_eq!(offset(&handler, version, path).await, 5);
        assert!(recorder.take().is_empty());
    }
}

/// Without an interim response, nobody can know the URL of a creation whose request was dropped.
#[tokio::test]
async fn a_dropped_creation_expires_early_if_its_url_was_not_sent() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for is_sent in [true, false] {
        let handler = handler(|config| config.lifetimes.unfinished = Some(7 * DAY));
        let recorder = Recorder::default();
        let mut request = recorder
            .request(NEWEST, "POST", "/files/")
            .header("Content-Length", 10);
        if !is_sent {
            request.extensions_mut().unwrap().clear();
        }
        let frames = stream::once(async {
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"hello")))
        });
        let request = request.body(StreamBody::new(Box::pin(frames.chain(stream::pending()))));
        let response = tokio::spawn(handler.clone().call(request.unwrap()));
        until(async || handler.stats().live_uploads == 1).await;
        response.abort();
        assert!(response.await.unwrap_err().is_cancelled());
        let due = async || {
            let clock = RemovalClock::believing(|| SystemTime::now() + DAY);
            let sweeper = handler.sweeper().dry_run().clock(clock);
            sweeper.run(|_| {}).await.unwrap().removed
        };
        match is_sent {
            true => {
                handler.shutdown().await;
                assert_eq!((due().await, recorder.take().len()), (0, 1));
            }
            false => until(async || due().await == 1).await,
        }
    }
}

/// At most once a second, and after 8 MiB.
#[tokio::test(start_paused = true)]
async fn stored_bytes_are_reported_in_intervals() {
    let frames = [
        (MOMENT, 9 * MIB),
        (MOMENT, 1),
        (SECOND, 1),
        (SECOND, 7 * MIB),
        (MOMENT, MIB),
        (MOMENT, 1),
        (SECOND, 1),
    ];
    let length: usize = frames.iter().map(|(_, length)| length).sum();
    let expected = [9 * MIB + 2, 17 * MIB + 2];
    for version in VERSIONS {
        let recorder = Recorder::default();
        let handler = handler(|_| {});
        let offsets = |responses: &[Response<()>]| -> Vec<usize> {
            let values = responses
                .iter()
                .filter_map(|response| text(response, "upload-offset"));
            values.map(|value| value.parse().unwrap()).collect()
        };
        let request = recorder
            .request(version, "POST", "/files/")
            .header("Content-Length", length);
        let response = send(&handler, request, &frames).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let location = text(&response, "location");
        let responses = recorder.take();
        let (first, others) = responses.split_first().unwrap();
        assert_eq!(text(first, "location"), location);
        for response in others {
            assert_interim(response, version);
            assert_eq!(
                text(response, "location"),
                location.filter(|_| version >= 8)
            );
        }
        let expected = if version >= 5 { &expected[..] } else { &[] };
        assert_eq!(offsets(others), expected, "version {version}");

        let path = create(&handler, length).await;
        let request = append(&recorder, version, &path).header("Content-Length", length);
        let response = send(&handler, request, &frames).await;
        assert!(response.status().is_success(), "{}", response.status());
        let responses = recorder.take();
        for response in &responses {
            assert_interim(response, version);
            assert_eq!(text(response, "location"), None);
        }
        assert_eq!(offsets(&responses), expected, "version {version}");
    }
}

/// Creates an upload with tus; its path.
async fn create(handler: &Handler, length: usize) -> String {
    let request = Request::post("/files/").header("Tus-Resumable", "1.0.0");
    let request = request
        .header("Upload-Length", length)
        .body(Empty::<Bytes>::new());
    let response = handler.clone().call(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    text(&response, "location").unwrap().to_owned()
}

fn append(recorder: &Recorder, version: u32, path: &str) -> Builder {
    let request = recorder
        .request(version, "PATCH", path)
        .header("Upload-Offset", 0);
    match version {
        3..6 => request,
        _ => request.header("Content-Type", PARTIAL),
    }
}

/// Nor bytes that a HEAD would not report, or that a checksum or the end of the body may revoke.
#[tokio::test]
async fn bytes_that_may_be_lost_are_not_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = FileOptions::default();
    options.durability = Durability::Every;
    let synced = FileStore::open(dir.path(), options).unwrap();
    let synced = Handler::new(Config::new(synced)).unwrap();
    let plain = handler(|_| {});
    let frames = [(MOMENT, 9 * MIB), (SECOND + MOMENT, 1), (MOMENT, 1)];
    let length = 9 * MIB + 2;
    let digest = format!("sha-256=:{}=:", "A".repeat(43));
    for (handler, length, digest, status) in [
        (&synced, Some(length), None, 201),
        (&plain, Some(length), Some(digest), 400),
        (&plain, None, None, 201),
        (&plain, Some(length), None, 201),
    ] {
        let recorder = Recorder::default();
        let is_reported = length.is_some() && digest.is_none() && std::ptr::eq(handler, &plain);
        let mut request = recorder.request(NEWEST, "POST", "/files/");
        if let Some(length) = length {
            request = request.header("Content-Length", length);
        }
        if let Some(digest) = digest {
            request = request.header("Content-Digest", digest);
        }
        let response = send(handler, request, &frames).await;
        assert_eq!(response.status().as_u16(), status);
        let responses = recorder.take();
        assert!(text(&responses[0], "location").is_some());
        assert_eq!(
            responses.len(),
            1 + usize::from(is_reported),
            "{responses:?}"
        );
    }
}

#[tokio::test]
async fn only_clients_that_name_an_accepted_version_get_any() {
    let frames = [(MOMENT, 5)];
    let recorder = Recorder::default();
    let accepts = handler(|config| {
        config.interop_versions = "6,10".parse().unwrap();
    });
    let request = |version| {
        recorder
            .request(version, "POST", "/files/")
            .header("Content-Length", 5)
    };
    let mut unnamed = request(10);
    unnamed
        .headers_mut()
        .unwrap()
        .remove("Upload-Draft-Interop-Version");
    let tus = request(10)
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", 5);
    for (request, status, count) in [
        (request(10), 201, 1),
        (request(6), 201, 1),
        (request(7), 201, 0),
        (unnamed, 201, 0),
        (tus, 201, 0),
    ] {
        let response = send(&accepts, request, &frames).await;
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(recorder.take().len(), count);
    }
}

#[tokio::test]
async fn uploads_that_are_denied_have_none() {
    let recorder = Recorder::default();
    let mut config = Config::new(MemoryStore::new());
    config = config
        .before_create(async |_, _| Ok(CreateDecision::deny(ClientResponse::text(403, "no"))));
    let handler = Handler::new(config).unwrap();
    let request = recorder
        .request(NEWEST, "POST", "/files/")
        .header("Content-Length", 5);
    assert_eq!(
        send(&handler, request, &[(MOMENT, 5)]).await.status(),
        StatusCode::FORBIDDEN
    );
    assert!(recorder.take().is_empty());
}

#[tokio::test]
async fn proxies_get_none_unless_they_are_known_to_forward_them() {
    use InterimResponses::{Auto, Off, On};

    for (setting, forwarded, field, count) in [
        (Auto, Forwarded::Ignore, None, 1),
        (Auto, Forwarded::Trust, None, 0),
        (Auto, Forwarded::TrustIf(Arc::new(|_| false)), None, 0),
        (Auto, Forwarded::Ignore, Some("Via"), 0),
        (Auto, Forwarded::Ignore, Some("Forwarded"), 0),
        (Auto, Forwarded::Ignore, Some("X-Forwarded-For"), 0),
        (Auto, Forwarded::Ignore, Some("X-Forwarded-Proto"), 0),
        (On, Forwarded::Trust, Some("Via"), 1),
        (Off, Forwarded::Ignore, None, 0),
    ] {
        let recorder = Recorder::default();
        let handler = handler(|config| {
            config.interim_responses = setting;
            config.forwarded = forwarded;
        });
        let mut request = recorder
            .request(NEWEST, "POST", "/files/")
            .header("Content-Length", 5);
        if let Some(field) = field {
            request = request.header(field, "x");
        }
        let response = send(&handler, request, &[(MOMENT, 5)]).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(recorder.take().len(), count, "{setting:?}, {field:?}");
    }
}
