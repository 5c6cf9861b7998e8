//! Between a connection and the service, in each version of HTTP: last checks of a head, limits per client,
//! and request extensions.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use landfall::service::{InterimSender, Peer};

use super::body::{Body, RequestContent, ResponseBody};
use super::connection::ConnectionShared;
use super::http1::same_host;
use super::limits::addresses::AddressPermit;
use super::rejection::HttpRejection;
use super::stats::NetStats;

/// The service that [`serve`](super::serve) calls.
pub trait HttpService: Clone + Send + Sync + 'static {
    /// The body of its responses.
    type Body: ResponseBody;
    /// Responds to one request.
    type Future: Future<Output = Response<Self::Body>> + Send + Unpin + 'static;

    /// Begins to respond to a request.
    fn call(&self, request: Request<Body>) -> Self::Future;
}

/// Returns a sender of interim responses to a request.
///
/// `None` for HTTP/1.0, and for a request without content: its final response is due at once.
#[must_use]
pub fn interim_sender(request: &Request<Body>) -> Option<Arc<dyn InterimSender>> {
    match request.version() {
        Version::HTTP_10 => None,
        _ => request.body().interim_sender(),
    }
}

/// The service of one connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectionService<S> {
    pub(super) service: S,
    pub(super) shared: Arc<ConnectionShared>,
}

/// h2 and h3 omit these checks of [`super::http1`].
pub(super) fn check_stream(head: &Request<()>) -> Option<HttpRejection> {
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

fn check_expectation(head: &Request<()>) -> Option<HttpRejection> {
    let expect = head.headers().get(EXPECT)?;
    (!expect.as_bytes().eq_ignore_ascii_case(b"100-continue")).then_some(HttpRejection {
        status: StatusCode::EXPECTATION_FAILED,
        reason: "the only supported expectation is 100-continue",
    })
}

impl<S: HttpService> ConnectionService<S> {
    /// Calls the service with a request of `peer`, or responds with a `rejection`. The permit is held until the
    /// response has been sent.
    pub(super) fn start(
        &self,
        request: Request<RequestContent>,
        peer: Peer,
        rejection: Option<HttpRejection>,
    ) -> (ResponseFuture<S>, Option<AddressPermit>) {
        let shared = &self.shared;
        NetStats::add(&shared.server.stats.requests, 1);
        let admitted = match rejection {
            Some(rejection) => {
                NetStats::add(&shared.server.stats.rejected, 1);
                Err(rejection)
            }
            None => shared
                .check_address_limits(&request, !request.body().is_end())
                .inspect_err(|_| shared.address_limited.store(true, Relaxed)),
        };
        let (permit, rejection) = match admitted {
            Ok(permit) => (permit, None),
            Err(rejection) => (None, Some(rejection)),
        };
        let queued = permit.as_ref().and_then(AddressPermit::enqueue);
        let mut request = request.map(|content| Body::new(content, queued));
        let response = if let Some(rejection) = rejection {
            // Dropping the request records how much of its body is left.
            ResponseFuture::Rejected(Some(Box::new(self.reject(rejection, &request))))
        } else {
            *request.extensions_mut().get_or_insert(peer) = peer;
            if let Some(certificate) = shared.client_certificate.get() {
                request.extensions_mut().insert(certificate.clone());
            }
            ResponseFuture::Running(self.service.call(request))
        };
        (response, permit)
    }

    fn reject<B>(&self, rejection: HttpRejection, request: &Request<B>) -> Response<Bytes> {
        let rejection = match *request.method() {
            Method::HEAD => rejection.for_head(),
            _ => rejection,
        };
        let add_fields = |fields: &mut _| self.shared.add_fields(request.headers(), fields);
        let mut response = rejection.response(add_fields);
        if request.version() > Version::HTTP_11 {
            response.headers_mut().remove(CONNECTION);
        }
        response
    }
}

/// A future of a response: that of the service, or a rejection.
pub(super) enum ResponseFuture<S: HttpService> {
    Running(S::Future),
    Rejected(Option<Box<Response<Bytes>>>),
}

impl<S: HttpService> ResponseFuture<S> {
    /// Is not polled after it is ready.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Response<Either<S::Body, Full<Bytes>>>> {
        match self {
            Self::Running(future) => Pin::new(future)
                .poll(cx)
                .map(|response| response.map(Either::Left)),
            Self::Rejected(response) => {
                let response = response
                    .take()
                    .expect("a future is not polled after its end");
                Poll::Ready(response.map(|text| Either::Right(text.into())))
            }
        }
    }
}
