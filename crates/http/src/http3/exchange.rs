//! A request and its response, on one stream.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::{HeaderMap, Request, Response};
use landfall::service::{Peer, RequestBodyError};
use tokio::time::timeout;

use super::quic::{QuicConnection, QuicStream};
use crate::connection::plain;
use crate::limits::timeouts::ServerShared;
use crate::service::{ConnectionService, HttpService};
use crate::stats::NetStats;
use crate::stream::response::respond;
use crate::stream::window::ReceiveWindow;
use crate::stream::{Exchange, ReceiveHalf, SendHalf, StreamContent};

/// Bytes of all responses of a connection that are kept until the client confirms them: at first, and the most
/// while it takes many.
pub(super) const SEND_WINDOW: u64 = 32 << 10;
const MAX_SEND_WINDOW: u64 = 1 << 20;

type Stream = RequestStream<QuicStream, Bytes>;

/// Receives a request; `None` if there is none.
pub(super) async fn receive_head(
    resolver: RequestResolver<QuicConnection, Bytes>,
    server: &ServerShared,
) -> Option<(Request<()>, Stream)> {
    let time = match server.limits.header_timeout {
        Duration::ZERO => Duration::MAX,
        time => time,
    };
    match timeout(time, resolver.resolve_request()).await {
        Ok(Ok(resolved)) => Some(resolved),
        Ok(Err(error)) => {
            tracing::debug!(%error, "stream ended");
            None
        }
        Err(_) => {
            NetStats::add(&server.stats.header_timeouts, 1);
            None
        }
    }
}

/// Lets the service respond, and sends the response. Drops `connection` when its client has left.
pub(super) async fn serve_request<S: HttpService>(
    (head, stream): (Request<()>, Stream),
    service: ConnectionService<S>,
    connection: quinn::Connection,
    window: Arc<ReceiveWindow>,
    exchange: Arc<Exchange>,
) {
    let (sending, receiving) = stream.split();
    let (stats, peer) = (
        service.shared.server.stats.clone(),
        connection.remote_address(),
    );
    let receiving = Receiving(receiving, stats.clone());
    let mut content = StreamContent::new(receiving, &head, &window, exchange);
    drop(window);
    poll_fn(|cx| {
        content.poll_first(cx);
        Poll::Ready(())
    })
    .await;
    let peer = Peer {
        address: Some(plain(peer)),
        ..service.shared.peer
    };
    let sending = Sending::new(sending, connection, stats);
    respond(head, content, sending, &service, peer).await;
}

struct Receiving(Stream, Arc<NetStats>);

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

    /// quinn has returned them.
    fn release(&mut self, _: usize) {}

    fn keeps_window(&self) -> bool {
        false
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
    stream: Stream,
    connection: quinn::Connection,
    /// The end of the connection.
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
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

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.closed.as_mut().poll(cx)
    }

    fn cut(&mut self) {
        self.stream.stop_stream(Code::H3_REQUEST_CANCELLED);
    }
}

impl Sending {
    fn new(stream: Stream, connection: quinn::Connection, stats: Arc<NetStats>) -> Self {
        let own = connection.clone();
        Self {
            stream,
            connection,
            closed: Box::pin(async move { drop(own.closed().await) }),
            stats,
        }
    }

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
