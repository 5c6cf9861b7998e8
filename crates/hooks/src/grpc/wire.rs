//! Calls over one HTTP/2 connection, which is opened when it is needed; what goes wrong with it
//! becomes a gRPC status.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tonic::{Code, Status, body::Body};
use tower_service::Service;

use super::connect::Connector;

/// An idle connection is closed before routers on the way forget it, which happens in silence.
const IDLE: Duration = Duration::from_secs(300);
/// How long the answer to a ping may take.
const PING_ANSWER: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Wire(Client<Connector, Body>);

impl Wire {
    /// Calls may take `timeout`.
    pub(super) fn new(connector: Connector, timeout: Option<Duration>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http2_only(true)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(ping_interval(timeout))
            .http2_keep_alive_timeout(PING_ANSWER)
            .build(connector);
        Self(client)
    }
}

/// A ping goes out when a call has heard nothing for so long. Servers take the fourth that comes within
/// five minutes of another, no answer to a call between them, for an attack, and close the connection.
fn ping_interval(timeout: Option<Duration>) -> Duration {
    const SHORTEST: Duration = Duration::from_secs(20);
    const ALWAYS_WELCOME: Duration = Duration::from_secs(330);
    timeout.map_or(ALWAYS_WELCOME, |timeout| {
        (timeout / 3).clamp(SHORTEST, ALWAYS_WELCOME)
    })
}

impl Service<Request<Body>> for Wire {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        const AGENT: HeaderValue =
            HeaderValue::from_static(concat!("landfall/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, AGENT);
        let answer = self.0.request(request);
        Box::pin(async move {
            let answer = answer.await.map_err(status)?;
            Ok(answer.map(|body| Body::new(body.map_err(status))))
        })
    }
}

/// A call that was reset has the code that gRPC gives the reset; a connection that isn't to be had,
/// or breaks, is one that may be there again in a moment.
fn status(error: impl Error + Send + Sync + 'static) -> Status {
    let reset = chain(&error).find_map(|error| {
        let error = error.downcast_ref::<h2::Error>()?;
        error.is_reset().then(|| error.reason()).flatten()
    });
    let code = match reset {
        None | Some(h2::Reason::REFUSED_STREAM) => Code::Unavailable,
        Some(h2::Reason::CANCEL) => Code::Cancelled,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(h2::Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(_) => Code::Internal,
    };
    let texts: Vec<String> = chain(&error).map(ToString::to_string).collect();
    let mut status = Status::new(code, texts.join(": "));
    status.set_source(std::sync::Arc::new(error));
    status
}

/// An error and all that lies below it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_few() {
        const WELCOME: Duration = Duration::from_secs(300);
        assert!(ping_interval(None) > WELCOME);
        for seconds in [0, 1, 20, 59, 60, 61, 90, 899, 901, 86_400, u64::MAX] {
            let timeout = Duration::from_secs(seconds);
            let interval = ping_interval(Some(timeout));
            let pings = timeout.as_nanos() / interval.as_nanos();
            assert!(
                interval > WELCOME || pings <= 3,
                "{timeout:?}: {interval:?}"
            );
        }
    }
}
