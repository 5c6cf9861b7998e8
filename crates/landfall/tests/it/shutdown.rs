//! Transfers that end: silent bodies at their time-out, all of them at a shutdown.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use hyper::body::Frame;
use landfall::{
    Composer, Config, Handler,
    event::{self, EventKinds},
    hook::{ClientResponse, Decision, Hook, HookPoints, RequestInfo},
    store::{BoxError, MemoryStore},
    upload::Snapshot,
};
use landfall_test_services::until;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    time::{sleep, timeout},
};

use crate::harness::{DATA, Site, everywhere};

/// Nothing here takes longer, unless it hangs.
const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_silent_body_ends_at_its_time_out_and_a_slow_one_does_not() {
    let mut config = Config::new(Composer::join(MemoryStore::new()));
    config.body_timeout = Some(Duration::from_millis(1500));
    let site = Site::start(config, None).await;
    let silent = async {
        for headers in [
            ("Content-Length", "1000000"),
            ("Transfer-Encoding", "chunked"),
        ] {
            let path = site.create(1_000_000).await;
            let mut open = site.patching(&path, 0).with_all(&[headers]).open().await;
            open.write("3\r\n").await;
            let reply = open.reply().await.refused(500, "ERR_READ_TIMEOUT");
            assert_eq!(reply.header("connection"), Some("close"));
            let stored = if headers.0 == "Content-Length" { 3 } else { 0 };
            site.until_offset(&path, stored).await;
        }
    };
    let slow = async {
        let path = site.create(10).await;
        let ask = site.patching(&path, 0).with("Content-Length", "10");
        let mut open = ask.open().await;
        for _ in 0..10 {
            sleep(Duration::from_millis(300)).await;
            open.write("x").await;
        }
        open.reply().await.expect(204);
    };
    let verified = async {
        let path = site.create(10).await;
        let ask = site.patching(&path, 0).with("Content-Length", "10");
        // Of ten letters x.
        let ask = ask.with("Upload-Checksum", "md5 M2MRoBYYQybdvdYe3U7rUg==");
        let mut open = ask.open().await;
        open.write("xxxxx").await;
        open.reply().await.refused(500, "ERR_READ_TIMEOUT");
        assert_eq!(site.offset(&path).await, 0);
    };
    timeout(TIMEOUT, async { tokio::join!(silent, slow, verified) })
        .await
        .expect("a silent body does not end");
}

/// Decides when it is allowed to.
#[derive(Debug, Default)]
struct SlowHook {
    called: Notify,
    allowed: Notify,
}

#[async_trait]
impl Hook for SlowHook {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_finish(&self, _: &RequestInfo, _: &Snapshot) -> Result<Decision, BoxError> {
        self.called.notify_one();
        self.allowed.notified().await;
        Ok(Decision::allow())
    }
}

