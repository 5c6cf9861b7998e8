use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use landfall::{BoxError, runtime::PerRuntime};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{
    http_send::{HttpSend, PayloadBody, ResponseBody},
    settings::{ClientSettings, SettingsError},
};

/// Shorter than the idle timeout of services, to avoid requests on connections that they close.
const IDLE: Duration = Duration::from_secs(15);

type Connections = legacy::Client<HttpsConnector<HttpConnector>, PayloadBody>;

#[derive(Debug)]
pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    idle_connections: usize,
    by_runtime: PerRuntime<Connections>,
}

impl Pool {
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
            Err(_) => HttpsConnectorBuilder::new().with_tls_config(without_roots(provider)?),
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

fn without_roots(provider: rustls::crypto::CryptoProvider) -> Result<ClientConfig, SettingsError> {
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::Certificates(std::io::Error::other(error)))?;
    Ok(builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

#[async_trait]
impl HttpSend for Pool {
    async fn send(
        &self,
        request: Request<PayloadBody>,
    ) -> Result<Response<ResponseBody>, BoxError> {
        let response = self.connections().request(request).await;
        let response = response.map_err(error_chain)?;
        Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}

fn error_chain(error: legacy::Error) -> BoxError {
    let problem = match error.is_connect() {
        true => "cannot connect",
        false => "the request failed",
    };
    let first = std::error::Error::source(&error);
    match std::iter::successors(first, |error| error.source()).last() {
        Some(cause) => format!("{problem}: {cause}").into(),
        None => problem.into(),
    }
}
