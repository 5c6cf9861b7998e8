//! The task of an accepted connection, from its PROXY header and TLS handshake to its end.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::connection::ConnectionShared;
use super::http1::connection::Http1;
use super::http2;
use super::io::ServerIo;
use super::limits::ConnectionLimits;
use super::proxy_protocol::ProxyHeader;
use super::service::{ConnectionService, HttpService};
use super::shutdown::{FIRST_REQUEST_TIME, ShutdownPhase};
use super::stats::NetStats;

#[derive(Debug)]
pub(super) struct Protocols {
    http2: h2::server::Builder,
    prior_knowledge: bool,
}

impl Protocols {
    pub(super) fn new(limits: &ConnectionLimits) -> Self {
        Self {
            http2: http2::builder(limits),
            prior_knowledge: limits.http2,
        }
    }
}

type Http2 = Pin<Box<dyn Future<Output = Result<(), h2::Error>> + Send>>;

pub(super) struct Driver<S: HttpService> {
    state: State<S>,
    shared: Arc<ConnectionShared>,
    protocols: Arc<Protocols>,
    shutdown_phase: ShutdownPhase,
    /// Set once the shutdown has started: the time that is left for the first request.
    first_request: Option<Pin<Box<Sleep>>>,
    permit: Arc<OwnedSemaphorePermit>,
}

// No field is pinned in place.
impl<S: HttpService> Unpin for Driver<S> {}

enum State<S: HttpService> {
    ProxyHeader(Box<(ServerIo, S, ProxyHeader)>),
    Handshake(Box<(ServerIo, S)>),
    Http1(Http1<S>),
    Http2(Http2),
    Closed,
}

impl<S: HttpService> Driver<S> {
    pub(super) fn new(
        io: ServerIo,
        shared: Arc<ConnectionShared>,
        service: S,
        protocols: Arc<Protocols>,
        permit: OwnedSemaphorePermit,
        is_proxied: bool,
    ) -> Self {
        NetStats::add(&shared.server.stats.open, 1);
        let mut driver = Self {
            state: State::Closed,
            shared,
            protocols,
            shutdown_phase: ShutdownPhase::Running,
            first_request: None,
            permit: Arc::new(permit),
        };
        match is_proxied {
            true => {
                let proxied = (io, service, ProxyHeader::default());
                driver.state = State::ProxyHeader(Box::new(proxied));
            }
            false => driver.start(io, service),
        }
        driver
    }

    fn start(&mut self, io: ServerIo, service: S) {
        if io.has_handshake() {
            self.state = State::Handshake(Box::new((io, service)));
        } else {
            self.start_http1(io, service, self.protocols.prior_knowledge);
        }
    }

    fn start_http1(&mut self, io: ServerIo, service: S, may_be_http2: bool) {
        let service = self.service(service);
        self.state = State::Http1(Http1::new(io, service, may_be_http2));
    }

    fn start_http2(&mut self, io: ServerIo, service: ConnectionService<S>) {
        let builder = self.protocols.http2.clone();
        let served = http2::serve_connection(builder, io, service, self.permit.clone());
        self.state = State::Http2(Box::pin(served));
    }

    fn service(&self, service: S) -> ConnectionService<S> {
        ConnectionService {
            service,
            shared: self.shared.clone(),
        }
    }

    /// Returns whether the connection ends at once.
    fn follow_shutdown(&mut self) -> bool {
        let phase = self.shared.server.shutdown_phase();
        if phase > ShutdownPhase::Running && self.shutdown_phase == ShutdownPhase::Running {
            // A request of its client may already be in transit.
            self.first_request = Some(Box::pin(sleep(FIRST_REQUEST_TIME)));
        }
        self.shutdown_phase = phase;
        phase == ShutdownPhase::Closing
    }
}

impl<S: HttpService> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.shared.activity.register(cx.waker());
        if me.follow_shutdown() {
            return Poll::Ready(());
        }
        if matches!(me.state, State::ProxyHeader(_) | State::Handshake(_))
            && let Some(wait) = &mut me.first_request
            && wait.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        loop {
            match &mut me.state {
                State::ProxyHeader(proxied) => {
                    let (io, _, header) = &mut **proxied;
                    let Ok(client) = ready!(io.poll_proxy_header(cx, header)) else {
                        return Poll::Ready(());
                    };
                    let State::ProxyHeader(proxied) = mem::replace(&mut me.state, State::Closed)
                    else {
                        return Poll::Ready(());
                    };
                    let (mut io, service, _) = *proxied;
                    if let Some(client) = client {
                        let Some(shared) = me.shared.admit_client(client) else {
                            return Poll::Ready(());
                        };
                        me.shared = shared;
                        io.set_shared(me.shared.clone());
                    }
                    me.start(io, service);
                }
                State::Handshake(handshake) => {
                    let Some(is_http2) = ready!(handshake.0.poll_handshake(cx)) else {
                        return Poll::Ready(());
                    };
                    let State::Handshake(waiting) = mem::replace(&mut me.state, State::Closed)
                    else {
                        return Poll::Ready(());
                    };
                    let (io, service) = *waiting;
                    match is_http2 {
                        true => me.start_http2(io, me.service(service)),
                        false => me.start_http1(io, service, false),
                    }
                }
                State::Http1(http1) => {
                    let ended = http1.poll(cx, me.shutdown_phase, &mut me.first_request);
                    let Some(io) = ready!(ended) else {
                        me.state = State::Closed;
                        continue;
                    };
                    let service = http1.service.clone();
                    me.start_http2(io, service);
                }
                State::Http2(connection) => {
                    if let Err(error) = ready!(connection.as_mut().poll(cx)) {
                        tracing::debug!(%error, "connection ended");
                    }
                    me.state = State::Closed;
                }
                State::Closed => return Poll::Ready(()),
            }
        }
    }
}

impl<S: HttpService> Drop for Driver<S> {
    fn drop(&mut self) {
        self.shared.activity.close();
        self.shared.server.stats.open.fetch_sub(1, Relaxed);
    }
}
