//! Between hyper and the service: last checks of a head, and the request's extensions.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tower_service::Service;

use super::body::{Body, Reply};
use super::guard::same_host;
use super::info::ConnectionInfo;
use super::refusal::Refusal;
use super::stats::NetStats;
use super::watch::{Gate, Phase, Watch};

/// An unread rest of a body up to this size is left to hyper, which reads what is there already; a
/// larger one costs the connection, and the client is told so.
const SMALL_REST: u64 = 64 * 1024;

/// The service still holds the body.
const HELD: u64 = u64::MAX - 1;

/// What the parts of one connection share: the wire, the edge, bodies and the driver.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) watch: Arc<Watch>,
    pub(super) gate: Arc<Gate>,
    info: ConnectionInfo,
    /// HTTP/1: heads the guard has let pass, wrapping.
    heads: AtomicU32,
    /// HTTP/1: bytes of the present request's body nobody has read; `u64::MAX` if unknown.
    leftover: AtomicU64,
    /// HTTP/2: requests that have no full answer yet.
    streams: AtomicU32,
    /// Whether a large read has made hyper's buffer grow.
    pub(super) grown: AtomicBool,
}

impl Link {
    pub(super) fn new(gate: Arc<Gate>, info: ConnectionInfo) -> Arc<Self> {
        let watch = Arc::new(Watch::new(Phase::Head, true));
        gate.admit(watch.clone());
        Arc::new(Self {
            watch,
            gate,
            info,
            heads: AtomicU32::new(0),
            leftover: AtomicU64::new(0),
            streams: AtomicU32::new(0),
            grown: AtomicBool::new(false),
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

    pub(super) fn has_streams(&self) -> bool {
        self.streams.load(Relaxed) > 0
    }
}

/// One request being answered: ends when hyper has taken the whole answer.
#[derive(Debug)]
pub(super) struct Turn {
    link: Arc<Link>,
    http2: bool,
}

impl Turn {
    fn new(link: Arc<Link>, http2: bool) -> Self {
        if http2 && link.streams.fetch_add(1, AcqRel) == 0 {
            link.watch.enter(Phase::Handling);
        }
        Self { link, http2 }
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
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<Reply<B>>;
    type Error = Infallible;
    type Future = Exchange<S>;

    fn call(&self, request: Request<Incoming>) -> Exchange<S> {
        let link = &self.link;
        let number = link.watch.add_request();
        let refusal = self.refusal(number, &request);
        let turn = Turn::new(link.clone(), self.http2);
        let mut request = request.map(|incoming| {
            if incoming.is_end_stream() {
                link.set_leftover(0);
                if !self.http2 {
                    link.watch.enter(Phase::Handling);
                }
                Body::empty(incoming)
            } else if self.http2 {
                Body::http2(incoming, link.clone())
            } else {
                link.set_leftover(HELD);
                Body::http1(incoming, link.clone(), link.watch.enter(Phase::Body))
            }
        });
        let state = if let Some(refusal) = refusal {
            NetStats::add(&link.gate.stats.refused, 1);
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

pin_project_lite::pin_project! {
    /// The answer to one request.
    pub(super) struct Exchange<S: Service<Request<Body>>> {
        turn: Option<Turn>,
        #[pin]
        state: State<S>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjection]
    enum State<S: Service<Request<Body>>> {
        Calling { service: S, request: Option<Request<Body>> },
        Running { #[pin] future: S::Future },
        Refused { refusal: Refusal },
    }
}

impl<S, B> Future for Exchange<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Output = Result<Response<Reply<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut me = self.project();
        loop {
            let next = match me.state.as_mut().project() {
                StateProjection::Calling { service, request } => {
                    let Ok(()) = ready!(service.poll_ready(cx));
                    let request = request.take().expect("a call is made once");
                    State::Running {
                        future: service.call(request),
                    }
                }
                StateProjection::Running { future } => {
                    let Ok(response) = ready!(future.poll(cx));
                    let turn = me
                        .turn
                        .take()
                        .expect("a future is not polled after its end");
                    return Poll::Ready(Ok(reply(response, turn)));
                }
                StateProjection::Refused { refusal } => {
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
            };
            me.state.set(next);
        }
    }
}

fn reply<B>(mut response: Response<B>, turn: Turn) -> Response<Reply<B>> {
    if !turn.http2 {
        let leftover = turn.link.leftover.load(Relaxed);
        if leftover > SMALL_REST && leftover != HELD {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response.map(|body| Reply::service(body, turn))
}
