//! Connections: direct, or through a proxy.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection, HttpConnector, proxy::Tunnel},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use landfall::{BoxError, runtime::PerRuntime};
use landfall_messages::DeliveryError;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::net::TcpStream;
use tower::{Service, service_fn, util::BoxCloneSyncService};

use super::{
    AttemptError, Proxies,
    address_policy::{AddressDenied, AddressPolicy, Resolver, resolver},
};
use crate::verifier::Verifier;

const IDLE: Duration = Duration::from_secs(30);

/// Interval and timeout of HTTP/2 pings while a response is pending.
const PING: Duration = Duration::from_secs(5);

type Tcp = HttpConnector<Resolver>;
type Connector = HttpsConnector<BoxCloneSyncService<Uri, Stream, BoxError>>;
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
        let with_tls = || HttpsConnectorBuilder::new().with_tls_config(tls.clone());
        let to_proxy = with_tls()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp(None));
        let direct = tcp(policy);
        let connect =
            service_fn(move |uri| connect(uri, proxies.clone(), direct.clone(), to_proxy.clone()));
        let connector = with_tls()
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(BoxCloneSyncService::new(connect));
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

/// Opens the connection below TLS or HTTP: to the endpoint, to a proxy, or a tunnel through one.
async fn connect(
    uri: Uri,
    proxies: Proxies,
    mut direct: Tcp,
    mut to_proxy: HttpsConnector<Tcp>,
) -> Result<Stream, BoxError> {
    let Some(proxy) = proxies.for_uri(&uri) else {
        let io = MaybeHttpsStream::Http(direct.call(uri).await?);
        let is_proxied = false;
        return Ok(Stream { io, is_proxied });
    };
    let address = proxy.uri().clone();
    if !matches!(address.scheme_str(), Some("http" | "https")) {
        return Err(format!("the proxy {address} is not an HTTP proxy").into());
    }
    let is_proxied = uri.scheme_str() != Some("https");
    let io = if is_proxied {
        to_proxy.call(address).await?
    } else {
        let mut tunnel = Tunnel::new(address, to_proxy);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        tunnel.call(uri).await?
    };
    Ok(Stream { io, is_proxied })
}

struct Stream {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// True if a proxy reads the requests, which must then have absolute URIs.
    is_proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.is_proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Creates a configuration that trusts the system's root certificates, or any certificate.
///
/// A lack of root certificates is an error only if they are `needed`.
pub(super) fn tls_config(skip_verify: bool, needed: bool) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    if skip_verify {
        let verifier = Arc::new(Verifier::accepting_any(&provider));
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if needed && roots.is_empty() {
        return Err(io::Error::other("no root certificates found"));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
