//! Connections: direct, or through a proxy.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
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
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use super::{
    Proxies,
    address_policy::{AddressDenied, AddressPolicy, Resolver},
};

const IDLE: Duration = Duration::from_secs(30);

/// Interval and timeout of HTTP/2 pings while a response is pending.
const PING: Duration = Duration::from_secs(5);

type Connections = legacy::Client<HttpsConnector<ProxyConnector>, Full<Bytes>>;

pub(super) struct Client {
    connector: HttpsConnector<ProxyConnector>,
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
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
        let to_proxy = builder
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp(Resolver::new(None)));
        let proxied = ProxyConnector {
            proxies,
            tcp: tcp(Resolver::new(policy)),
            to_proxy,
        };
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
        let connector = builder
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(proxied);
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
    ) -> Result<Response<Incoming>, SendError> {
        let sent = self.connections().request(request).await;
        sent.map_err(|error| SendError::new(&error))
    }

    /// Opens a connection and closes it.
    pub(super) async fn touch(&self, uri: Uri) -> Result<(), BoxError> {
        let mut connector = self.connector.clone();
        std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
        connector.call(uri).await.map(drop)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn tcp(resolver: Resolver) -> HttpConnector<Resolver> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.enforce_http(false);
    tcp
}

/// A failed request.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct SendError {
    text: String,
    /// True if the address policy denied it; a retry would be denied, too.
    pub(super) is_denied: bool,
}

impl SendError {
    /// hyper returns a chain of errors; the last one is the cause.
    fn new(error: &legacy::Error) -> Self {
        let what = if error.is_connect() {
            "could not connect to the hook endpoint"
        } else {
            "the hook endpoint did not respond"
        };
        let mut text = what.to_owned();
        let mut is_denied = false;
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            is_denied |= error.is::<AddressDenied>();
            cause = error.source();
            if cause.is_none() {
                text = format!("{what}: {error}");
            }
        }
        Self { text, is_denied }
    }
}

/// Opens the connection below TLS or HTTP: to the endpoint, to a proxy, or a tunnel through one.
#[derive(Clone)]
struct ProxyConnector {
    proxies: Proxies,
    tcp: HttpConnector<Resolver>,
    to_proxy: HttpsConnector<HttpConnector<Resolver>>,
}

impl Service<Uri> for ProxyConnector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The connectors below are always ready, and created for each call.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut this = self.clone();
        Box::pin(async move {
            let Some(proxy) = this.proxies.for_uri(&uri) else {
                let io = MaybeHttpsStream::Http(this.tcp.call(uri).await?);
                let is_proxied = false;
                return Ok(Stream { io, is_proxied });
            };
            let address = proxy.uri().clone();
            if !matches!(address.scheme_str(), Some("http" | "https")) {
                let text = format!("the proxy {address} is not an HTTP proxy");
                return Err(io::Error::other(text).into());
            }
            let is_proxied = uri.scheme_str() != Some("https");
            let io = if is_proxied {
                this.to_proxy.call(address).await?
            } else {
                let mut tunnel = Tunnel::new(address, this.to_proxy);
                if let Some(authorization) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                tunnel.call(uri).await?
            };
            Ok(Stream { io, is_proxied })
        })
    }
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

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
