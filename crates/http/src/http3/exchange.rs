//! A request and its response, on one stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::{HeaderMap, Response};
use landfall::service::{Peer, RequestBodyError};
use tokio::time::timeout;

use super::quic::{QuicConnection, QuicStream};
use crate::connection::plain;
use crate::service::{ConnectionService, HttpService};
use crate::stats::NetStats;
use crate::stream::response::respond;
use crate::stream::window::ReceiveWindow;
use crate::stream::{Exchange, ReceiveHalf, SendHalf, StreamContent};

/// Bytes of all responses of a connection that are kept until the client confirms them: at first, and the most
/// while it takes many.
pub(super) const SEND_WINDOW: u64 = 32 << 10;
const MAX_SEND_WINDOW: u64 = 1 << 20;

/// Receives a request, lets the service respond, and sends the response. Returns whether there was a request.
pub(super) async fn serve_request<S: HttpService>(
    resolver: RequestResolver<QuicConnection, Bytes>,
    service: ConnectionService<S>,
    connection: quinn::Connection,
    window: Arc<ReceiveWindow>,
    exchange: Arc<Exchange>,
) -> bool {
    let server = &service.shared.server;
    let time = match server.limits.header_timeout {
        Duration::ZERO => Duration::MAX,
        time => time,
    };
    let (head, stream) = match timeout(time, resolver.resolve_request()).await {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(error)) => {
            tracing::debug!(%error, "stream ended");
            return false;
        }
        Err(_) => {
            NetStats::add(&server.stats.header_timeouts, 1);
            return false;
        }
    };
    let (sending, receiving) = stream.split();
    let (stats, peer) = (server.stats.clone(), connection.remote_address());
    let receiving = Receiving(receiving, stats.clone());
    let mut content = StreamContent::new(receiving, &head, &window, exchange);
    poll_fn(|cx| {
        content.poll_first(cx);
        Poll::Ready(())
    })
    .await;
    let peer = Peer {
        address: Some(plain(peer)),
        ..service.shared.peer
    };
    let sending = Sending {
        stream: sending,
        connection,
        stats,
    };
    respond(head, content, sending, &service, peer).await;
    true
}

struct Receiving(RequestStream<QuicStream, Bytes>, Arc<NetStats>);

impl ReceiveHalf for Receiving {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, RequestBodyError>> {
        let data = ready!(self.0.poll_recv_data(cx)).map_err(body_error)?;
        Poll::Ready(Ok(data.map(|mut data| {
            let len = data.remaining();
            NetStats::add(&self.1.bytes_in, len as u64);
            // The buffer is one `Bytes`, which is not copied.
            data.copy_to_bytes(len)
        })))
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, RequestBodyError>> {
        self.0.poll_recv_trailers(cx).map_err(body_error)
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn ignore(self: Box<Self>) -> Option<Box<dyn ReceiveHalf>> {
        Some(self)
    }

    fn refuse(mut self: Box<Self>) {
        self.0.stop_sending(Code::H3_NO_ERROR);
    }
}

struct Sending {
    stream: RequestStream<QuicStream, Bytes>,
    connection: quinn::Connection,
    stats: Arc<NetStats>,
}

impl SendHalf for Sending {
    type Error = StreamError;

    /// Each write waits for flow control, so at most one interim response is queued.
    fn can_send_interim(&mut self) -> bool {
        true
    }

    async fn send_interim(&mut self, head: Response<()>) -> Result<(), StreamError> {
        self.stream.send_response(head).await
    }

    async fn send_head(&mut self, head: Response<()>, is_end: bool) -> Result<(), StreamError> {
        self.stream.send_response(head).await?;
        self.finish_if(is_end).await
    }

    async fn send_data(&mut self, data: Bytes, is_end: bool) -> Result<(), StreamError> {
        if !data.is_empty() {
            NetStats::add(&self.stats.bytes_out, data.len() as u64);
            adjust_send_window(&self.connection);
            self.stream.send_data(data).await?;
        }
        self.finish_if(is_end).await
    }

    async fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError> {
        self.stream.send_trailers(trailers).await?;
        self.finish_if(true).await
    }

    fn poll_cancelled(&mut self, _: &mut Context<'_>) -> Poll<StreamError> {
        Poll::Pending
    }

    fn cut(&mut self) {
        self.stream.stop_stream(Code::H3_REQUEST_CANCELLED);
    }
}

impl Sending {
    async fn finish_if(&mut self, is_end: bool) -> Result<(), StreamError> {
        match is_end {
            true => self.stream.finish().await,
            false => Ok(()),
        }
    }
}

fn body_error(error: StreamError) -> RequestBodyError {
    match error {
        StreamError::RemoteTerminate { .. } | StreamError::ConnectionError { .. } => {
            RequestBodyError::Reset
        }
        // The trailers are too long.
        StreamError::HeaderTooBig { .. } | StreamError::StreamError { .. } => {
            RequestBodyError::Malformed
        }
        _ => RequestBodyError::UnexpectedEnd,
    }
}

/// Lets a connection keep what the client takes in two round trips.
fn adjust_send_window(connection: &quinn::Connection) {
    let taken = connection.stats().path.cwnd;
    connection.set_send_window((2 * taken).clamp(SEND_WINDOW, MAX_SEND_WINDOW));
}
