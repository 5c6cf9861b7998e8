//! The task of one connection.

use std::convert::Infallible;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio::sync::OwnedSemaphorePermit;
use tower_service::Service;

use super::body::Body;
use super::edge::{Edge, Link};
use super::shutdown::Step;
use super::stats::NetStats;
use super::stream::Spawner;
use super::watch::{Gate, Phase, Verdict};
use super::wire::Wire;

/// The most input that is discarded after a request was rejected because its address has too many: a
/// client that goes on sending gets a reset, so that its bytes fill neither our time nor the kernel's
/// buffers.
const LIMITED_LINGER_BYTES: u64 = 64 * 1024;

/// How hyper is set up; the same for all connections.
#[derive(Debug)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: Option<http2::Builder<Spawner>>,
}

impl Protocols {
    pub(super) fn new(gate: &Arc<Gate>) -> Self {
        let limits = &gate.limits;
        let mut http1 = http1::Builder::new();
        http1
            // A client may close its sending side and still wait for the answer; and a client that
            // is gone must not stop what was begun.
            .half_close(true)
            // Heads are timed by the sweeper.
            .header_read_timeout(None)
            .max_buf_size(limits.read_buffer.max(8192).max(limits.max_head))
            .max_header_size(limits.max_head)
            .pipeline_flush(false);
        let http2 = limits.http2.then(|| {
            let mut http2 = http2::Builder::new(Spawner::new(gate.clone()));
            http2
                .max_concurrent_streams(limits.max_streams)
                .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(2 << 20)
                .max_frame_size(64 * 1024);
            http2
        });
        Self { http1, http2 }
    }
}

type Http1<S> = http1::Connection<TokioIo<Wire>, Edge<S>>;
type Http2<S> = http2::Connection<TokioIo<Wire>, Edge<S>, Spawner>;

/// Serves one connection to its end.
pub(super) struct Driver<S, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    state: State<S, B>,
    link: Arc<Link>,
    protocols: Arc<Protocols>,
    step: Step,
    /// Counts towards `Limits::max_connections`.
    _permit: OwnedSemaphorePermit,
}

// Nothing in it is pinned in place.
impl<S, B> Unpin for Driver<S, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every connection is HTTP/1: a box would only add an allocation to each"
)]
enum State<S, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    /// Which protocol is spoken is not known yet.
    New(Box<(Wire, S)>),
    Http1(Http1<S>),
    Http2(Pin<Box<Http2<S>>>),
    Closing(Box<Closing>),
    Closed,
}

impl<S, B> Driver<S, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn new(
        wire: Wire,
        link: Arc<Link>,
        service: S,
        protocols: Arc<Protocols>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let state = if protocols.http2.is_some() {
            State::New(Box::new((wire, service)))
        } else {
            let edge = Edge::new(service, link.clone(), false);
            State::Http1(protocols.http1.serve_connection(TokioIo::new(wire), edge))
        };
        NetStats::add(&link.gate.stats.open, 1);
        Self {
            state,
            link,
            protocols,
            step: Step::Running,
            _permit: permit,
        }
    }

    /// Replaces hyper's HTTP/1 connection, so that a buffer that a large body has grown is released.
    /// The client must be waited for: between two requests, or in the middle of a body.
    fn shed(&mut self) {
        let link = &self.link;
        let receiving = link.is_receiving()
            && link.watch.is_reading()
            && link.divisible.load(Relaxed)
            && link.handover.is_possible()
            && self.step == Step::Running;
        let idle = link.watch.phase() == Phase::Idle && !link.unread();
        if !receiving && !idle {
            return;
        }
        match mem::replace(&mut self.state, State::Closed) {
            State::Http1(old) => {
                if receiving {
                    link.handover.start();
                }
                let parts = old.into_parts();
                let mut wire = parts.io.into_inner();
                // While it waits for more of a body, hyper holds nothing that it has read.
                if receiving && !(parts.read_buf.is_empty() && wire.resume_body()) {
                    link.handover.abort();
                    return;
                }
                if !receiving {
                    wire.put_back(&parts.read_buf);
                }
                drop(parts.read_buf);
                link.watch.set_grown(false);
                NetStats::add(&link.gate.stats.buffers_released, 1);
                let new = self
                    .protocols
                    .http1
                    .serve_connection(TokioIo::new(wire), parts.service);
                self.state = State::Http1(new);
            }
            other => self.state = other,
        }
    }

    /// Lets hyper know of a shutdown.
    fn follow(&mut self, step: Step) {
        if self.step == Step::Running {
            match &mut self.state {
                State::Http1(connection) => Pin::new(connection).graceful_shutdown(),
                State::Http2(connection) => connection.as_mut().graceful_shutdown(),
                State::New(_) | State::Closing(_) | State::Closed => {}
            }
        }
        self.step = step;
    }

    fn start(&mut self, wire: Wire, service: S, http2: bool) {
        let edge = Edge::new(service, self.link.clone(), http2);
        let io = TokioIo::new(wire);
        self.state = match &self.protocols.http2 {
            Some(builder) if http2 => State::Http2(Box::pin(builder.serve_connection(io, edge))),
            _ => State::Http1(self.protocols.http1.serve_connection(io, edge)),
        };
        if self.step > Step::Running {
            let step = mem::replace(&mut self.step, Step::Running);
            self.follow(step);
        }
    }
}

