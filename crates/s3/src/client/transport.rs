//! The client's own connections, a pool for each runtime. It does not retry.

use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use landfall::BoxError;
use landfall_net::{Connector, PerRuntime, Proxies};
use rustls::RootCertStore;

use super::{
    PayloadBody,
    environment::variable,
    http_send::{HttpSend, ResponseBody},
    settings::{ClientSettings, SettingsError},
};

/// Shorter than the idle timeout of services, to avoid requests on connections that they close.
const IDLE: Duration = Duration::from_secs(15);

/// Of a connection: of an object that is being downloaded, and whose client has stopped reading, it has as much.
const MAX_BUFFER: usize = 16 * 1024;

type Connections = legacy::Client<Connector, PayloadBody>;

#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    proxies: Proxies,
    idle_connections: usize,
    by_runtime: PerRuntime<Connections>,
}

impl Pool {
    pub(super) fn new(settings: &ClientSettings, secure: bool) -> Result<Self, SettingsError> {
        let mut tcp = landfall_net::tcp();
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let tls = landfall_net::client_config(root_certificates(secure)?)
            .map_err(SettingsError::Certificates)?;
        let proxies = Proxies::from_env();
        Ok(Self {
            connector: landfall_net::connector(&tls, proxies.clone(), tcp),
            proxies,
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
                .http1_max_buf_size(MAX_BUFFER)
                .build(self.connector.clone())
        })
    }
}

/// Returns the certificates of `AWS_CA_BUNDLE` alone, as in the AWS tools, or else the system's.
///
/// # Errors
/// The file cannot be read, or there is no certificate and they `are_needed`.
pub fn root_certificates(are_needed: bool) -> Result<RootCertStore, SettingsError> {
    const BUNDLE: &str = "AWS_CA_BUNDLE";
    if let Some(path) = variable(BUNDLE) {
        return landfall_net::certificates_in(path.as_ref()).map_err(|source| {
            SettingsError::File {
                variable: BUNDLE.to_owned(),
                path,
                source,
            }
        });
    }
    landfall_net::system_certificates(are_needed).map_err(SettingsError::Certificates)
}

#[async_trait]
impl HttpSend for Pool {
    async fn send(
        &self,
        mut request: Request<PayloadBody>,
    ) -> Result<Response<ResponseBody>, BoxError> {
        self.proxies.authorize(&mut request);
        let response = self.connections().request(request).await;
        let response = response.map_err(|error| landfall_net::failure(&error))?;
        Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}
