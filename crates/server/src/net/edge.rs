//! Between hyper and the service: last checks of a head, and the request's extensions.

use std::convert::Infallible;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tower_service::Service;

use super::addresses::{Share, TOO_MANY_CONNECTIONS};
use super::body::{Body, Reply};
use super::guard::same_host;
use super::handover::Handover;
use super::info::ConnectionInfo;
use super::refusal::Refusal;
use super::stats::NetStats;
use super::stream;
use super::watch::{Gate, Phase, Watch};

/// An unread rest of a body up to this size is read and discarded, so that the next request on the
/// connection is understood. A larger one, or one of unknown size, ends the connection, and the
/// response says so.
const SMALL_REST: u64 = 64 * 1024;

/// The service still holds the body.
const HELD: u64 = u64::MAX - 1;

/// What the parts of one connection share: the wire, the edge, bodies and the driver.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) watch: Arc<Watch>,
    pub(super) gate: Arc<Gate>,
    info: ConnectionInfo,
    /// Counts the connection for its address.
    _share: Option<Share>,
    /// The address has too many connections: this one is told so.
    over: bool,
    /// HTTP/1: heads the guard has let pass, wrapping.
    heads: AtomicU32,
    /// HTTP/1: bytes of the present request's body nobody has read; `u64::MAX` if unknown.
    leftover: AtomicU64,
    /// HTTP/1: whether the service has answered the present request.
    responded: AtomicBool,
    /// HTTP/1: whether what is left of the present body can be put into a new head.
    pub(super) divisible: AtomicBool,
    /// HTTP/2: requests that have no full answer yet.
    streams: AtomicU32,
    /// HTTP/1: the rest of a body the service does not want, to be discarded.
    abandoned: Mutex<Option<Incoming>>,
    /// HTTP/1: whether a request was rejected because its address has too many.
    limited: AtomicBool,
    /// HTTP/1: the present request, while the connection is replaced under it.
    pub(super) handover: Handover,
}

impl Link {
    pub(super) fn new(
        gate: Arc<Gate>,
        info: ConnectionInfo,
        share: Option<Share>,
        over: bool,
    ) -> Arc<Self> {
        let watch = Arc::new(Watch::new(Phase::Head, true));
        gate.admit(watch.clone());
        Arc::new(Self {
            watch,
            gate,
            info,
            _share: share,
            over,
            heads: AtomicU32::new(0),
            leftover: AtomicU64::new(0),
            responded: AtomicBool::new(false),
            divisible: AtomicBool::new(false),
            streams: AtomicU32::new(0),
            abandoned: Mutex::default(),
            limited: AtomicBool::new(false),
            handover: Handover::default(),
        })
    }

    pub(super) fn set_heads(&self, heads: u32) {
        self.heads.store(heads, Relaxed);
    }

    pub(super) fn set_leftover(&self, bytes: u64) {
        self.leftover.store(bytes, Relaxed);
    }

    /// HTTP/1: whether the client may still be sending a body nobody wants.
    pub(super) fn unread(&self) -> bool {
        self.leftover.load(Relaxed) != 0
    }

    /// HTTP/1: whether the service holds a body it may still read, and has not responded yet.
    pub(super) fn is_receiving(&self) -> bool {
        self.watch.phase() == Phase::Body
            && self.leftover.load(Relaxed) == HELD
            && !self.responded.load(Relaxed)
    }

    /// HTTP/1: takes a body the service has dropped before its end.
    pub(super) fn abandon(&self, body: Incoming) {
        let rest = body.size_hint().exact().unwrap_or(u64::MAX);
        // Who expects to be told to continue may or may not send a body that was refused.
        let small = rest <= SMALL_REST && !self.handover.expects_continue();
        self.set_leftover(if small { rest } else { u64::MAX });
        if small && rest > 0 {
            *self.abandoned() = Some(body);
        }
    }