impl<S, B> Future for Driver<S, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.link.watch.register(cx.waker());
        let step = me.link.gate.step();
        if step > me.step {
            if step == Step::Dropping {
                return Poll::Ready(());
            }
            me.follow(step);
        }
        if me.link.watch.verdict() == Some(Verdict::Shed) {
            me.link.watch.clear_shed();
            me.shed();
        }
        loop {
            match &mut me.state {
                State::New(new) => {
                    let Ok(http2) = ready!(new.0.poll_sniff(cx)) else {
                        return Poll::Ready(());
                    };
                    let State::New(new) = mem::replace(&mut me.state, State::Closed) else {
                        return Poll::Ready(());
                    };
                    let (wire, service) = *new;
                    me.start(wire, service, http2);
                }
                State::Http1(connection) => {
                    let outcome = Pin::new(connection).poll(cx);
                    if outcome.is_pending() {
                        me.link.poll_discard(cx);
                    }
                    let refused = match ready!(outcome) {
                        Ok(()) => false,
                        Err(error) => {
                            tracing::debug!(%error, "connection ended");
                            error.is_parse()
                        }
                    };
                    me.link.handover.abort();
                    if let State::Http1(connection) = mem::replace(&mut me.state, State::Closed) {
                        let wire = connection.into_parts().io.into_inner();
                        me.state = State::Closing(Closing::new(wire, refused, &me.link));
                    }
                }
                State::Http2(connection) => {
                    if let Err(error) = ready!(connection.as_mut().poll(cx)) {
                        tracing::debug!(%error, "connection ended");
                    }
                    me.state = State::Closed;
                }
                State::Closing(closing) => {
                    if me.step < Step::Cutting {
                        // How it ends makes no difference any more.
                        let _ = ready!(closing.poll(cx));
                    }
                    me.state = State::Closed;
                }
                State::Closed => return Poll::Ready(()),
            }
        }
    }
}

impl<S, B> Drop for Driver<S, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    fn drop(&mut self) {
        self.link.handover.abort();
        self.link.watch.close();
        self.link.gate.stats.open.fetch_sub(1, Relaxed);
    }
}

/// The end of an HTTP/1 connection.
///
/// Closing a socket with unread input makes the kernel send a reset, which destroys the answer on
/// its way. So when there is such input, or may be, the sending side is closed alone and input is
/// discarded for a while, as nginx does with `lingering_close`.
struct Closing {
    wire: Wire,
    /// The answer to a head the guard has refused, and how much of it is sent.
    answer: Vec<u8>,
    sent: usize,
    finished: bool,
    linger: bool,
    budget: u64,
}

impl Closing {
    fn new(mut wire: Wire, refused: bool, link: &Link) -> Box<Self> {
        wire.settle();
        // Behind half an answer another one would be taken for its rest.
        let quiet = matches!(link.watch.phase(), Phase::Head | Phase::Idle);
        let refusal = wire.refusal();
        if refusal.is_some() {
            NetStats::add(&link.gate.stats.refused, 1);
        }
        let linger = refused || refusal.is_some() || link.unread();
        let answer = refusal.filter(|_| quiet).map(|refusal| refusal.to_http1());
        let mut budget = link.gate.limits.linger_bytes;
        if link.is_limited() {
            budget = budget.min(LIMITED_LINGER_BYTES);
        }
        link.watch.enter(Phase::Lingering);
        Box::new(Self {
            wire,
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
            self.sent += ready!(Pin::new(&mut self.wire).poll_write(cx, rest))?;
        }
        if !self.finished {
            ready!(self.wire.poll_finish(cx))?;
            self.finished = true;
        }
        while !self.wire.must_close() {
            match self.wire.poll_discard(cx)? {
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
