//! The task of an accepted connection, from its PROXY header and TLS handshake to its end.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::OwnedSemaphorePermit;

use super::connection::ConnectionShared;
use super::http1::connection::Http1;
use super::http1::{Channel, Http1Io};
use super::http2;
use super::io::ServerIo;
use super::limits::timeouts::ServerShared;
use super::proxy_protocol::ProxyHeader;
use super::service::{ConnectionService, HttpService};
use super::shutdown::{FirstRequest, ShutdownPhase};
use super::stats::OpenConnection;
use super::stream::task;

/// Serves a connection until it ends.
///
/// Neither this nor `serve` is an `async fn`: those store each argument twice, as long as a connection is idle.
pub(super) fn serve_connection<S: HttpService>(
    io: ServerIo,
    shared: Arc<ConnectionShared>,
    service: S,
    permit: OwnedSemaphorePermit,
    is_proxied: bool,
) -> impl Future<Output = ()> + Send {
    let server = shared.server.clone();
    let open = OpenConnection::new(server.stats.clone());
    let activity = shared.activity.clone();
    let service = ConnectionService { service, shared };
    let served = Box::pin(serve(io, service, permit, is_proxied));
    task::supervise(activity, served, move |_| {
        // Counted until the connection has ended.
        let _ = &open;
        server.shutdown_phase() == ShutdownPhase::Closing
    })
}

fn serve<S: HttpService>(
    io: ServerIo,
    mut service: ConnectionService<S>,
    permit: OwnedSemaphorePermit,
    is_proxied: bool,
) -> impl Future<Output = ()> + Send {
    let server = service.shared.server.clone();
    let mut first_request = FirstRequest::default();
    let channel = Http1Io::new(io);
    async move {
        if is_proxied {
            let mut header = ProxyHeader::default();
            let received = before_request(&channel, &server, &mut first_request, |io, cx| {
                io.poll_proxy_header(cx, &mut header).map(Result::ok)
            });
            let Some(client) = received.await else {
                return;
            };
            if let Some(client) = client {
                let Some(shared) = service.shared.admit_client(client) else {
                    return;
                };
                channel.lock().socket.set_shared(shared.clone());
                service.shared = shared;
            }
        }
        let mut may_be_http2 = server.limits.http2;
        if channel.lock().socket.has_handshake() {
            let handshake = before_request(
                &channel,
                &server,
                &mut first_request,
                ServerIo::poll_handshake,
            );
            match handshake.await {
                None => return,
                Some(true) => {
                    let io = channel.lock().socket.take();
                    drop(channel);
                    return serve_http2(io, service, permit).await;
                }
                Some(false) => may_be_http2 = false,
            }
        }
        let mut http1 = Http1::new(channel, service.clone(), may_be_http2);
        let ended = poll_fn(|cx| http1.poll(cx, server.shutdown_phase(), &mut first_request));
        if let Some(io) = ended.await {
            drop(http1);
            serve_http2(io, service, permit).await;
        }
    }
}

/// Polls the socket; `None` if the time for the first request is over.
async fn before_request<T>(
    channel: &Channel,
    server: &ServerShared,
    first_request: &mut FirstRequest,
    mut poll: impl FnMut(&mut ServerIo, &mut Context<'_>) -> Poll<Option<T>>,
) -> Option<T> {
    let polled = poll_fn(
        |cx| match first_request.is_over(server.shutdown_phase(), cx) {
            true => Poll::Ready(None),
            false => poll(&mut channel.lock().socket, cx),
        },
    );
    polled.await
}

async fn serve_http2<S: HttpService>(
    io: ServerIo,
    service: ConnectionService<S>,
    permit: OwnedSemaphorePermit,
) {
    // On the heap: most connections have none.
    let served = Box::pin(http2::serve_connection(io, service, Arc::new(permit)));
    if let Err(error) = served.await {
        tracing::debug!(%error, "connection ended");
    }
}
