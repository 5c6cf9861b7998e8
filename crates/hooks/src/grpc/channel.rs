//! One HTTP/2 connection, opened on demand. Its errors become gRPC statuses.

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

/// Idle connections are closed before NAT routers drop them silently.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(super) struct H2Channel(Client<Connector, Body>);

impl H2Channel {
    pub(super) fn new(connector: Connector, timeout: Option<Duration>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_only(true)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(ping_interval(timeout))
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector);
        Self(client)
    }
}

/// Servers treat the fourth ping within five minutes without received data in between as an attack, and
/// close the connection.
fn ping_interval(timeout: Option<Duration>) -> Duration {
    const MIN: Duration = Duration::from_secs(20);
    const ALWAYS_ALLOWED: Duration = Duration::from_secs(330);
    timeout.map_or(ALWAYS_ALLOWED, |timeout| {
        (timeout / 3).clamp(MIN, ALWAYS_ALLOWED)
    })
}

impl Service<Request<Body>> for H2Channel {
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
        let response = self.0.request(request);
        Box::pin(async move {
            let response = response.await.map_err(status)?;
            Ok(response.map(|body| Body::new(body.map_err(status))))
        })
    }
}

/// A stream reset gets the code that gRPC assigns to it. A connection error is `UNAVAILABLE`, since a retry
/// may succeed.
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

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_rate_stays_below_the_server_limit() {
        const LIMIT: Duration = Duration::from_secs(300);
        assert!(ping_interval(None) > LIMIT);
        for seconds in [0, 1, 20, 59, 60, 61, 90, 899, 901, 86_400, u64::MAX] {
            let timeout = Duration::from_secs(seconds);
            let interval = ping_interval(Some(timeout));
            let pings = timeout.as_nanos() / interval.as_nanos();
            assert!(interval > LIMIT || pings <= 3, "{timeout:?}: {interval:?}");
        }
    }
}
