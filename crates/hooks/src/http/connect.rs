//! Connections: direct, or through a proxy.

use std::{io, time::Duration};

use crate::DeliveryError;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use landfall::BoxError;
use landfall_net::{PerRuntime, ProxyConnector};
use rustls::ClientConfig;
use tower::Service;

use super::{
    AttemptError, Proxies,
    address_policy::{AddressDenied, AddressPolicy, Resolver, resolver},
};

const IDLE: Duration = Duration::from_secs(30);

/// Interval and timeout of HTTP/2 pings while a response is pending.
const PING: Duration = Duration::from_secs(5);

type Tcp = HttpConnector<Resolver>;
type Connector = landfall_net::Connector<Tcp>;
type Connections = legacy::Client<Connector, Full<Bytes>>;

#[derive(Debug)]
pub(super) struct Client {
    connector: Connector,
    idle: usize,
    by_runtime: PerRuntime<Connections>,
}

impl Client {
    /// Creates a client. With a policy it connects only to allowed addresses.
    ///
    /// It keeps at most `idle` connections per host and runtime.
    pub(super) fn new(
        tls: &ClientConfig,
        proxies: Proxies,
        policy: Option<AddressPolicy>,
        idle: usize,
    ) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(ProxyConnector::new(tls, proxies, tcp(policy)));
        Self {
            connector,
            idle,
            by_runtime: PerRuntime::default(),
        }
    }

    fn connections(&self) -> Connections {
        self.by_runtime.get(|| {
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(self.idle)
                // Go's spelling: some receivers look for `Hook-Name` only.
                .http1_title_case_headers(true)
                .http2_keep_alive_interval(PING)
                .http2_keep_alive_timeout(PING)
                .build(self.connector.clone())
        })
    }

    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, AttemptError> {
        let sent = self.connections().request(request).await;
        sent.map_err(|error| attempt_error(&error))
    }

    pub(super) async fn touch(&self, uri: Uri) -> Result<(), BoxError> {
        let mut connector = self.connector.clone();
        connector.call(uri).await.map(drop)
    }
}

fn tcp(policy: Option<AddressPolicy>) -> Tcp {
    let mut tcp = HttpConnector::new_with_resolver(resolver(policy));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.enforce_http(false);
    tcp
}

/// hyper returns a chain of errors; the last one is the cause.
fn attempt_error(error: &legacy::Error) -> AttemptError {
    let what = if error.is_connect() {
        "could not connect to the hook endpoint"
    } else {
        "the hook endpoint did not respond"
    };
    let source = std::error::Error::source(error);
    let causes = || std::iter::successors(source, |error| error.source());
    let cause = causes().last();
    let text = cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"));
    AttemptError {
        failure: DeliveryError::new(text),
        // A retry would be denied, too.
        may_retry: !causes().any(|cause| cause.is::<AddressDenied>()),
    }
}

/// Creates a configuration that trusts the system's root certificates, or any certificate.
///
/// A lack of root certificates is an error only if they are `needed`.
pub(super) fn tls_config(skip_verify: bool, needed: bool) -> io::Result<ClientConfig> {
    if skip_verify {
        return landfall_net::client_config_without_verification();
    }
    landfall_net::client_config(landfall_net::system_certificates(needed)?)
}
