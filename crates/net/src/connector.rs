//! Connections: direct, or through a proxy.

use std::{
    error::Error,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{
        Connected, Connection, HttpConnector, dns::GaiResolver, proxy::Tunnel,
    },
    rt::TokioIo,
};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::Proxies;

/// Of a proxy, and of an endpoint unless its client sets another one. Clients limit whole requests.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Connects to `http` and `https` endpoints, with TLS for the latter.
pub type Connector<T = HttpConnector<GaiResolver>> = HttpsConnector<ProxyConnector<T>>;

/// Creates direct connections for [`connector`], with this crate's limits.
#[must_use]
pub fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp
}

/// Creates a connector whose connections come from `tcp`, or from a proxy.
///
/// The client must [authorize](Proxies::authorize) requests that a proxy reads.
pub fn connector<T>(tls: &ClientConfig, proxies: Proxies, tcp: T) -> Connector<T> {
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
    let builder = builder.https_or_http().enable_http1();
    builder.wrap_connector(ProxyConnector::new(tls, proxies, tcp))
}

/// Opens the connection below TLS or HTTP: to the endpoint, to a proxy, or a tunnel through one.
#[derive(Debug, Clone)]
pub struct ProxyConnector<T> {
    proxies: Proxies,
    direct: T,
    to_proxy: HttpsConnector<HttpConnector>,
}

impl<T> ProxyConnector<T> {
    /// Creates a connector. Direct connections come from `direct`, which must allow `https`; those to
    /// a proxy with `https` trust the certificates of `tls`.
    pub fn new(tls: &ClientConfig, proxies: Proxies, direct: T) -> Self {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
        Self {
            proxies,
            direct,
            to_proxy: builder.https_or_http().enable_http1().wrap_connector(tcp()),
        }
    }
}

impl<T> Service<Uri> for ProxyConnector<T>
where
    T: Service<Uri, Response = TokioIo<TcpStream>> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<BoxError>,
{
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<Stream>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.for_uri(&uri) else {
            let opened = self.direct.call(uri);
            return Box::pin(async {
                let io = MaybeHttpsStream::Http(opened.await.map_err(Into::into)?);
                let is_proxied = false;
                Ok(Stream { io, is_proxied })
            });
        };
        let (address, mut to_proxy) = (proxy.uri().clone(), self.to_proxy.clone());
        Box::pin(async move {
            let failed = |error: BoxError| -> BoxError {
                format!("the proxy {address}: {}", last_cause(&*error)).into()
            };
            let is_proxied = uri.scheme_str() != Some("https");
            let io = if is_proxied {
                to_proxy.call(address.clone()).await.map_err(failed)?
            } else {
                let mut tunnel = Tunnel::new(address.clone(), to_proxy);
                if let Some(authorization) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                let opened = tunnel.call(uri).await;
                opened.map_err(|error| failed(error.into()))?
            };
            Ok(Stream { io, is_proxied })
        })
    }
}

/// The last cause, such as "connection refused".
pub(super) fn last_cause<'a>(mut error: &'a (dyn Error + 'static)) -> &'a dyn Error {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// A connection to an endpoint or a proxy.
#[derive(Debug)]
pub struct Stream {
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
