//! The adapter between hyper and the service: last checks of a head, and request extensions.

use std::convert::Infallible;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use landfall::service::InterimSender;
use tower_service::Service;

use super::addresses::AddressPermit;
use super::body::{Body, OutgoingBody, RequestContent, ResponseBody};
use super::connection::{ConnectionShared, HELD_BY_SERVICE, MAX_DISCARDED_REST, RequestGuard};
use super::info::ConnectionInfo;
use super::rejection::HttpRejection;
use super::request_head::same_host;
use super::stats::NetStats;
use super::stream::task;

/// The service that [`serve`](super::serve) calls.
pub trait HttpService:
    Service<
        Request<Body>,
        Response = Response<<Self as HttpService>::Body>,
        Error = Infallible,
        Future: Send + Unpin + 'static,
    > + Clone
    + Send
    + 'static
{
    /// The body of its responses.
    type Body: ResponseBody;
}

impl<S, B: ResponseBody> HttpService for S
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
{
    type Body = B;
}

/// Returns a sender of interim responses to a request.
///
/// `None` for HTTP/1.0, and for a request without content: its final response is due at once.
#[must_use]
pub fn interim_sender(request: &Request<Body>) -> Option<Arc<dyn InterimSender>> {
    if let Some(sender) = request.body().stream_interim_sender() {
        return Some(sender);
    }
    if request.version() != Version::HTTP_11 {
        return None;
    }
    let shared = request.body().http1_connection()?;
    let queue = shared.interim.get_or_init(Arc::default);
    Some(queue.clone().open(shared.activity.clone()))
}

#[derive(Clone, Debug)]
pub(super) struct ConnectionService<S> {
    pub(super) service: S,
    pub(super) shared: Arc<ConnectionShared>,
    pub(super) is_multiplexed: bool,
}

impl<S> ConnectionService<S> {
    fn check(&self, number: u32, head: &Request<RequestContent>) -> Option<HttpRejection> {
        if self.is_multiplexed {
            return check_stream(head);
        }
        // The validator makes this impossible, so it would be a bug; see `request_head`.
        let ahead = self.shared.heads.load(Relaxed).wrapping_sub(number);
        (ahead > u32::MAX / 2).then_some(HttpRejection::bad(
            "it is not clear where this request begins",
        ))
    }
}

/// h2 and h3 omit these checks of [`super::request_head`].
fn check_stream(head: &Request<RequestContent>) -> Option<HttpRejection> {
    let mut hosts = head.headers().get_all(HOST).iter();
    let host = hosts.next();
    let reason = match (head.uri().authority(), host) {
        _ if hosts.next().is_some() => "the request has more than one Host header",
        (Some(authority), _) if authority.as_str().contains('@') => {
            "the :authority is not a host name with optional port"
        }
        (None, None) => "the request names no host",
        (Some(authority), Some(host))
            if !same_host(authority.as_str().as_bytes(), host.as_bytes()) =>
        {
            "the Host header and :authority differ"
        }
        _ => return check_expectation(head),
    };
    Some(HttpRejection::bad(reason))
}

fn check_expectation(head: &Request<RequestContent>) -> Option<HttpRejection> {
    let expect = head.headers().get(EXPECT)?;
    (!expect.as_bytes().eq_ignore_ascii_case(b"100-continue")).then_some(HttpRejection {
        status: StatusCode::EXPECTATION_FAILED,
        reason: "the only supported expectation is 100-continue",
    })
}

impl<S: HttpService> hyper::service::Service<Request<Incoming>> for ConnectionService<S> {
    type Response = Response<OutgoingBody<S::Body>>;
    type Error = Infallible;
    type Future = ResponseFuture<S>;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture<S> {
        let shared = &self.shared;
        if let Some(response) = shared.handover.take_response()
            && let Ok(response) = response.downcast::<ResponseFuture<S>>()
        {
            let body = request.into_body();
            if shared.unread_bytes.load(Relaxed) == HELD_BY_SERVICE {
                shared.handover.replace_body(body);
            } else {
                shared.handover.abort();
                shared.abandon(body);
            }
            return *response;
        }
        let mut request = request.map(RequestContent::Hyper);
        if shared.must_close.load(Relaxed) && request.headers().contains_key(TRANSFER_ENCODING) {
            // hyper keeps a length that precedes it.
            request.headers_mut().remove(CONTENT_LENGTH);
        }
        self.start(request, shared.info)
    }
}

