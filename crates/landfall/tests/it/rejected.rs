//! Failed requests, and the state after them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use landfall::{
    BoxError, Composer, Config,
    event::{Event, EventKinds, EventSink},
    hook::{CreateDecision, Hook, HookPoints, RequestInfo},
    store::MemoryStore,
    upload::{Completion, Upload},
};
use landfall_testkit::fault::{Failure, Fault, FaultStore, Faults, StoreCall};
use tokio::net::TcpStream;

use crate::harness::{DATA, Site, everywhere, id, with_defaults};

/// Counts its calls.
#[derive(Debug, Clone, Default)]
struct Counting(Arc<AtomicUsize>);

#[async_trait]
impl EventSink for Counting {
    fn event_kinds(&self) -> EventKinds {
        EventKinds::ALL
    }

    async fn prepare(&self, _: &[Event]) -> Result<(), BoxError> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn emit(&self, _: Event) {}

    fn emit_progress(&self, _: Event) {}
}

#[async_trait]
impl Hook for Counting {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(&self, _: &RequestInfo, _: &Upload) -> Result<CreateDecision, BoxError> {
        self.0.fetch_add(1, Relaxed);
        Ok(CreateDecision::allow())
    }
}

#[tokio::test]
async fn an_append_that_does_not_fit_prepares_no_event() {
    everywhere(
        |_| {},
        async |site| {
            let path = site.create(5).await;
            let sink = Counting::default();
            let site =
                Site::sharing_store(site, |config| *config = config.clone().sink(sink.clone()));
            let site = site.await;
            let reply = site.patch(&path, 0, "too long").await;
            reply.refused(413, "ERR_UPLOAD_SIZE_EXCEEDED");
            assert_eq!(sink.0.load(Relaxed), 0);
            let stored = site.parts.store().load(&id(&path)).await.unwrap();
            let completion = &stored.upload.completion;
            assert_eq!(
                *completion,
                Completion::NotTracked,
                "its description was written"
            );
            site.patch(&path, 0, "hello").await.expect(204);
            assert!(sink.0.load(Relaxed) > 0);
        },
    )
    .await;
}

#[tokio::test]
async fn a_creation_that_finds_no_permit_calls_no_hook() {
    let hook = Counting::default();
    let mut config = Config::new(Composer::join(MemoryStore::new()));
    config.limits.max_transfers = 0;
    config.hooks.push(Arc::new(hook.clone()));
    let site = Site::start(config, None).await;
    let with_bytes = site.request("POST", "/files/").with("Upload-Length", "5");
    let reply = with_bytes.with("Content-Type", DATA).body("hello").send();
    assert_eq!(reply.await.status, 503);
    assert_eq!(hook.0.load(Relaxed), 0);
    site.create(5).await;
    assert_eq!(hook.0.load(Relaxed), 1);
}

#[tokio::test]
async fn a_published_offset_survives_an_undeclared_trailer() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let stream = TcpStream::connect(site.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        let connection = tokio::spawn(connection);
        // The length is known, but HTTP/2 has trailers nonetheless.
        let mut trailers = HeaderMap::new();
        trailers.insert("upload-checksum", "sha1 AAAA".parse().unwrap());
        let (last, wait) = tokio::sync::oneshot::channel();
        let body = Full::new(Bytes::from("hello")).with_trailers(Box::pin(async {
            wait.await.unwrap();
            Some(Ok(trailers))
        }));
        let request = Request::patch(format!("http://{}{path}", site.address))
            .header("Tus-Resumable", "1.0.0")
            .header("Content-Type", DATA)
            .header("Content-Length", 5)
            .header("Upload-Offset", "0")
            .body(body)
            .unwrap();
        let reply = tokio::spawn(sender.send_request(request));
        site.until_offset(&path, 5).await;
        last.send(()).unwrap();
        assert_eq!(reply.await.unwrap().unwrap().status(), 400);
        assert_eq!(site.offset(&path).await, 5);
        drop(sender);
        connection.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn bytes_that_could_not_be_read_back_do_not_count() {
    let faults = Faults::none();
    let store = FaultStore::new(MemoryStore::new(), faults.clone());
    let site = Site::start(Config::new(Composer::join(store)), None).await;
    let path = site.create(5).await;
    // The trailer is undeclared, so the bytes were not hashed on arrival.
    let ask = || {
        let trailer = ("Upload-Checksum", "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=");
        site.patching(&path, 0).chunked(&["hello"], &[trailer])
    };
    for fault in [
        Fault::Before(Failure::Io),
        Fault::Short(2, Failure::Unavailable),
    ] {
        faults.plan(StoreCall::Read, fault);
        assert!(ask().send().await.status >= 500);
        assert_eq!(site.offset(&path).await, 0, "{fault:?}");
    }
    ask().send().await.expect(204);
    assert_eq!(site.bytes(&path).await, "hello");
}
