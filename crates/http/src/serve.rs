//! Accepts connections on all listeners until the shutdown, and runs the phases of the shutdown.
//!
//! Takes a permit from the connection limit before it accepts. Serves nothing itself: the threads of `workers` do. A
//! connection that failed costs no pause; other errors, such as exhausted file descriptors, cost 5 ms to 1 s. A QUIC
//! client gets no connection before it has proven its address by a retry (RFC 9000 section 8.1).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::driver::{self, Accepted};
use super::http3::connection::{serve_connection, transport};
use super::http3::listener::QuicListener;
use super::limits::ConnectionLimits;
use super::limits::timeouts::{ServerShared, run_sweeper};
use super::listener::Listener;
use super::log_throttle::LogThrottle;
use super::proxy_protocol::TrustedProxies;
use super::service::HttpService;
use super::shutdown::{Shutdown, ShutdownPhase};
use super::stats::{NetStats, OpenConnection};
use super::tls::Tls;
use super::workers::Workers;

const DROP_TIME: Duration = Duration::from_secs(1);

/// Serves HTTP on all `listeners` until the `shutdown` has finished.
///
/// Each request has a [`Peer`](landfall::service::Peer) in its extensions. `service` is cloned for each request and
/// polled for readiness before each call. A panic in it ends only the connection that it happened on.
///
/// After [`Shutdown::start`] the listeners are closed, and running requests have the grace time to
/// finish. Then open request bodies end with
/// [`RequestBodyError::ShuttingDown`](landfall::service::RequestBodyError::ShuttingDown) and the response time starts. Then the
/// remaining connections are closed. Returns as soon as no connection is left and `drained` has
/// resolved. `drained` is polled once all connections have closed: it is for work that outlives its
/// request and runs on the same threads.
///
/// # Errors
/// `listeners` is empty, or the threads of [`ConnectionLimits::workers`] cannot be started.
///
/// # Cancel safety
/// Dropping the future stops accepting, and open connections continue without timeouts. Use
/// `shutdown` instead.
pub async fn serve(
    listeners: Vec<Listener>,
    service: impl HttpService,
    limits: ConnectionLimits,
    shutdown: Shutdown,
    stats: Arc<NetStats>,
    drained: impl Future<Output = ()>,
) -> io::Result<()> {
    if listeners.is_empty() {
        let kind = io::ErrorKind::InvalidInput;
        return Err(io::Error::new(kind, "nothing to listen on"));
    }
    let workers = Arc::new(Workers::start(limits.workers)?);
    let alt_svc = listeners.iter().find_map(Listener::quic);
    let alt_svc = alt_svc.and_then(QuicListener::alt_svc);
    let server = ServerShared::new(limits, shutdown.clone(), stats, alt_svc);
    let server = Arc::new(server);

    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(run_sweeper(server.clone()));
    let acceptor = Acceptor {
        service,
        server: server.clone(),
        workers,
    };
    for listener in listeners {
        let (acceptor, shutdown) = (acceptor.clone(), shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.started() => {}
                () = acceptor.run(listener) => {}
            }
        });
    }

    shutdown.started().await;
    let all_closed = async {
        server.no_connection().await;
        drained.await;
    };
    tokio::pin!(all_closed);
    let phases = [
        (ShutdownPhase::Draining, shutdown.grace),
        (ShutdownPhase::Aborting, shutdown.response_timeout),
        (ShutdownPhase::Closing, DROP_TIME),
    ];
    for (phase, time) in phases {
        shutdown.advance(phase);
        if tokio::time::timeout(time, &mut all_closed).await.is_ok() {
            break;
        }
    }
    tasks.shutdown().await;
    Ok(())
}

#[derive(Clone)]
struct Acceptor<S> {
    service: S,
    server: Arc<ServerShared>,
    workers: Arc<Workers>,
}

impl<S: HttpService> Acceptor<S> {
    async fn run_http3(self, quic: &QuicListener, tls: &Tls) {
        let mut config = quic.config.clone();
        config.transport_config(Arc::new(transport(&self.server.limits)));
        while let Some(permit) = self.server.vacancy().await {
            let Some(incoming) = quic.endpoint.accept().await else {
                return;
            };
            if incoming.may_retry() && !incoming.remote_address_validated() {
                // A client that gives a false address gets nothing else. quinn would send such an address up to
                // one packet more than three times the received bytes (RFC 9000 section 8.1).
                if incoming.retry().is_err() {
                    tracing::debug!("QUIC retry not sent");
                }
                continue;
            }
            let Some(crypto) = tls.quic_config() else {
                incoming.refuse();
                continue;
            };
            NetStats::add(&self.server.stats.accepted, 1);
            let mut config = config.clone();
            config.crypto = crypto;
            let (server, service) = (self.server.clone(), self.service.clone());
            let connection = serve_connection(incoming, config.into(), server, service, permit);
            self.workers.spawn(connection);
        }
    }

    async fn run(self, listener: Listener) {
        if let Some((quic, tls)) = listener.quic().zip(listener.tls.as_ref()) {
            return self.run_http3(quic, tls).await;
        }
        let failing = LogThrottle::default();
        let mut pause = Duration::ZERO;
        let stats = self.server.stats.clone();
        while let Some(permit) = self.server.vacancy().await {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    NetStats::add(&stats.accept_errors, 1);
                    if !is_connection_error(&error) {
                        // File descriptors or memory are exhausted: an immediate retry would only spin.
                        pause = (pause * 2).clamp(Duration::from_millis(5), Duration::from_secs(1));
                        if failing.is_due() {
                            tracing::error!(%error, "failed to accept connections");
                        }
                        drop(permit);
                        tokio::time::sleep(pause).await;
                    }
                    continue;
                }
            };
            pause = Duration::ZERO;
            NetStats::add(&stats.accepted, 1);
            let is_trusted = |proxies: &TrustedProxies| {
                let peer = peer.address.map(|peer| peer.ip());
                peer.is_some_and(|peer| proxies.0(peer))
            };
            if listener
                .proxies
                .as_ref()
                .is_some_and(|proxies| !is_trusted(proxies))
            {
                let reason = "the address is not that of a trusted proxy";
                self.server.reject_proxy(peer, &reason);
                continue;
            }
            let accepted = Accepted {
                socket,
                tls: listener.tls.as_ref().map(Tls::server_config),
                peer,
                is_proxied: listener.proxies.is_some(),
                open: OpenConnection::new(stats.clone(), permit),
            };
            let (server, service) = (self.server.clone(), self.service.clone());
            let served = driver::serve_connection(Box::new(accepted), server, service);
            self.workers.spawn(served);
        }
    }
}

fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected
    )
}
