//! The task of an accepted connection, from its PROXY header and TLS handshake to its end.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::connection::ConnectionShared;
use super::http1::connection::Http1;
use super::http2;
use super::io::ServerIo;
use super::limits::timeouts::ServerShared;
use super::proxy_protocol::ProxyHeader;
use super::service::{ConnectionService, HttpService};
use super::shutdown::{FIRST_REQUEST_TIME, ShutdownPhase};
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
        let received = poll_fn(|cx| match first_request.is_over(&server, cx) {
            true => Poll::Ready(None),
            false => io.poll_proxy_header(cx, &mut header).map(Result::ok),
        });
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
        let handshake = poll_fn(|cx| match first_request.is_over(&server, cx) {
            true => Poll::Ready(None),
            false => io.poll_handshake(cx),
        });
        match handshake.await {
            None => return,
            Some(true) => return serve_http2(io, service, permit).await,
            Some(false) => may_be_http2 = false,
        }
    }
    let mut http1 = Http1::new(io, service.clone(), may_be_http2);
    let ended = poll_fn(|cx| {
        let phase = first_request.follow(&server);
        http1.poll(cx, phase, &mut first_request.0)
    });
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

/// The time that is left for the first request, which may be in transit when the shutdown starts.
#[derive(Default)]
struct FirstRequest(Option<Pin<Box<Sleep>>>);

impl FirstRequest {
    fn follow(&mut self, server: &ServerShared) -> ShutdownPhase {
        let phase = server.shutdown_phase();
        if phase > ShutdownPhase::Running && self.0.is_none() {
            self.0 = Some(Box::pin(sleep(FIRST_REQUEST_TIME)));
        }
        phase
    }

    fn is_over(&mut self, server: &ServerShared, cx: &mut Context<'_>) -> bool {
        self.follow(server);
        self.0
            .as_mut()
            .is_some_and(|wait| wait.as_mut().poll(cx).is_ready())
    }
}
