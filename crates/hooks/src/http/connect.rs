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
    guard::{Guard, NotAllowed, Resolver},
};

/// Connections that nobody used for this long are closed.
const IDLE: Duration = Duration::from_secs(30);

/// How often an HTTP/2 connection on which an answer is awaited is asked whether it is alive, and how
/// long it may take to say so.
const PING: Duration = Duration::from_secs(5);

type Connections = legacy::Client<HttpsConnector<Way>, Full<Bytes>>;

/// Sends requests over connections that are kept for the next.
pub(super) struct Client {
    connector: HttpsConnector<Way>,
    idle: usize,
    by_runtime: PerRuntime<Connections>,
}

impl Client {
    /// With a guard it only connects to addresses that the guard admits. Keeps at most `idle`
    /// connections per host and runtime.
    pub(super) fn new(
        tls: &ClientConfig,
        proxies: Proxies,
        guard: Option<Guard>,
        idle: usize,
    ) -> Self {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
        let to_proxy = builder
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp(Resolver::new(None)));
        let way = Way {
            proxies,
            tcp: tcp(Resolver::new(guard)),
            to_proxy,
        };
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
        let connector = builder
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(way);
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
                // As Go writes them; some receivers look for `Hook-Name` and nothing else.
                .http1_title_case_headers(true)
                .http2_keep_alive_interval(PING)
                .http2_keep_alive_timeout(PING)
                .build(self.connector.clone())
        })
    }

    /// Sends a request and returns the head of the answer.
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

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct SendError {
    text: String,
    /// Whether it was a guard that said no: then it will again.
    pub(super) is_forbidden: bool,
}

impl SendError {
    /// hyper tells in a chain of errors; the last one is what happened.
    fn new(error: &legacy::Error) -> Self {
        let what = if error.is_connect() {
            "could not connect to the hook endpoint"
        } else {
            "the hook endpoint did not answer"
        };
        let mut text = what.to_owned();
        let mut is_forbidden = false;
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            is_forbidden |= error.is::<NotAllowed>();
            cause = error.source();
            if cause.is_none() {
                text = format!("{what}: {error}");
            }
        }
        Self { text, is_forbidden }
    }
}

/// Opens what TLS (or HTTP) is then spoken over: a connection to the endpoint, one to a proxy, or a
/// tunnel through one.
#[derive(Clone)]
struct Way {
    proxies: Proxies,
    tcp: HttpConnector<Resolver>,
    to_proxy: HttpsConnector<HttpConnector<Resolver>>,
}

impl Service<Uri> for Way {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each connector below is ready by nature and made anew for each call.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.of(&uri) else {
            let connecting = self.tcp.call(uri);
            return Box::pin(async move {
                Ok(Stream {
                    io: MaybeHttpsStream::Http(connecting.await?),
                    is_proxied: false,
                })
            });
        };
        let address = proxy.uri().clone();
        if !matches!(address.scheme_str(), Some("http" | "https")) {
            let text = format!("the proxy {address} is none for HTTP");
            return Box::pin(async move { Err(io::Error::other(text).into()) });
        }
        if uri.scheme_str() == Some("https") {
            let mut tunnel = Tunnel::new(address, self.to_proxy.clone());
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            let connecting = tunnel.call(uri);
            return Box::pin(async move {
                Ok(Stream {
                    io: connecting.await?,
                    is_proxied: false,
                })
            });
        }
        let connecting = self.to_proxy.call(address);
        Box::pin(async move {
            Ok(Stream {
                io: connecting.await?,
                is_proxied: true,
            })
        })
    }
}

/// An open connection.
struct Stream {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether requests on it must name the endpoint, because a proxy reads them.
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
