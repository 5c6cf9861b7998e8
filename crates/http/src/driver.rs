use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::connection::ConnectionShared;
use super::http2;
use super::io::ServerIo;
use super::limits::ConnectionLimits;
use super::proxy_protocol::ProxyHeader;
use super::request_head::LARGE_HEAD;
use super::service::{ConnectionService, HttpService};
use super::shutdown::{FIRST_REQUEST_TIME, ShutdownPhase};
use super::slow_body::SlowBody;
use super::stats::NetStats;
use super::timeouts::{Phase, TimeoutAction};

/// A client that continues to send gets a reset, so its bytes fill no kernel buffers.
const LIMITED_LINGER_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http1_large: http1::Builder,
    http2: h2::server::Builder,
    prior_knowledge: bool,
}

impl Protocols {
    pub(super) fn new(limits: &ConnectionLimits) -> Self {
        let largest_head = limits.max_head.max(8192);
        let small_head = largest_head.min(LARGE_HEAD);
        let mut http1 = http1::Builder::new();
        http1
            // A client may close its sending side and still wait for the response, and a disconnect must not
            // cancel a running request.
            .half_close(true)
            // As other servers: scripts compare names exactly.
            .title_case_headers(true)
            // The sweeper applies the timeout of heads.
            .header_read_timeout(None)
            .max_buf_size(limits.read_buffer.max(small_head))
            .max_header_size(limits.max_head)
            .pipeline_flush(false);
        let mut http1_large = http1.clone();
        http1_large.max_buf_size(limits.large_read_buffer.max(largest_head));
        Self {
            http1,
            http1_large,
            http2: http2::builder(limits),
            prior_knowledge: limits.http2,
        }
    }
}

type Http1<S> = http1::Connection<TokioIo<ServerIo>, ConnectionService<S>>;
type Http2 = Pin<Box<dyn Future<Output = Result<(), h2::Error>> + Send>>;

pub(super) struct Driver<S: HttpService> {
    state: State<S>,
    shared: Arc<ConnectionShared>,
    protocols: Arc<Protocols>,
    shutdown_phase: ShutdownPhase,
    /// Set once the shutdown has started: the time that is left for the first request.
    first_request: Option<Pin<Box<Sleep>>>,
    reads_large: bool,
    permit: Arc<OwnedSemaphorePermit>,
}

