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
use crate::stream::window::{ReceiveWindow, WINDOW};
use crate::stream::{StreamContent, task};

/// Bytes of one request that a client may send before the service reads them. Two streams that are not
/// read stop the connection.
const STREAM_WINDOW: u32 = WINDOW / 2;

/// Bytes of a response that wait for the socket, besides their frame.
const SEND_BUFFER: usize = 32 * 1024;

const MAX_FRAME: u32 = 64 * 1024;

/// Limits of one connection.
fn builder(limits: &ConnectionLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_stream_head())
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
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
        current_window: WINDOW,
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
    /// Its size is requested by any stream.
    window: Arc<ReceiveWindow>,
    current_window: u32,
    goes_away: bool,
}

impl Http2 {
    /// Before each poll of the connection.
    fn update(&mut self, server: &ServerShared) -> &mut Connection<ServerIo, Bytes> {
        if !self.goes_away && server.shutdown_phase() > ShutdownPhase::Running {
            self.goes_away = true;
            self.connection.graceful_shutdown();
        }
        let wanted = self.window.size();
        let of_streams = match wanted {
            WINDOW => STREAM_WINDOW,
            large => large,
        };
        // Fails while the client has not confirmed earlier settings, and is tried again when it has.
        if wanted != self.current_window
            && self.connection.set_initial_window_size(of_streams).is_ok()
        {
            self.connection.set_target_window_size(wanted);
            self.current_window = wanted;
        }
        &mut self.connection
    }
}