    /// HTTP/1: discards what has come of an abandoned body.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>) {
        if !matches!(self.leftover.load(Relaxed), 1..=SMALL_REST) {
            return;
        }
        let mut abandoned = self.abandoned();
        while let Some(body) = abandoned.as_mut() {
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => {
                    *abandoned = None;
                    self.set_leftover(0);
                }
                Poll::Ready(Some(Err(_))) => *abandoned = None,
                Poll::Pending => return,
            }
        }
    }

    /// HTTP/1: whether a request was rejected because its address has too many.
    pub(super) fn is_limited(&self) -> bool {
        self.limited.load(Relaxed)
    }

    fn abandoned(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request for the address it comes from.
    fn admit<B: http_body::Body>(
        &self,
        request: &Request<B>,
        share: &mut Option<Share>,
    ) -> Result<(), Refusal> {
        let stats = &self.gate.stats;
        if self.over {
            NetStats::add(&stats.address_connections, 1);
            return Err(TOO_MANY_CONNECTIONS);
        }
        let (addresses, peer) = (&self.gate.addresses, self.info.peer().ip());
        addresses
            .request(request.headers(), peer)
            .inspect_err(|_| NetStats::add(&stats.address_requests, 1))?;
        if !request.body().is_end_stream() {
            *share = addresses
                .upload(request.headers(), peer)
                .inspect_err(|_| NetStats::add(&stats.address_uploads, 1))?;
        }
        Ok(())
    }

    pub(super) fn has_streams(&self) -> bool {
        self.streams.load(Relaxed) > 0
    }
}

/// One request being answered: ends when hyper has taken the whole answer.
#[derive(Debug)]
pub(super) struct Turn {
    link: Arc<Link>,
    http2: bool,
    /// Counts a body for the address it comes from.
    share: Option<Share>,
}

impl Turn {
    fn new(link: Arc<Link>, http2: bool) -> Self {
        if http2 && link.streams.fetch_add(1, AcqRel) == 0 {
            link.watch.enter(Phase::Handling);
        }
        Self {
            link,
            http2,
            share: None,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.http2 {
            self.link.watch.enter(Phase::Finishing);
        } else if self.link.streams.fetch_sub(1, AcqRel) == 1 {
            self.link.watch.enter(Phase::Idle);
        }
    }
}

/// The service as hyper calls it.
#[derive(Debug)]
pub(super) struct Edge<S> {
    service: S,
    link: Arc<Link>,
    http2: bool,
}

impl<S> Edge<S> {
    pub(super) fn new(service: S, link: Arc<Link>, http2: bool) -> Self {
        Self {
            service,
            link,
            http2,
        }
    }

    fn refusal(&self, number: u32, head: &Request<Incoming>) -> Option<Refusal> {
        if self.http2 {
            return check_http2(head);
        }
        // Behind the guard this can only be a mistake of ours; see the guard's documentation.
        let ahead = self.link.heads.load(Relaxed).wrapping_sub(number);
        (ahead > u32::MAX / 2).then_some(Refusal::bad("it is not clear where this request begins"))
    }
}

/// What [`super::guard`] checks in HTTP/1 and hyper leaves open in HTTP/2.
fn check_http2(head: &Request<Incoming>) -> Option<Refusal> {
    let mut hosts = head.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some(Refusal::bad("the request has more than one Host header"));
    }
    match (head.uri().authority(), host) {
        (Some(authority), _) if authority.as_str().contains('@') => {
            return Some(Refusal::bad(
                "the :authority is not a host name with optional port",
            ));
        }
        (None, None) => return Some(Refusal::bad("the request names no host")),
        (Some(authority), Some(host))
            if !same_host(authority.as_str().as_bytes(), host.as_bytes()) =>
        {
            return Some(Refusal::bad("the Host header and :authority differ"));
        }
        _ => {}
    }
    let expect = head.headers().get(EXPECT)?;
    (!expect.as_bytes().eq_ignore_ascii_case(b"100-continue")).then_some(Refusal {
        status: StatusCode::EXPECTATION_FAILED,
        reason: "the only expectation this server can meet is 100-continue",
    })
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
{
    type Response = Response<Reply<B>>;
    type Error = Infallible;
    type Future = Exchange<S>;

    fn call(&self, request: Request<Incoming>) -> Exchange<S> {
        let link = &self.link;
        if let Some(exchange) = link.handover.take_exchange()
            && let Ok(exchange) = exchange.downcast::<Exchange<S>>()
        {
            link.handover.replace_body(request.into_body());
            return *exchange;
        }
        let number = link.watch.add_request();
        let refusal = self.refusal(number, &request);
        let mut turn = Turn::new(link.clone(), self.http2);
        if !self.http2 && !request.body().is_end_stream() {
            link.responded.store(false, Relaxed);
            link.handover.record(&request);
        }
        let refusal = match refusal {
            Some(refusal) => {
                NetStats::add(&link.gate.stats.refused, 1);
                Some(refusal)
            }
            None => link.admit(&request, &mut turn.share).err().inspect(|_| {
                link.limited.store(true, Relaxed);
            }),
        };
        let queued = turn.share.as_ref().and_then(Share::enqueue);
        let mut request = request.map(|incoming| {
            if incoming.is_end_stream() {
                link.set_leftover(0);
                if !self.http2 {
                    link.watch.enter(Phase::Handling);
                }
                Body::empty(incoming)
            } else if self.http2 {
                Body::http2(incoming, link.clone(), queued)
            } else {
                link.set_leftover(HELD);
                let word = link.watch.enter(Phase::Body);
                Body::http1(incoming, link.clone(), word, queued)
            }
        });
        let state = if let Some(refusal) = refusal {
            // Dropping the request here says how much of its body is left.
            State::Refused { refusal }
        } else {
            request.extensions_mut().insert(link.info.clone());
            State::Calling {
                service: self.service.clone(),
                request: Some(request),
            }
        };
        Exchange {
            turn: Some(turn),
            state,
        }
    }
}

/// The answer to one request.
pub(super) struct Exchange<S>
where
    S: Service<Request<Body>> + Send + 'static,
    S::Future: Send + Unpin + 'static,
{
    turn: Option<Turn>,
    state: State<S>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost each request an allocation"
)]
enum State<S: Service<Request<Body>>> {
    Calling {
        service: S,
        request: Option<Request<Body>>,
    },
    Running {
        future: S::Future,
    },
    Refused {
        refusal: Refusal,
    },
    Moved,
}

