//! Requests for an upload that another node writes: late ones, and those of a returning client.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::Full;
use landfall::{Composer, Config, Handler, upload::UploadId};
use landfall_s3::{
    S3Store,
    lease::{BucketLocker, LeaseSettings, S3Leases},
};
use landfall_test_services::Moto;
use tokio::{sync::mpsc, time::sleep};

use crate::support::{client, create, options, pattern, request};

const LONG: Duration = Duration::from_secs(30);
const CHUNK: usize = 64 << 10;

/// A body whose chunks come from a channel.
struct ChannelBody(mpsc::Receiver<Bytes>);

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// Two nodes with leases in a shared bucket.
fn nodes(moto: &Moto) -> (S3Store, [Arc<Handler>; 2]) {
    let mut options = options(&moto.bucket("stale"));
    options.shared = true;
    let mut settings = LeaseSettings::bucket();
    settings.heartbeat = Duration::from_millis(200);
    settings.poll_interval = Duration::from_millis(50);
    let store = || S3Store::new(client(&moto.access()), options.clone()).unwrap();
    let node = || {
        let client = client(&moto.access());
        let leases = S3Leases::new(client, &options.bucket, "up/");
        let locker = BucketLocker::new(leases, settings.clone()).unwrap();
        let composer = Composer::join(store()).with_locker(locker);
        Arc::new(Handler::new(Config::new(composer)).unwrap())
    };
    (store(), [node(), node()])
}

fn patch<B>(offset: u64, length: usize, body: B) -> Request<B> {
    let mut head = request("PATCH", Bytes::new()).map(|_: Full<Bytes>| body);
    head.headers_mut().insert("Upload-Offset", offset.into());
    head.headers_mut().insert("Content-Length", length.into());
    head
}

fn offset<B>(response: &Response<B>) -> u64 {
    let offset = response.headers()["Upload-Offset"].to_str().unwrap();
    offset.parse().unwrap()
}

/// Starts a request with `length` bytes at offset 0; the channel provides the bytes.
async fn start(
    node: &Arc<Handler>,
    id: &UploadId,
    length: usize,
) -> (
    mpsc::Sender<Bytes>,
    tokio::task::JoinHandle<(StatusCode, u64)>,
) {
    let (send, body) = mpsc::channel(1);
    let (handler, name) = (node.clone(), id.to_string());
    let writing = tokio::spawn(async move {
        let response = handler
            .handle_at(Some(&name), patch(0, length, ChannelBody(body)))
            .await;
        let offset = response.headers().get("Upload-Offset");
        let offset = offset.map_or(0, |offset| offset.to_str().unwrap().parse().unwrap());
        (response.status(), offset)
    });
    let started = Instant::now();
    while node.stats().live_uploads == 0 {
        assert!(started.elapsed() < LONG, "nothing is written");
        sleep(Duration::from_millis(5)).await;
    }
    (send, writing)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_or_silent_request_does_not_interrupt_a_client_that_sends() {
    let moto = Moto::shared();
    let (store, [one, other]) = nodes(moto);
    let length = 40 * CHUNK;
    let bytes = pattern(1, length);
    let id = create(&store, length as u64).await.id.clone();
    let (send, writing) = start(&one, &id, length).await;
    let mut chunks = bytes.chunks(CHUNK).map(Bytes::copy_from_slice);
    for chunk in chunks.by_ref().take(8) {
        send.send(chunk).await.unwrap();
    }

    // Sent before the client switched to the first node.
    let late = patch(0, length, Full::new(bytes.clone()));
    let started = Instant::now();
    let late = other.handle_at(Some(id.as_str()), late).await;
    let took = started.elapsed();
    assert_eq!(late.status(), StatusCode::CONFLICT);
    let stored = offset(&late);
    assert!(stored >= 7 * CHUNK as u64, "{stored}");
    assert!(took < LONG / 3, "took {took:?}");

    // A client that sends only the head.
    let (silent_send, body) = mpsc::channel(1);
    let silent = tokio::spawn({
        let (other, name) = (other.clone(), id.to_string());
        let head = patch(stored, length - stored as usize, ChannelBody(body));
        async move { other.handle_at(Some(&name), head).await.status() }
    });
    for chunk in chunks {
        send.send(chunk).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    drop(send);
    let (status, offset) = writing.await.unwrap();
    assert_eq!((status, offset), (StatusCode::NO_CONTENT, length as u64));
    drop(silent_send);
    assert!(!silent.await.unwrap().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn returning_client_takes_over_soon() {
    let moto = Moto::shared();
    let (store, [one, other]) = nodes(moto);
    let length = 20 * CHUNK;
    let bytes = pattern(2, length);
    let id = create(&store, length as u64).await.id.clone();
    let (send, writing) = start(&one, &id, length).await;
    for chunk in bytes.chunks(CHUNK).take(8) {
        send.send(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    // From here on its first connection is stalled.
    let started = Instant::now();
    let end = loop {
        let head = request("HEAD", Bytes::new());
        let at = offset(&other.handle_at(Some(id.as_str()), head).await);
        let rest = bytes.slice(usize::try_from(at).unwrap()..);
        let body = Full::new(rest.clone());
        let response = other
            .handle_at(Some(id.as_str()), patch(at, rest.len(), body))
            .await;
        match response.status() {
            StatusCode::CONFLICT => assert!(started.elapsed() < LONG),
            status => {
                assert_eq!(status, StatusCode::NO_CONTENT);
                break offset(&response);
            }
        }
    };
    assert_eq!(end, length as u64);
    let took = started.elapsed();
    println!("took over after {took:?}");
    assert!(took < LONG / 3, "took {took:?}");
    let (status, _) = writing.await.unwrap();
    assert!(!status.is_success(), "{status}");
    drop(send);
}