#[tokio::test]
async fn a_shutdown_ends_transfers_and_keeps_received_bytes() {
    everywhere(
        |_| {},
        async |site| {
            let silent = site.create(10).await;
            let ask = site.patching(&silent, 0).with("Content-Length", "10");
            let mut silent_request = ask.open().await;
            silent_request.write("01234").await;
            site.until_offset(&silent, 5).await;

            let busy = site.create(1 << 40).await;
            let length = (1_u64 << 40).to_string();
            let ask = site.patching(&busy, 0).with("Content-Length", &length);
            let (mut reader, mut writer) = ask.open().await.client.stream.into_split();
            let sending = tokio::spawn(async move {
                while writer.write_all(&[b'x'; 4096]).await.is_ok() {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            while site.offset(&busy).await == 0 {}

            let creation = site
                .request("POST", "/files/")
                .with_all(&[("Upload-Length", "10"), ("Content-Length", "10")]);
            let mut creation = creation.with("Content-Type", DATA).open().await;
            creation.write("0123").await;
            until(async || site.handler.stats().live_uploads >= 3).await;

            timeout(TIMEOUT, site.handler.shutdown())
                .await
                .expect("transfers continue after a shutdown");
            for open in [&mut silent_request, &mut creation] {
                let reply = open.reply().await.refused(503, "ERR_SERVER_SHUTDOWN");
                assert!(reply.number("retry-after") > 0);
            }
            let mut status = [0; 12];
            reader.read_exact(&mut status).await.unwrap();
            assert_eq!(&status, b"HTTP/1.1 503");
            sending.abort();

            site.patch(&silent, 5, "56789")
                .await
                .refused(503, "ERR_SERVER_SHUTDOWN");
            site.post(&[("Upload-Length", "1")])
                .await
                .refused(503, "ERR_SERVER_SHUTDOWN");
            assert_eq!(site.offset(&silent).await, 5);
            assert_eq!(site.bytes(&silent).await, "01234");
            let stored = site.offset(&busy).await;
            assert!(stored > 0);
            assert_eq!(site.bytes(&busy).await.len() as u64, stored);
            site.delete(&busy).await.expect(204);
            let again = site.handler.shutdown();
            timeout(TIMEOUT, again).await.expect("nothing is left");

            let next = Site::sharing_store(site, |_| {}).await;
            next.patch(&silent, 5, "56789").await.expect(204);
            assert_eq!(next.bytes(&silent).await, "0123456789");
        },
    )
    .await;
}

/// A body that always has another byte at hand.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_and_a_stop_reach_a_client_that_never_pauses() {
    for is_stop in [false, true] {
        let progress = EventKinds {
            progress: is_stop,
            ..EventKinds::NONE
        };
        let (sink, mut events) = event::channel(progress, 16);
        let config = Config::new(Composer::join(MemoryStore::new())).sink(sink);
        let handler = Handler::new(config).unwrap();
        let request = |method: &str, path: &str| {
            http::Request::builder()
                .method(method)
                .uri(path)
                .header("Host", "h")
                .header("Tus-Resumable", "1.0.0")
        };
        let create = request("POST", "/files/").header("Upload-Defer-Length", "1");
        let created = handler
            .handle(create.body(http_body_util::Empty::new()).unwrap())
            .await;
        let location = created.headers()["location"].to_str().unwrap().to_owned();
        let append = |offset: u64| {
            request("PATCH", &location)
                .header("Upload-Offset", offset)
                .header("Content-Type", DATA)
        };
        // Starts the progress events outside of the thread that the client occupies.
        let byte = http_body_util::Full::new(Bytes::from_static(b"x"));
        let appended = handler.handle(append(0).body(byte).unwrap()).await;
        assert_eq!(appended.status(), 204);
        let append = append(1).body(Endless).unwrap();
        let appending = tokio::spawn({
            let handler = handler.clone();
            async move { handler.handle(append).await.status() }
        });
        until(async || handler.stats().live_uploads > 0).await;
        if is_stop {
            let event = timeout(TIMEOUT, events.next()).await.unwrap();
            event.unwrap().stop(ClientResponse::text(418, "no"));
        } else {
            timeout(TIMEOUT, handler.shutdown())
                .await
                .expect("the transfer continues");
        }
        let status = timeout(TIMEOUT, appending).await.expect("it continues");
        assert_eq!(status.unwrap(), if is_stop { 418 } else { 503 });
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_hooks_of_requests_that_are_gone() {
    let hook = Arc::new(SlowHook::default());
    let mut config = Config::new(Composer::join(MemoryStore::new()));
    config.hooks.push(hook.clone());
    let site = Site::start(config, None).await;
    let path = site.create(5).await;
    let mut open = site.patching(&path, 0).body("hello").open().await;
    open.write("hello").await;
    hook.called.notified().await;
    drop(open);
    let mut shutdown = tokio::spawn({
        let handler = site.handler.clone();
        async move { handler.shutdown().await }
    });
    let early = timeout(Duration::from_millis(300), &mut shutdown).await;
    assert!(early.is_err(), "the hook has not decided");
    hook.allowed.notify_one();
    timeout(TIMEOUT, shutdown)
        .await
        .expect("the hook has decided")
        .unwrap();
    assert_eq!(site.offset(&path).await, 5);
}

/// The documented use of [`Handler::shutdown`].
#[tokio::test]
async fn a_graceful_shutdown_of_axum_does_not_wait_for_silent_clients() {
    let mut config = Config::new(Composer::join(MemoryStore::new()));
    config.base_path = "/".into();
    let uploads = Handler::new(config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let app = Router::new().nest_service("/files", uploads.clone());
    let ended = uploads.clone();
    let server = tokio::spawn(async move {
        axum::serve(listener, app)
            .with_graceful_shutdown(async move {
                stopped.await.unwrap();
                ended.shutdown().await;
            })
            .await
            .unwrap();
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /files/ HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 100000\r\n\
         Content-Type: {DATA}\r\nContent-Length: 100000\r\n\r\nhello"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    until(async || uploads.stats().live_uploads > 0).await;
    stop.send(()).unwrap();
    let mut answer = Vec::new();
    let read = timeout(TIMEOUT, client.read_to_end(&mut answer));
    read.await.expect("the connection stays open").unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("ERR_SERVER_SHUTDOWN"), "{answer}");
    let ended = timeout(TIMEOUT, server).await;
    ended.expect("axum waits for the client").unwrap();
}