// Only the future would have to be pinned in place, and it need not.
impl<S> Unpin for Exchange<S>
where
    S: Service<Request<Body>> + Send + 'static,
    S::Future: Send + Unpin + 'static,
{
}

/// When hyper's connection is replaced, what was going on in it moves to the new one.
impl<S> Drop for Exchange<S>
where
    S: Service<Request<Body>> + Send + 'static,
    S::Future: Send + Unpin + 'static,
{
    fn drop(&mut self) {
        let Some(turn) = self.turn.take_if(|turn| turn.link.handover.is_active()) else {
            return;
        };
        let link = turn.link.clone();
        let state = mem::replace(&mut self.state, State::Moved);
        let turn = Some(turn);
        link.handover.keep_exchange(Box::new(Self { turn, state }));
    }
}

impl<S, B> Future for Exchange<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + Unpin + 'static,
{
    type Output = Result<Response<Reply<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        loop {
            let next = match &mut me.state {
                State::Calling { service, request } => {
                    let Ok(()) = ready!(service.poll_ready(cx));
                    let request = request.take().expect("a call is made once");
                    State::Running {
                        future: service.call(request),
                    }
                }
                State::Running { future } => {
                    let Ok(response) = ready!(Pin::new(future).poll(cx));
                    let turn = me
                        .turn
                        .take()
                        .expect("a future is not polled after its end");
                    return Poll::Ready(Ok(reply(response, turn)));
                }
                State::Refused { refusal } => {
                    let turn = me
                        .turn
                        .take()
                        .expect("a future is not polled after its end");
                    let mut response = refusal.response();
                    if turn.http2 {
                        response.headers_mut().remove(CONNECTION);
                    }
                    return Poll::Ready(Ok(response.map(|text: Bytes| Reply::refusal(text, turn))));
                }
                // Dropped as soon as it is made.
                State::Moved => return Poll::Pending,
            };
            me.state = next;
        }
    }
}

fn reply<B>(mut response: Response<B>, turn: Turn) -> Response<Reply<B>> {
    if !turn.http2 {
        turn.link.responded.store(true, Relaxed);
        if turn.link.leftover.load(Relaxed) > SMALL_REST {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    let stream = if turn.http2 { stream::current() } else { None };
    response.map(|body| Reply::service(body, turn, stream))
}
