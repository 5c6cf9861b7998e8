//! Network errors.

use std::convert::Infallible;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use landfall::{
    hook::{ClientResponse, Decision},
    service::RequestBodyError,
    store::BoxError,
};
use tokio::io::AsyncReadExt as _;

use super::{DATA, Site, everywhere, with_defaults};
use crate::harness::AtEnd;

/// Sends a body that fails with `fault`, as with a server's timeouts.
async fn break_off(site: &Site, path: &str, fault: RequestBodyError) -> http::Response<()> {
    let pieces: [Result<Frame<Bytes>, BoxError>; 2] =
        [Ok(Frame::data("hello".into())), Err(fault.into())];
    let request = Request::patch(path)
        .header("Tus-Resumable", "1.0.0")
        .header("Content-Type", DATA)
        .header("Content-Length", "10")
        .header("Upload-Offset", "0")
        .body(StreamBody::new(frames(pieces)))
        .unwrap();
    let reply = site.handler.handle(request).await;
    let (head, body) = reply.into_parts();
    body.collect().await.unwrap();
    http::Response::from_parts(head, ())
}

fn frames<T: Unpin, const N: usize>(items: [T; N]) -> impl futures_core::Stream<Item = T> + Unpin {
    struct Items<T>(std::vec::IntoIter<T>);
    impl<T: Unpin> futures_core::Stream for Items<T> {
        type Item = T;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            std::task::Poll::Ready(self.0.next())
        }
    }
    Items(Vec::from(items).into_iter())
}

#[tokio::test]
async fn timeout_keeps_received_bytes_and_closes() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let reply = break_off(site, &path, RequestBodyError::Timeout).await;
        assert_eq!(reply.status(), 500);
        assert_eq!(reply.headers()["connection"], "close");
        assert_eq!(site.offset(&path).await, 5);
    })
    .await;
}

#[tokio::test]
async fn shutdown_keeps_received_bytes_and_sends_retry_after() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let reply = break_off(site, &path, RequestBodyError::ShuttingDown).await;
        assert_eq!(reply.status(), 503);
        assert!(reply.headers().contains_key("retry-after"));
        assert_eq!(site.offset(&path).await, 5);
    })
    .await;
}

#[tokio::test]
async fn error_replaces_100_continue() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        let expecting = |offset| {
            site.patching(&path, offset)
                .with("Expect", "100-continue")
                .with("Content-Length", "5")
        };
        let mut refused = expecting(3).open().await;
        let reply = refused.reply().await.expect(409);
        assert!(!reply.continued);
        assert_eq!(reply.header("connection"), Some("close"));

        let mut open = expecting(0).open().await;
        let mut first = [0; 25];
        open.client.stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
        open.write("hello").await;
        open.reply().await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn early_error_response_arrives_while_the_body_is_sent() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        // Large: the rest is not read, the connection is closed.
        let large = site.patching(&path, 3).with("Content-Length", "50000000");
        let mut open = large.open().await;
        open.write(&"x".repeat(100_000)).await;
        let reply = open.reply().await.expect(409);
        assert_eq!(reply.header("connection"), Some("close"));
        // Small: the rest is read and discarded, the connection stays open.
        let small = site.patching(&path, 3).with("Content-Length", "5");
        let mut open = small.open().await;
        open.write("hello").await;
        assert_eq!(open.reply().await.expect(409).header("connection"), None);
        open.write(&format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        let mut status = [0; 15];
        open.client.stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK");
    })
    .await;
}

#[tokio::test]
async fn upload_denied_at_completion_is_removed() {
    let never = AtEnd::always(|| Decision::Deny(ClientResponse::text(422, "not this one")));
    everywhere(
        |config| *config = config.clone().hook(never.clone()),
        async |site| {
            let path = site.create(5).await;
            let reply = site.patch(&path, 0, "hello").await.expect(422);
            assert_eq!(reply.body, "not this one");
            let status = site.head(&path).await.status;
            assert!(status == 404 || status == 410, "{status}");
            let whole = site.request("POST", "/files/").with("Upload-Length", "5");
            whole
                .with("Content-Type", DATA)
                .body("hello")
                .send()
                .await
                .expect(422);
            assert_eq!(site.uploads().await, 0);
        },
    )
    .await;
}

// A body's error type may be any convertible type, `Infallible` included.
#[tokio::test]
async fn creation_head_is_parsed_without_a_socket() {
    with_defaults(async |site| {
        let request = Request::post("/files/")
            .header("Tus-Resumable", "1.0.0")
            .header("Upload-Length", "0")
            .body(http_body_util::Empty::<Bytes>::new().map_err(|never: Infallible| match never {}))
            .unwrap();
        assert_eq!(site.handler.handle(request).await.status(), 201);
    })
    .await;
}
