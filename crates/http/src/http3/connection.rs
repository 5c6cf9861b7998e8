//! A connection of HTTP/3.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use h3::error::Code;
use landfall::service::Peer;
use quinn::rustls::pki_types::CertificateDer;
use quinn::{IdleTimeout, Incoming, ServerConfig, TransportConfig, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::exchange::{SEND_WINDOW, receive_head, serve_request};
use super::quic::QuicConnection;
use crate::connection::{ConnectionShared, plain};
use crate::limits::ConnectionLimits;
use crate::limits::timeouts::{Phase, ServerShared, TimeoutAction};
use crate::service::{ConnectionService, HttpService};
use crate::shutdown::ShutdownPhase;
use crate::stats::{NetStats, OpenConnection};
use crate::stream::task;
use crate::stream::window::{BASE_WINDOW, LARGE_WINDOW, ReceiveWindow};
use crate::tls::ClientCertificate;

/// Longer than any handshake that succeeds, for servers without a timeout of heads.
const MAX_HANDSHAKE: Duration = Duration::from_secs(60);

/// Frames besides the head of a request have some space, too.
const EXTRA_HEAD: u64 = 1024;

/// Control streams and those of QPACK, and some of unknown types.
const UNIDIRECTIONAL_STREAMS: u32 = 8;

/// If more streams are reset before their request has arrived, the connection is closed (RFC 9114 section 10.5).
const MAX_EMPTY_STREAMS: u32 = 1000;

/// Serves a connection until it ends.
pub(crate) async fn serve_connection<S: HttpService>(
    incoming: Incoming,
    config: Arc<ServerConfig>,
    server: Arc<ServerShared>,
    service: S,
    permit: OwnedSemaphorePermit,
) {
    let stats = &server.stats;
    let time = match server.limits.header_timeout {
        Duration::ZERO => MAX_HANDSHAKE,
        time => time,
    };
    let handshake = async { incoming.accept_with(config)?.await };
    let connection = match timeout(time, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            NetStats::add(&stats.tls_errors, 1);
            tracing::debug!(%error, "QUIC handshake failed");
            return;
        }
        Err(_) => {
            NetStats::add(&stats.header_timeouts, 1);
            return;
        }
    };
    NetStats::add(&stats.tls_handshakes, 1);
    let peer = Peer {
        address: Some(plain(connection.remote_address())),
        tls: true,
    };
    // Only now is it certain that the address is the client's.
    let activity = server.track_new(Phase::Head, true);
    let open = OpenConnection::new(stats.clone(), permit);
    let admitted = ConnectionShared::admit(server.clone(), activity.clone(), open, peer, false);
    let Some(shared) = admitted else {
        return close(&connection, Code::H3_EXCESSIVE_LOAD);
    };
    let chain = connection.peer_identity();
    let chain = chain.and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    if let Some(certificate) = chain.as_ref().and_then(|chain| chain.first()) {
        let _ = shared
            .client_certificate
            .set(ClientCertificate::new(certificate));
    }
    let service = ConnectionService { service, shared };
    let served = serve_requests(connection.clone(), service);
    task::supervise(activity, Box::pin(served), |activity| {
        let is_closing = server.shutdown_phase() == ShutdownPhase::Closing;
        is_closing || activity.action() == Some(TimeoutAction::Close)
    })
    .await;
    close(&connection, Code::H3_NO_ERROR);
}

fn close(connection: &quinn::Connection, code: Code) {
    let code = VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX);
    connection.close(code, b"");
}

async fn serve_requests<S: HttpService>(
    connection: quinn::Connection,
    service: ConnectionService<S>,
) {
    let shared = &service.shared;
    let server = &shared.server;
    let max_head = u64::from(server.limits.max_stream_head());
    let quic = QuicConnection::new(connection.clone(), max_head + EXTRA_HEAD);
    let mut builder = h3::server::builder();
    builder.max_field_section_size(max_head).send_grease(false);
    let mut http3 = match builder.build(quic).await {
        Ok(http3) => http3,
        Err(error) => return tracing::debug!(%error, "connection ended"),
    };
    let quic = connection.clone();
    let set_window = move |bytes: u32| quic.set_receive_window(bytes.into());
    let window = Arc::new(ReceiveWindow::new(server.clone(), set_window));
    // A client may reset streams and open others before the service has noticed.
    let max = server.limits.max_streams.max(1) as usize;
    let permits = Arc::new(Semaphore::new(max));
    let empty_streams = Arc::new(AtomicU32::new(0));
    let mut goes_away = false;
    loop {
        let changed = poll_fn(|_| match goes_away {
            false if server.shutdown_phase() > ShutdownPhase::Running || window.is_stale() => {
                Poll::Ready(())
            }
            // Each request has another one.
            true if Arc::strong_count(&empty_streams) == 1 => Poll::Ready(()),
            _ => Poll::Pending,
        });
        let next = async {
            // The semaphore is never closed.
            let permit = permits.clone().acquire_owned().await;
            (http3.accept().await, permit)
        };
        let (accepted, stream_permit) = tokio::select! {
            biased;
            () = changed => {
                if goes_away || http3.shutdown(0).await.is_err() {
                    return;
                }
                goes_away = true;
                continue;
            }
            accepted = next => accepted,
        };
        let resolver = match accepted {
            Ok(Some(resolver)) => resolver,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "connection ended"),
        };
        let quic = connection.clone();
        let service = service.clone();
        let shared = shared.clone();
        let (window, empty_streams) = (window.clone(), empty_streams.clone());
        task::spawn(server, |exchange| async move {
            match receive_head(resolver, &shared.server).await {
                Some(request) => serve_request(request, service, quic, window, exchange).await,
                None if empty_streams.fetch_add(1, Relaxed) == MAX_EMPTY_STREAMS => {
                    let peer = quic.remote_address();
                    tracing::warn!(%peer, "closed a connection with too many reset requests");
                    close(&quic, Code::H3_EXCESSIVE_LOAD);
                }
                None => {}
            }
            drop((stream_permit, empty_streams));
            // It may have been the last one before the connection goes away.
            shared.activity.waker.wake();
        });
    }
}

/// Limits of one connection.
pub(crate) fn transport(limits: &ConnectionLimits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits.max_streams.into())
        .max_concurrent_uni_streams(UNIDIRECTIONAL_STREAMS.into())
        .stream_receive_window(LARGE_WINDOW.into())
        .receive_window(BASE_WINDOW.into())
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(idle_timeout(limits));
    transport
}

/// A client that has vanished sends nothing; one that is alive confirms packets, and has the other timeouts.
fn idle_timeout(limits: &ConnectionLimits) -> Option<IdleTimeout> {
    let times = [limits.idle_timeout, limits.body_timeout];
    let longest = times.into_iter().max()?;
    let is_limited = times.iter().all(|time| !time.is_zero());
    IdleTimeout::try_from(longest).ok().filter(|_| is_limited)
}
