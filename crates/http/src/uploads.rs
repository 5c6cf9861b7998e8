//! The service of an upload server: the handler of uploads, and other routes.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io, mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, combinators::UnsyncBoxBody};
use landfall::{
    Handler,
    service::{FieldLines, ResponseBody},
    store::BoxError,
};
use landfall_protocol::headers::INTEROP_VERSION;

use crate::{
    Body, ConnectionLimits, Function, HttpService, Listener, NetStats, Shutdown, interim_sender,
    serve,
};

/// The body of a response that is not the handler's.
pub type OtherBody = UnsyncBoxBody<Bytes, BoxError>;

/// A response that is not the handler's.
pub type OtherResponse = Pin<Box<dyn Future<Output = Response<OtherBody>> + Send>>;

/// Responds to the requests that do not belong to uploads.
pub trait Routes: fmt::Debug + Send + Sync + 'static {
    /// Responds to a request, which it takes, unless the handler of uploads has to.
    fn respond(&self, request: &mut Request<Body>) -> Option<OtherResponse>;
}

/// Serves uploads on all `listeners`, as [`serve`] does.
///
/// It is no `async fn`, whose code would be compiled, and optimized, by the crate that calls it.
///
/// # Errors
/// See [`serve`].
pub fn serve_uploads(
    listeners: Vec<Listener>,
    handler: Handler,
    routes: Arc<dyn Routes>,
    mut limits: ConnectionLimits,
    shutdown: Shutdown,
    stats: Arc<NetStats>,
) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
    let cors = handler.clone();
    limits.rejection_fields = Function(Arc::new(move |request, fields| {
        cors.add_cors_fields(request, fields)
    }));
    let service = UploadService {
        handler: handler.clone(),
        routes,
    };
    // Hooks and events of disconnected clients continue until they finish.
    let drained = async move { handler.shutdown().await };
    Box::pin(serve(listeners, service, limits, shutdown, stats, drained))
}

#[derive(Debug, Clone)]
struct UploadService {
    handler: Handler,
    routes: Arc<dyn Routes>,
}

impl HttpService for UploadService {
    type Body = Either<ResponseBody, OtherBody>;
    type Future = ServiceFuture;

    fn call(&self, mut request: Request<Body>) -> ServiceFuture {
        // A request without content, such as HEAD, has no interim responses, nor has a client without this field.
        if !request.body().is_end_stream()
            && request.headers().contains_key(INTEROP_VERSION)
            && let Some(sender) = interim_sender(&request)
        {
            request.extensions_mut().insert(sender);
        }
        match self.routes.respond(&mut request) {
            None => ServiceFuture::upload(self.handler.clone(), request),
            Some(response) => ServiceFuture::Other(response),
        }
    }
}

/// Lets the handler respond, in the types of [`Routes`].
#[must_use]
pub fn respond(handler: &Handler, mut request: Request<Body>) -> OtherResponse {
    // All fields of the response are in its map then.
    request.extensions_mut().remove::<FieldLines>();
    let response = handler.handle(request);
    Box::pin(async {
        let response = response.await;
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    })
}

/// Lets handlers respond to one request after another, so that their large futures are neither allocated nor moved.
type Responder = Pin<Box<dyn Future<Output = Infallible> + Send>>;

thread_local! {
    static IDLE: Cell<Option<Responder>> = const { Cell::new(None) };
    /// Passed to a responder, or returned by one, when it is polled. A cell without a lock would copy them twice.
    static REQUEST: RefCell<Option<(Handler, Request<Body>)>> = const { RefCell::new(None) };
    static RESPONSE: RefCell<Option<UploadResponse>> = const { RefCell::new(None) };
}

type UploadResponse = Response<Either<ResponseBody, OtherBody>>;

fn give_response(response: Response<ResponseBody>) {
    RESPONSE.with_borrow_mut(|given| *given = Some(response.map(Either::Left)));
}

async fn respond_in_turn() -> Infallible {
    loop {
        // Moves neither the request nor, below, the response once more.
        let given = poll_fn(|_| match REQUEST.with_borrow(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        given.await;
        let Some((handler, request)) = REQUEST.take() else {
            continue;
        };
        let mut response = pin!(handler.handle(request));
        let mut is_begun = false;
        // The poll that gives the request has no waker for it.
        let responded = poll_fn(|cx| match mem::replace(&mut is_begun, true) {
            true => response.as_mut().poll(cx).map(give_response),
            false => Poll::Pending,
        });
        responded.await;
    }
}

enum ServiceFuture {
    /// Until its end.
    Upload(Option<Responder>),
    Other(OtherResponse),
}

impl ServiceFuture {
    fn upload(handler: Handler, request: Request<Body>) -> Self {
        let idle = IDLE.try_with(Cell::take).ok().flatten();
        let mut responder = idle.unwrap_or_else(|| Box::pin(respond_in_turn()));
        REQUEST.with_borrow_mut(|given| *given = Some((handler, request)));
        let waiting = responder
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        debug_assert!(waiting.is_pending());
        Self::Upload(Some(responder))
    }
}

impl Future for ServiceFuture {
    type Output = UploadResponse;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Other(future) => future
                .as_mut()
                .poll(cx)
                .map(|response| response.map(Either::Right)),
            Self::Upload(running) => {
                let responder = running.as_mut().expect("not polled after its end");
                let Poll::Pending = responder.as_mut().poll(cx);
                let Some(response) = RESPONSE.take() else {
                    return Poll::Pending;
                };
                let _ = IDLE.try_with(|idle| idle.set(running.take()));
                Poll::Ready(response)
            }
        }
    }
}
