//! Requests whose responses are small and read whole.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use tokio::time;

use crate::{
    Connector, Proxies,
    connector::{BoxError, connector, last_cause, tcp},
};

const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_IDLE_PER_HOST: usize = 8;

/// Sends requests without following redirects.
///
/// Its connections are driven by the runtime that opened them.
pub struct Client<B> {
    connections: legacy::Client<Connector, B>,
    proxies: Proxies,
}

impl<B> fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl<B> Client<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Creates a client.
    #[must_use]
    pub fn new(tls: &ClientConfig, proxies: Proxies) -> Self {
        Self {
            connections: legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
                .build(connector(tls, proxies.clone(), tcp())),
            proxies,
        }
    }

    /// Sends a request and reads a response of at most `max_bytes`, all within `timeout`.
    ///
    /// # Errors
    /// A text for the log: there is no response, it is larger, or late.
    pub async fn send(
        &self,
        mut request: Request<B>,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<Response<Bytes>, String> {
        self.proxies.authorize(&mut request);
        let exchange = async {
            let response = self.connections.request(request).await;
            let (head, body) = response.map_err(|error| failure(&error))?.into_parts();
            let body = Limited::new(body, max_bytes).collect().await;
            let body = body.map_err(|error| format!("failed to read the response: {error}"))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let response = time::timeout(timeout, exchange).await;
        response.unwrap_or_else(|_| Err(format!("timed out after {timeout:?}")))
    }
}

/// Returns why there is no response to a request, such as `cannot connect: connection refused`.
#[must_use]
pub fn failure(error: &legacy::Error) -> String {
    let problem = match error.is_connect() {
        true => "cannot connect",
        false => "the request failed",
    };
    match error.source() {
        Some(source) => format!("{problem}: {}", last_cause(source)),
        None => problem.to_owned(),
    }
}
