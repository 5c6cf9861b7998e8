//! A connection of HTTP/2.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use http::Request;
use tokio::sync::Semaphore;

use super::halves::{Receiving, Sending};
use crate::driver::before_request;
use crate::io::ServerIo;
use crate::limits::ConnectionLimits;
use crate::limits::timeouts::ServerShared;
use crate::service::{ConnectionService, HttpService};
use crate::shutdown::{FirstRequest, ShutdownPhase};
use crate::stream::response::respond;
use crate::stream::window::{BASE_WINDOW, ReceiveWindow, SMALL_WINDOW};
use crate::stream::{StreamContent, task};

/// Bytes of a response that wait for the socket, besides their frame.
const SEND_BUFFER: usize = 32 * 1024;

const MAX_FRAME: u32 = 64 * 1024;

/// Bytes by which the frames of content that one read of the socket brings may be smaller than 256 bytes each.
const SMALL_FRAMES: usize = 1 << 20;

/// Limits of one connection.
fn builder(limits: &ConnectionLimits) -> Builder {
    let mut builder = Builder::new();
    let max_streams = limits.max_streams.max(1) as usize;
    builder
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_stream_head())
        .initial_window_size(SMALL_WINDOW)
        .initial_connection_window_size(BASE_WINDOW)
        // A client may cancel all its requests at once, before they are accepted, and after their response.
        .max_pending_accept_reset_streams(max_streams)
        .max_concurrent_reset_streams(max_streams)
        .data_frame_budget(SMALL_FRAMES)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Serves a connection until it ends.
pub(crate) async fn serve_connection<S: HttpService>(
    io: ServerIo,
    service: ConnectionService<S>,
) -> Result<(), h2::Error> {
    let server = service.shared.server.clone();
    let activity = service.shared.activity.clone();
    // For the client's preface: browsers open connections in advance.
    let mut handshake = pin!(builder(&server.limits).handshake(io));
    let mut first_request = FirstRequest::default();
    let shaken = before_request(&server, &activity, &mut first_request, |cx| {
        handshake.as_mut().poll(cx).map(Some)
    });
    let Some(connection) = shaken.await.transpose()? else {
        return Ok(());
    };
    let window = ReceiveWindow::new(server.clone(), move |_| activity.waker.wake());
    let window = Arc::new(window);
    let mut http2 = Http2 {
        connection,
        window: window.clone(),
        current_size: BASE_WINDOW,
        current_of_streams: SMALL_WINDOW,
        goes_away: false,
    };
    // A client may reset streams and open others while the service still runs.
    let permits = Arc::new(Semaphore::new(server.limits.max_streams.max(1) as usize));
    loop {
        let permitted = permits.clone().acquire_owned();
        let stream_permit = tokio::select! {
            biased;
            // The semaphore is never closed.
            permitted = permitted => permitted.ok(),
            closed = poll_fn(|cx| http2.update(&server).poll_closed(cx)) => return closed,
        };
        let accepted = poll_fn(|cx| http2.update(&server).poll_accept(cx)).await;
        let Some((request, sending)) = accepted.transpose()? else {
            return Ok(());
        };
        task::spawn(&server, |exchange| {
            let (parts, receiving) = request.into_parts();
            let head = Request::from_parts(parts, ());
            let content = StreamContent::new(Receiving(receiving), &head, &window, exchange);
            let sending = Sending::new(sending, service.shared.clone());
            let served = respond(head, content, sending, &service, service.shared.peer);
            async move {
                served.await;
                drop(stream_permit);
            }
        });
    }
}

struct Http2 {
    connection: Connection<ServerIo, Bytes>,
    /// Its sizes are requested by any stream.
    window: Arc<ReceiveWindow>,
    current_size: u32,
    current_of_streams: u32,
    goes_away: bool,
}

impl Http2 {
    /// Before each poll of the connection.
    fn update(&mut self, server: &ServerShared) -> &mut Connection<ServerIo, Bytes> {
        let must_leave = server.shutdown_phase() > ShutdownPhase::Running;
        if !self.goes_away && (must_leave || self.window.is_stale()) {
            self.goes_away = true;
            self.connection.graceful_shutdown();
        }
        let (size, of_streams) = (self.window.size(), self.window.of_streams());
        if size != self.current_size {
            self.connection.set_target_window_size(size);
            self.current_size = size;
        }
        // Fails while the client has not confirmed earlier settings, and is tried again when it has.
        if of_streams != self.current_of_streams
            && self.connection.set_initial_window_size(of_streams).is_ok()
        {
            self.current_of_streams = of_streams;
        }
        &mut self.connection
    }
}