// No field is pinned in place.
impl<S: HttpService> Unpin for Driver<S> {}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every connection is HTTP/1: a box would only add an allocation to each"
)]
enum State<S: HttpService> {
    ProxyHeader(Box<(ServerIo, S, ProxyHeader)>),
    Handshake(Box<(ServerIo, S)>),
    New(Box<(ServerIo, S)>),
    /// Before the first bytes, and between two requests, a silent client has no hyper connection and no buffer.
    Waiting(Box<(ServerIo, S)>),
    Http1(Http1<S>),
    SlowBody(Box<SlowBody<S>>),
    Http2(Http2),
    LingeringClose(Box<LingeringClose>),
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
        Self {
            state: match is_proxied {
                true => State::ProxyHeader(Box::new((io, service, ProxyHeader::default()))),
                false => State::first(io, service, &protocols),
            },
            shared,
            protocols,
            shutdown_phase: ShutdownPhase::Running,
            first_request: None,
            reads_large: false,
            permit: Arc::new(permit),
        }
    }

    /// Removes hyper's HTTP/1 connection, and with it the read buffer.
    fn release_buffers(&mut self) {
        let shared = &self.shared;
        let released = if self.is_resumable() {
            self.suspend().map(|slow| State::SlowBody(Box::new(slow)))
        } else if shared.activity.phase() == Phase::Idle && !shared.has_unread_body() {
            take_apart(&mut self.state).map(|(mut io, edge, unread)| {
                io.unread(&unread);
                io.set_reads_large(false);
                State::Waiting(Box::new((io, edge.service)))
            })
        } else {
            None
        };
        if let Some(state) = released {
            self.state = state;
            self.stop_large_reads();
            self.shared.activity.set_has_buffer(false);
            NetStats::add(&self.shared.server.stats.buffers_released, 1);
        }
    }

    /// Replaces hyper's HTTP/1 connection in order to allow larger reads. Returns whether it did.
    fn allow_large_reads(&mut self) -> bool {
        let shared = &self.shared;
        if !shared.wants_large_reads.load(Relaxed) || !self.is_resumable() {
            return false;
        }
        shared.wants_large_reads.store(false, Relaxed);
        self.reads_large = shared.server.take_large_reads();
        if !self.reads_large {
            return false;
        }
        if let Some(slow) = self.suspend() {
            self.resume(slow);
            NetStats::add(&self.shared.server.stats.buffers_enlarged, 1);
        }
        true
    }

    /// Replaces hyper's HTTP/1 connection by one whose buffer can hold a large head. Returns whether it did.
    fn allow_large_head(&mut self) -> bool {
        if !self.shared.wants_large_head.swap(false, Relaxed) {
            return false;
        }
        let Some((mut io, edge, unread)) = take_apart(&mut self.state) else {
            return false;
        };
        io.unread(&unread);
        io.set_holds_large_head();
        let http1 = &self.protocols.http1_large;
        self.state = State::Http1(http1.serve_connection(TokioIo::new(io), edge));
        true
    }

    fn stop_large_reads(&mut self) {
        if mem::take(&mut self.reads_large) {
            self.shared.server.return_large_reads();
        }
    }

    /// Returns whether hyper waits for more of a body that another connection can continue.
    fn is_resumable(&self) -> bool {
        let shared = &self.shared;
        shared.is_receiving()
            && shared.activity.is_reading()
            && shared.resumable.load(Relaxed)
            && shared.handover.is_possible()
            && self.shutdown_phase == ShutdownPhase::Running
    }

    /// Takes a request that is being received from hyper. `None` closes the connection.
    fn suspend(&mut self) -> Option<SlowBody<S>> {
        let handover = &self.shared.handover;
        handover.start();
        let (io, edge, unread) = take_apart(&mut self.state)?;
        let response = handover.take_response()?.downcast().ok()?;
        // While hyper waits for more of a body, it has no unread bytes.
        if !unread.is_empty() {
            return None;
        }
        Some(SlowBody { io, edge, response })
    }

    /// Continues a request on a new connection of hyper.
    fn resume(&mut self, slow: SlowBody<S>) {
        let mut io = slow.io;
        if !io.resume_body() {
            return;
        }
        io.set_reads_large(self.reads_large);
        self.shared.handover.keep_response(slow.response);
        self.shared.activity.set_has_buffer(true);
        let http1 = if self.reads_large {
            &self.protocols.http1_large
        } else {
            &self.protocols.http1
        };
        self.state = State::Http1(http1.serve_connection(TokioIo::new(io), slow.edge));
    }

    fn enter_shutdown_phase(&mut self, phase: ShutdownPhase) {
        if self.shutdown_phase == ShutdownPhase::Running {
            match &mut self.state {
                // hyper would close it, and a request of its client may already be in transit.
                State::Http1(_) if self.shared.heads.load(Relaxed) == 0 => {
                    self.first_request = Some(Box::pin(sleep(FIRST_REQUEST_TIME)));
                }
                State::ProxyHeader(_) | State::Handshake(_) | State::New(_) => {
                    self.first_request = Some(Box::pin(sleep(FIRST_REQUEST_TIME)));
                }
                State::Http1(connection) => Pin::new(connection).graceful_shutdown(),
                // hyper continues now: see `poll`.
                State::SlowBody(_) => self.shared.handover.close_after_response(),
                // Reads the phase itself.
                State::Http2(_) | State::Waiting(_) | State::LingeringClose(_) | State::Closed => {}
            }
        }
        self.shutdown_phase = phase;
    }

    fn start(&mut self, io: ServerIo, service: S, http2: bool) {
        let edge = ConnectionService {
            service,
            shared: self.shared.clone(),
            is_multiplexed: http2,
        };
        self.shared.activity.set_has_buffer(true);
        self.state = if http2 {
            let builder = self.protocols.http2.clone();
            let served = http2::serve_connection(builder, io, edge, self.permit.clone());
            State::Http2(Box::pin(served))
        } else {
            State::Http1(
                self.protocols
                    .http1
                    .serve_connection(TokioIo::new(io), edge),
            )
        };
        if self.shutdown_phase > ShutdownPhase::Running {
            let phase = mem::replace(&mut self.shutdown_phase, ShutdownPhase::Running);
            self.enter_shutdown_phase(phase);
        }
    }
}

impl<S: HttpService> State<S> {
    fn first(io: ServerIo, service: S, protocols: &Protocols) -> Self {
        let waiting = Box::new((io, service));
        if waiting.0.has_handshake() {
            Self::Handshake(waiting)
        } else if protocols.prior_knowledge {
            Self::New(waiting)
        } else {
            Self::Waiting(waiting)
        }
    }
}

/// The socket, the service, and the bytes that hyper's HTTP/1 connection has not used.
fn take_apart<S: HttpService>(
    state: &mut State<S>,
) -> Option<(ServerIo, ConnectionService<S>, Bytes)> {
    match mem::replace(state, State::Closed) {
        State::Http1(connection) => {
            let parts = connection.into_parts();
            Some((parts.io.into_inner(), parts.service, parts.read_buf))
        }
        other => {
            *state = other;
            None
        }
    }
}

