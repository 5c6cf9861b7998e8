//! The service of an upload server: the handler of uploads, and other routes.

use std::{
    cell::Cell,
    convert::Infallible,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, combinators::UnsyncBoxBody};
use landfall::{Handler, service::ResponseBody, store::BoxError};
use tokio_util::sync::ReusableBoxFuture;
use tower_service::Service;

use crate::{
    Body, ConnectionLimits, Listener, NetStats, RejectionFields, Shutdown, interim_sender, serve,
};

/// Clients without it get no interim responses.
const INTEROP_VERSION: HeaderName = HeaderName::from_static("upload-draft-interop-version");

/// The body of a response that is not the handler's.
pub type OtherBody = UnsyncBoxBody<Bytes, BoxError>;

/// A response that is not the handler's.
pub type OtherResponse = Pin<Box<dyn Future<Output = Response<OtherBody>> + Send>>;

/// Responds to the requests that do not belong to uploads.
pub trait Routes: fmt::Debug + Send + Sync + 'static {
    /// Returns whether the handler of uploads responds to a request.
    fn is_upload(&self, request: &Request<Body>) -> bool;

    /// Responds to another request.
    fn respond(&self, request: Request<Body>) -> OtherResponse;
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
    limits.rejection_fields = RejectionFields(Arc::new(move |request, fields| {
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

impl Service<Request<Body>> for UploadService {
    type Response = Response<Either<ResponseBody, OtherBody>>;
    type Error = Infallible;
    type Future = ServiceFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> ServiceFuture {
        // A request without content, such as HEAD, has no interim responses.
        if !request.body().is_end_stream()
            && request.headers().contains_key(INTEROP_VERSION)
            && let Some(sender) = interim_sender(&request)
        {
            request.extensions_mut().insert(sender);
        }
        match self.routes.is_upload(&request) {
            true => ServiceFuture::upload(self.handler.handle(request)),
            false => ServiceFuture::Other(self.routes.respond(request)),
        }
    }
}

/// Lets the handler respond, in the types of [`Routes`].
#[must_use]
pub fn respond(handler: &Handler, request: Request<Body>) -> OtherResponse {
    let response = handler.clone().call(request);
    Box::pin(async {
        let Ok(response) = response.await;
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    })
}

/// The handler's future, in memory that the next one uses.
type Responding = ReusableBoxFuture<'static, Response<ResponseBody>>;

thread_local! {
    static RESPONDED: Cell<Option<Responding>> = const { Cell::new(None) };
}

enum ServiceFuture {
    /// Until its end.
    Upload(Option<Responding>),
    Other(OtherResponse),
}

impl ServiceFuture {
    fn upload(future: impl Future<Output = Response<ResponseBody>> + Send + 'static) -> Self {
        Self::Upload(Some(match RESPONDED.try_with(Cell::take) {
            Ok(Some(mut used)) => {
                used.set(future);
                used
            }
            _ => ReusableBoxFuture::new(future),
        }))
    }
}

impl Future for ServiceFuture {
    type Output = Result<Response<Either<ResponseBody, OtherBody>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Other(future) => future
                .as_mut()
                .poll(cx)
                .map(|response| Ok(response.map(Either::Right))),
            Self::Upload(running) => {
                let future = running.as_mut().expect("not polled after its end");
                let response = ready!(future.poll(cx));
                let _ = RESPONDED.try_with(|kept| kept.set(running.take()));
                Poll::Ready(Ok(response.map(Either::Left)))
            }
        }
    }
}
