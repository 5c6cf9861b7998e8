//! The task of an accepted connection, from its PROXY header and TLS handshake to its end.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::OwnedSemaphorePermit;

use super::connection::ConnectionShared;
use super::http1::connection::Http1;
use super::http2;
use super::io::ServerIo;
use super::proxy_protocol::ProxyHeader;
use super::service::{ConnectionService, HttpService};
use super::shutdown::{FirstRequest, ShutdownPhase};
use super::stats::OpenConnection;
use super::stream::task;

/// Serves a connection until it ends.
pub(super) async fn serve_connection<S: HttpService>(
    io: ServerIo,
    shared: Arc<ConnectionShared>,
    service: S,
    permit: OwnedSemaphorePermit,
    is_proxied: bool,
) {
    let server = shared.server.clone();
    let _open = OpenConnection::new(server.stats.clone());
    let activity = shared.activity.clone();
    let served = Box::pin(serve(
        io,
        ConnectionService { service, shared },
        permit,
        is_proxied,
    ));
    task::supervise(activity, served, |_| {
        server.shutdown_phase() == ShutdownPhase::Closing
    })
    .await;
}

async fn serve<S: HttpService>(
    mut io: ServerIo,
    mut service: ConnectionService<S>,
    permit: OwnedSemaphorePermit,
    is_proxied: bool,
) {
    let server = service.shared.server.clone();
    let mut first_request = FirstRequest::default();
    if is_proxied {
        let mut header = ProxyHeader::default();
        let received = poll_fn(
            |cx| match first_request.is_over(server.shutdown_phase(), cx) {
                true => Poll::Ready(None),
                false => io.poll_proxy_header(cx, &mut header).map(Result::ok),
            },
        );
        let Some(client) = received.await else {
            return;
        };
        if let Some(client) = client {
            let Some(shared) = service.shared.admit_client(client) else {
                return;
            };
            io.set_shared(shared.clone());
            service.shared = shared;
        }
    }
    let mut may_be_http2 = server.limits.http2;
    if io.has_handshake() {
        let handshake = poll_fn(
            |cx| match first_request.is_over(server.shutdown_phase(), cx) {
                true => Poll::Ready(None),
                false => io.poll_handshake(cx),
            },
        );
        match handshake.await {
            None => return,
            Some(true) => return serve_http2(io, service, permit).await,
            Some(false) => may_be_http2 = false,
        }
    }
    let mut http1 = Http1::new(io, service.clone(), may_be_http2);
    let ended = poll_fn(|cx| http1.poll(cx, server.shutdown_phase(), &mut first_request));
    if let Some(io) = ended.await {
        drop(http1);
        serve_http2(io, service, permit).await;
    }
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