impl<S: HttpService> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.shared.activity.register(cx.waker());
        let phase = me.shared.server.shutdown_phase();
        if phase > me.shutdown_phase {
            if phase == ShutdownPhase::Closing {
                return Poll::Ready(());
            }
            me.enter_shutdown_phase(phase);
        }
        if matches!(
            me.state,
            State::ProxyHeader(_) | State::Handshake(_) | State::New(_)
        ) && let Some(wait) = &mut me.first_request
            && wait.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        if me.shared.activity.action() == Some(TimeoutAction::ReleaseBuffers) {
            me.shared.activity.clear_release();
            me.release_buffers();
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
                    me.state = State::first(io, service, &me.protocols);
                }
                State::Handshake(handshake) => {
                    let Some(http2) = ready!(handshake.0.poll_handshake(cx)) else {
                        return Poll::Ready(());
                    };
                    let State::Handshake(waiting) = mem::replace(&mut me.state, State::Closed)
                    else {
                        return Poll::Ready(());
                    };
                    if http2 {
                        let (io, service) = *waiting;
                        me.start(io, service, true);
                    } else {
                        me.state = State::Waiting(waiting);
                    }
                }
                State::New(new) => {
                    let Ok(http2) = ready!(new.0.poll_sniff(cx)) else {
                        return Poll::Ready(());
                    };
                    let State::New(new) = mem::replace(&mut me.state, State::Closed) else {
                        return Poll::Ready(());
                    };
                    let (io, service) = *new;
                    me.start(io, service, http2);
                }
                State::Waiting(waiting) => {
                    if me.shutdown_phase == ShutdownPhase::Running {
                        ready!(waiting.0.poll_input(cx));
                    }
                    if let State::Waiting(waiting) = mem::replace(&mut me.state, State::Closed) {
                        let (io, service) = *waiting;
                        me.start(io, service, false);
                    }
                }
                State::SlowBody(slow) => {
                    if me.shutdown_phase == ShutdownPhase::Running {
                        ready!(slow.poll(cx, &me.shared.handover));
                    }
                    if let State::SlowBody(slow) = mem::replace(&mut me.state, State::Closed) {
                        me.resume(*slow);
                    }
                }
                State::Http1(connection) => {
                    let outcome = Pin::new(&mut *connection).poll(cx);
                    if outcome.is_pending() {
                        me.shared.poll_discard(cx);
                        let has_request = me.shared.heads.load(Relaxed) > 0;
                        let is_over = |wait: &mut Pin<Box<Sleep>>| {
                            has_request || wait.as_mut().poll(cx).is_ready()
                        };
                        if me.first_request.take_if(is_over).is_some() {
                            Pin::new(connection).graceful_shutdown();
                            continue;
                        }
                        if me.allow_large_reads() || me.allow_large_head() {
                            continue;
                        }
                    }
                    let refused = match ready!(outcome) {
                        Ok(()) => false,
                        Err(error) => {
                            tracing::debug!(%error, "connection ended");
                            error.is_parse()
                        }
                    };
                    me.shared.handover.abort();
                    if let State::Http1(connection) = mem::replace(&mut me.state, State::Closed) {
                        let io = connection.into_parts().io.into_inner();
                        me.state =
                            State::LingeringClose(LingeringClose::new(io, refused, &me.shared));
                    }
                }
                State::Http2(connection) => {
                    if let Err(error) = ready!(connection.as_mut().poll(cx)) {
                        tracing::debug!(%error, "connection ended");
                    }
                    me.state = State::Closed;
                }
                State::LingeringClose(closing) => {
                    if me.shutdown_phase < ShutdownPhase::Aborting {
                        // The result no longer matters.
                        let _ = ready!(closing.poll(cx));
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
        self.stop_large_reads();
        self.shared.handover.abort();
        self.shared.activity.close();
        self.shared.server.stats.open.fetch_sub(1, Relaxed);
    }
}

/// Closing a socket with unread input makes the kernel send a reset, which destroys the response on its
/// way. If there may be such input, only the sending side is closed, and input is discarded for a while,
/// as nginx does with `lingering_close`.
struct LingeringClose {
    io: ServerIo,
    answer: Vec<u8>,
    sent: usize,
    finished: bool,
    linger: bool,
    budget: u64,
}

impl LingeringClose {
    fn new(mut io: ServerIo, refused: bool, shared: &ConnectionShared) -> Box<Self> {
        io.stop_waiting();
        // After a partial response, a second one would be taken for its rest.
        let quiet = matches!(shared.activity.phase(), Phase::Head | Phase::Idle);
        let rejection = io.take_rejection();
        if rejection.is_some() {
            NetStats::add(&shared.server.stats.rejected, 1);
        }
        let linger = refused || rejection.is_some() || shared.has_unread_body();
        let answer = rejection.filter(|_| quiet).map(|rejected| {
            let (rejection, request) = *rejected;
            rejection.to_http1(|fields| shared.add_fields(&request, fields))
        });
        let mut budget = shared.server.limits.linger_bytes;
        if shared.is_address_limited() {
            budget = budget.min(LIMITED_LINGER_BYTES);
        }
        shared.activity.enter(Phase::Lingering);
        Box::new(Self {
            io,
            answer: answer.unwrap_or_default(),
            sent: 0,
            finished: false,
            linger,
            budget,
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while self.sent < self.answer.len() {
            let rest = &self.answer[self.sent..];
            self.sent += ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
        }
        if !self.finished {
            ready!(self.io.poll_finish(cx))?;
            self.finished = true;
        }
        while !self.io.must_close() {
            match self.io.poll_discard(cx)? {
                Poll::Ready(n) => {
                    self.linger = true;
                    self.budget = self.budget.saturating_sub(n as u64);
                    if self.budget == 0 {
                        break;
                    }
                }
                Poll::Pending if self.linger => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
