//! Connections to a service, a pool for each runtime. It does not retry.

use std::{io, time::Duration};

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

use super::http_send::{HttpSend, ResponseBody};
use crate::payload::PayloadBody;

/// Shorter than the idle timeout of services, to avoid requests on connections that they close.
const IDLE: Duration = Duration::from_secs(15);

/// Of a connection: of an object that is being downloaded, and whose client has stopped reading, it has as much.
const MAX_BUFFER: usize = 16 * 1024;

type Pool = legacy::Client<Connector, PayloadBody>;

/// Connections to one service.
#[derive(Debug)]
pub(super) struct Connections {
    connector: Connector,
    proxies: Proxies,
    idle_connections: usize,
    by_runtime: PerRuntime<Pool>,
}

impl Connections {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// TLS is not possible with these root certificates.
    pub(super) fn new(
        certificates: RootCertStore,
        connect_timeout: Duration,
        idle_connections: usize,
    ) -> io::Result<Self> {
        let mut tcp = landfall_net::tcp();
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let tls = landfall_net::client_config(certificates)?;
        let proxies = Proxies::from_env();
        Ok(Self {
            connector: landfall_net::connector(&tls, proxies.clone(), tcp),
            proxies,
            idle_connections,
            by_runtime: PerRuntime::default(),
        })
    }

    fn pool(&self) -> Pool {
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

#[async_trait]
impl HttpSend for Connections {
    async fn send(
        &self,
        mut request: Request<PayloadBody>,
    ) -> Result<Response<ResponseBody>, BoxError> {
        self.proxies.authorize(&mut request);
        let response = self.pool().request(request).await;
        let response = response.map_err(|error| landfall_net::failure(&error))?;
        Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}
