//! What carries requests: the client's own pool of HTTP/1.1 connections, or the user's.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use landfall::{BoxError, runtime::PerRuntime};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{
    payload::PayloadBody,
    settings::{ClientSettings, SettingsError},
};

/// The body of an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

/// Sends one request, once. The client adds signing, retries and the limit on the whole attempt.
#[async_trait]
pub trait HttpSend: fmt::Debug + Send + Sync + 'static {
    /// Sends the request, whose URI is absolute, and returns the head of the answer as soon as it is
    /// there. Redirects are answers like others.
    ///
    /// # Errors
    /// Anything that kept an answer from coming; it counts as passing and is tried again.
    ///
    /// # Cancel safety
    /// A dropped call must end the exchange, so that its request has no effect later.
    async fn send(&self, request: Request<PayloadBody>) -> Result<Response<AnswerBody>, BoxError>;
}

/// Idle connections are closed before services do it, which spares failed first attempts.
const IDLE: Duration = Duration::from_secs(15);

type Connections = legacy::Client<HttpsConnector<HttpConnector>, PayloadBody>;

/// Connections, kept apart by runtime.
pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    idle_connections: usize,
    by_runtime: PerRuntime<Connections>,
}

impl Pool {
    /// With `secure`, root certificates must be there.
    pub(super) fn new(settings: &ClientSettings, secure: bool) -> Result<Self, SettingsError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.enforce_http(false);
        let provider = ring::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let builder = match builder.with_provider_and_native_roots(provider.clone()) {
            Ok(builder) => builder,
            Err(error) if secure => return Err(SettingsError::Certificates(error)),
            Err(_) => HttpsConnectorBuilder::new().with_tls_config(trusting_nobody(provider)?),
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self {
            connector,
            idle_connections: settings.idle_connections,
            by_runtime: PerRuntime::default(),
        })
    }

    fn connections(&self) -> Connections {
        self.by_runtime.get(|| {
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(self.idle_connections)
                .build(self.connector.clone())
        })
    }
}

fn trusting_nobody(
    provider: rustls::crypto::CryptoProvider,
) -> Result<ClientConfig, SettingsError> {
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::Certificates(std::io::Error::other(error)))?;
    Ok(builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpSend for Pool {
    async fn send(&self, request: Request<PayloadBody>) -> Result<Response<AnswerBody>, BoxError> {
        let answer = self.connections().request(request).await.map_err(flat)?;
        Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}

/// One line for what hyper tells in a chain of errors ("client error (Connect)": …).
fn flat(error: legacy::Error) -> BoxError {
    let mut text = if error.is_connect() {
        "could not connect"
    } else {
        "the exchange failed"
    }
    .to_owned();
    let mut cause = std::error::Error::source(&error);
    let mut last = String::new();
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    if !last.is_empty() {
        text = format!("{text}: {last}");
    }
    text.into()
}
