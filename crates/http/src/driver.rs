//! The task of an accepted connection, from its PROXY header and TLS handshake to its end.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use landfall::service::Peer;
use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::connection::ConnectionShared;
use super::http1::Http1Io;
use super::http1::connection::Http1;
use super::http2;
use super::io::ServerIo;
use super::limits::timeouts::{ConnectionActivity, Phase, ServerShared};
use super::proxy_protocol::ProxyHeader;
use super::service::{ConnectionService, HttpService};
use super::shutdown::{FirstRequest, ShutdownPhase};
use super::stats::OpenConnection;
use super::stream::task;

/// A connection that is in no runtime yet.
pub(super) struct Accepted {
    pub(super) socket: std::net::TcpStream,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) peer: Peer,
    /// The peer is a proxy that sends a PROXY header.
    pub(super) is_proxied: bool,
    pub(super) open: OpenConnection,
}

/// Serves a connection until it ends.
///
/// Neither this nor `serve` is an `async fn`: those store each argument twice, as long as a connection is idle.
pub(super) fn serve_connection<S: HttpService>(
    accepted: Box<Accepted>,
    server: Arc<ServerShared>,
    service: S,
) -> impl Future<Output = ()> + Send {
    let activity = server.track_new(Phase::Head, true);
    let served = Box::pin(serve(accepted, server.clone(), activity.clone(), service));
    task::supervise(activity, served, move |_| {
        server.shutdown_phase() == ShutdownPhase::Closing
    })
}

fn serve<S: HttpService>(
    accepted: Box<Accepted>,
    server: Arc<ServerShared>,
    activity: Arc<ConnectionActivity>,
    service: S,
) -> impl Future<Output = ()> + Send {
    async move {
        let mut first_request = FirstRequest::default();
        let Accepted {
            socket,
            tls,
            mut peer,
            is_proxied,
            open,
        } = *accepted;
        let mut tcp = match TcpStream::from_std(socket) {
            Ok(tcp) => tcp,
            Err(error) => return tracing::debug!(%error, "connection ended"),
        };
        let mut is_proxy = false;
        if is_proxied {
            let mut header = ProxyHeader::default();
            let received = before_request(&server, &activity, &mut first_request, |cx| {
                header.poll_read(&mut tcp, cx).map(Some)
            });
            match received.await {
                Some(Ok(client)) => {
                    is_proxy = client.is_none();
                    peer.address = client.or(peer.address);
                }
                Some(Err(error)) if !header.is_empty() => {
                    return server.reject_proxy(peer, &error);
                }
                _ => return,
            }
        }
        let admitted = ConnectionShared::admit(server.clone(), activity, open, peer, is_proxy);
        let Some(shared) = admitted else {
            return;
        };
        let io = match ServerIo::new(tcp, tls, shared.clone()) {
            Ok(io) => io,
            Err(error) => return tracing::debug!(%error, "connection ended"),
        };
        let channel = Http1Io::new(io);
        let service = ConnectionService { service, shared };
        let mut may_be_http2 = server.limits.http2;
        if channel.lock().socket.has_handshake() {
            let activity = &service.shared.activity;
            let handshake = before_request(&server, activity, &mut first_request, |cx| {
                channel.lock().socket.poll_handshake(cx)
            });
            match handshake.await {
                None => return,
                Some(true) => {
                    let io = channel.lock().socket.take();
                    drop(channel);
                    return serve_http2(io, service).await;
                }
                Some(false) => may_be_http2 = false,
            }
        }
        let mut http1 = Http1::new(channel, service.clone(), may_be_http2);
        let ended = poll_fn(|cx| http1.poll(cx, server.shutdown_phase(), &mut first_request));
        if let Some(io) = ended.await {
            drop(http1);
            serve_http2(io, service).await;
        }
    }
}

/// Polls the socket; `None` if the time for the first request is over.
pub(super) async fn before_request<T>(
    server: &ServerShared,
    activity: &ConnectionActivity,
    first_request: &mut FirstRequest,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<T>>,
) -> Option<T> {
    let polled = poll_fn(|cx| {
        let is_over = first_request.is_over(server.shutdown_phase(), cx);
        match is_over || activity.action().is_some() {
            true => Poll::Ready(None),
            false => poll(cx),
        }
    });
    polled.await
}

async fn serve_http2<S: HttpService>(io: ServerIo, service: ConnectionService<S>) {
    // On the heap: most connections have none.
    let served = Box::pin(http2::serve_connection(io, service));
    if let Err(error) = served.await {
        tracing::debug!(%error, "connection ended");
    }
}