impl<S: HttpService> ConnectionService<S> {
    /// Calls the service with a request whose connection is `info`.
    pub(super) fn start(
        &self,
        request: Request<RequestContent>,
        info: ConnectionInfo,
    ) -> ResponseFuture<S> {
        let shared = &self.shared;
        let number = shared.activity.add_request();
        let mut guard = RequestGuard::new(shared.clone(), self.is_multiplexed);
        let rejection = self.check(number, &request).or_else(|| {
            let counts = self.is_multiplexed;
            counts.then(|| guard.count_head(&request).err()).flatten()
        });
        if !self.is_multiplexed && !request.body().is_end_stream() {
            shared.responded.store(false, Relaxed);
            shared.handover.record(&request);
        }
        let rejection = match rejection {
            Some(rejection) => {
                NetStats::add(&shared.server.stats.rejected, 1);
                Some(rejection)
            }
            None => shared
                .check_address_limits(&request, &mut guard.address_permit)
                .err()
                .inspect(|_| {
                    shared.address_limited.store(true, Relaxed);
                }),
        };
        let permit = guard.address_permit.as_ref();
        let queued = permit.and_then(AddressPermit::enqueue);
        let mut request = request.map(|body| Body::new(body, shared, self.is_multiplexed, queued));
        let state = if let Some(rejection) = rejection {
            // Dropping the request records how much of its body is left.
            State::Rejected(Some(Box::new(self.reject(rejection, &request))))
        } else {
            request.extensions_mut().insert(info);
            if let Some(certificate) = shared.client_certificate.get() {
                request.extensions_mut().insert(certificate.clone());
            }
            State::Calling {
                service: self.service.clone(),
                request: Some(request),
            }
        };
        ResponseFuture {
            guard: Some(guard),
            state,
        }
    }
}

impl<S> ConnectionService<S> {
    fn reject<B>(&self, rejection: HttpRejection, request: &Request<B>) -> Response<Bytes> {
        let rejection = match *request.method() {
            Method::HEAD => rejection.for_head(),
            _ => rejection,
        };
        let add_fields = |fields: &mut _| self.shared.add_fields(request.headers(), fields);
        let mut response = rejection.response(add_fields);
        if self.is_multiplexed {
            response.headers_mut().remove(CONNECTION);
        }
        response
    }
}

pub(super) struct ResponseFuture<S: HttpService> {
    guard: Option<RequestGuard>,
    state: State<S>,
}

enum State<S: HttpService> {
    Calling {
        service: S,
        request: Option<Request<Body>>,
    },
    Running(S::Future),
    /// hyper flushes once before it gets the response, so that an interim response can leave.
    Announcing(Option<Response<S::Body>>),
    Rejected(Option<Box<Response<Bytes>>>),
    HandedOver,
    Answered(Option<Response<OutgoingBody<S::Body>>>),
}

// Only the future would need pinning, and it is `Unpin`.
impl<S: HttpService> Unpin for ResponseFuture<S> {}

/// The request moves to the new connection when hyper's connection is replaced.
impl<S: HttpService> Drop for ResponseFuture<S> {
    fn drop(&mut self) {
        let is_moving = |guard: &mut RequestGuard| guard.shared.handover.is_active();
        let Some(guard) = self.guard.take_if(is_moving) else {
            return;
        };
        let shared = guard.shared.clone();
        let state = mem::replace(&mut self.state, State::HandedOver);
        let guard = Some(guard);
        let response = Box::new(Self { guard, state });
        shared.handover.keep_response(response);
    }
}

impl<S: HttpService> Future for ResponseFuture<S> {
    type Output = Result<Response<OutgoingBody<S::Body>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        loop {
            let next = match &mut me.state {
                State::Calling { service, request } => {
                    let Ok(()) = ready!(service.poll_ready(cx));
                    let request = request.take().expect("a call is made once");
                    State::Running(service.call(request))
                }
                State::Running(future) => {
                    let Ok(response) = ready!(Pin::new(future).poll(cx));
                    let guard = me.guard.as_ref();
                    if guard.is_some_and(|guard| guard.shared.has_announcement()) {
                        me.state = State::Announcing(Some(response));
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    return Poll::Ready(Ok(finish_response(response, take_guard(&mut me.guard))));
                }
                State::Announcing(response) => {
                    let response = response
                        .take()
                        .expect("a future is not polled after its end");
                    return Poll::Ready(Ok(finish_response(response, take_guard(&mut me.guard))));
                }
                State::Rejected(response) => {
                    let guard = take_guard(&mut me.guard);
                    let response = response
                        .take()
                        .expect("a future is not polled after its end");
                    let response = response.map(|text| OutgoingBody::rejection(text, guard));
                    return Poll::Ready(Ok(response));
                }
                // Dropped right after it is created.
                State::HandedOver => return Poll::Pending,
                State::Answered(response) => {
                    let response = response
                        .take()
                        .expect("a future is not polled after its end");
                    return Poll::Ready(Ok(response));
                }
            };
            me.state = next;
        }
    }
}

impl<S: HttpService> ResponseFuture<S> {
    /// Waits until [`poll`](Future::poll) is ready.
    pub(super) fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.state, State::Answered(_)) {
            let Ok(response) = ready!(Pin::new(&mut *self).poll(cx));
            self.state = State::Answered(Some(response));
        }
        Poll::Ready(())
    }
}

fn take_guard(guard: &mut Option<RequestGuard>) -> RequestGuard {
    guard.take().expect("a future is not polled after its end")
}

fn finish_response<B>(mut response: Response<B>, guard: RequestGuard) -> Response<OutgoingBody<B>> {
    guard.shared.add_tls_fields(response.headers_mut());
    if !guard.is_multiplexed {
        guard.shared.responded.store(true, Relaxed);
        if let Some(queue) = guard.shared.interim.get() {
            queue.close();
        }
        if guard.shared.unread_bytes.load(Relaxed) > MAX_DISCARDED_REST
            || guard.shared.must_close.load(Relaxed)
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
    }
    let stream = if guard.is_multiplexed {
        task::current()
    } else {
        None
    };
    response.map(|body| OutgoingBody::service(body, guard, stream))
}
