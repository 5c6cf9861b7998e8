//! Streams of HTTP/2.

use std::future::poll_fn;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client};
use http::HeaderMap;

use super::connection::{MAX_BODY_BYTES, TOO_LONG};
use super::http1::Stream;
use super::streams::{Opener, Receiver, Sender, Sides};
use super::{ClientError, Response, stream_error};

const WINDOW_BYTES: u32 = 1 << 20;

pub(super) struct Http2Opener(client::SendRequest<Bytes>);

/// Starts a connection, with TLS after ALPN, else by prior knowledge.
pub(super) async fn connect(stream: Stream) -> Result<Http2Opener, ClientError> {
    let mut builder = client::Builder::new();
    builder.enable_push(false);
    builder.initial_window_size(WINDOW_BYTES);
    builder.initial_connection_window_size(WINDOW_BYTES);
    let (opener, connection) = builder.handshake(stream).await.map_err(stream_error)?;
    // It ends when the last stream and the opener are dropped; its error is that of the streams, too.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(Http2Opener(opener))
}

#[async_trait]
impl Opener for Http2Opener {
    async fn open(&mut self, head: http::Request<()>, ends: bool) -> Result<Sides, ClientError> {
        poll_fn(|cx| self.0.poll_ready(cx))
            .await
            .map_err(stream_error)?;
        let opened = self.0.send_request(head, ends);
        let (response, stream) = opened.map_err(stream_error)?;
        let receiver = Http2Receiver {
            response: Some(response),
            body: None,
        };
        Ok((Box::new(Http2Sender(stream)), Box::new(receiver)))
    }
}

struct Http2Sender(SendStream<Bytes>);

#[async_trait]
impl Sender for Http2Sender {
    async fn send(&mut self, mut data: Bytes, ends: bool) -> Result<(), ClientError> {
        while !data.is_empty() {
            self.0.reserve_capacity(data.len());
            let capacity = poll_fn(|cx| self.0.poll_capacity(cx)).await;
            let capacity = capacity.ok_or(ClientError::Closed)?;
            let capacity = capacity.map_err(stream_error)?;
            let piece = data.split_to(capacity.min(data.len()));
            let is_last = ends && data.is_empty();
            self.0.send_data(piece, is_last).map_err(stream_error)?;
        }
        Ok(())
    }

    async fn finish(&mut self, trailers: HeaderMap) -> Result<(), ClientError> {
        let sent = match trailers.is_empty() {
            true => self.0.send_data(Bytes::new(), true),
            false => self.0.send_trailers(trailers),
        };
        sent.map_err(stream_error)
    }

    fn reset(&mut self) {
        self.0.send_reset(Reason::CANCEL);
    }
}

struct Http2Receiver {
    /// `None` after the final response.
    response: Option<client::ResponseFuture>,
    body: Option<RecvStream>,
}

#[async_trait]
impl Receiver for Http2Receiver {
    async fn head(&mut self) -> Result<Response, ClientError> {
        let Some(future) = &mut self.response else {
            return std::future::pending().await;
        };
        let head = poll_fn(|cx| {
            if let Poll::Ready(Some(interim)) = future.poll_informational(cx) {
                return Poll::Ready(interim.map(|head| (head.into_parts().0, None)));
            }
            let received = std::pin::Pin::new(&mut *future).poll(cx);
            received.map_ok(|head| {
                let (head, body) = head.into_parts();
                (head, Some(body))
            })
        });
        let (head, body) = head.await.map_err(stream_error)?;
        if body.is_some() {
            self.body = body;
            self.response = None;
        }
        Ok(Response::from(&head))
    }

    async fn body(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut content = Vec::new();
        let Some(body) = &mut self.body else {
            return Ok(content);
        };
        while let Some(data) = body.data().await {
            let data = data.map_err(stream_error)?;
            // The window is that of this stream, which may have ended.
            let _ = body.flow_control().release_capacity(data.len());
            content.extend_from_slice(&data);
            if content.len() > MAX_BODY_BYTES {
                return Err(TOO_LONG);
            }
        }
        Ok(content)
    }
}
