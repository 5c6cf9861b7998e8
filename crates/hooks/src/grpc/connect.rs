//! Connections to the server: TCP or a UNIX socket, plain or TLS.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use landfall::BoxError;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tower_service::Service;

use super::{GrpcSettings, GrpcSettingsError, Target, tls};

/// TLS included. A call may have a shorter timeout; the connection attempt then continues for the next call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;
/// Without acknowledgment, TCP then closes the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(super) struct Connector {
    target: Arc<Target>,
    tcp: HttpConnector,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    pub(super) fn new(target: Target, settings: &GrpcSettings) -> Result<Self, GrpcSettingsError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEP_ALIVE_PROBES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let tls = if target.secure {
            let name = ServerName::try_from(target.host().to_owned()).map_err(|_| {
                GrpcSettingsError::Target {
                    target: settings.target.clone(),
                    reason: "the host is not a valid name for a certificate",
                }
            })?;
            Some((Arc::new(tls::config(settings)?).into(), name))
        } else {
            if settings.server_ca.is_some() || settings.client_certificate.is_some() {
                tracing::warn!("certificates for gRPC hooks are ignored: TLS is not enabled");
            }
            None
        };
        Ok(Self {
            target: Arc::new(target),
            tcp,
            tls,
        })
    }

    pub(super) async fn open(&self) -> Result<Box<dyn Stream>, BoxError> {
        let opened = time::timeout(CONNECT_TIMEOUT, async {
            match self.target.socket() {
                Some(path) => self.secured(UnixStream::connect(path).await?).await,
                None => {
                    let socket = self.tcp.clone().call(self.target.origin()).await?;
                    self.secured(socket.into_inner()).await
                }
            }
        });
        match opened.await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    async fn secured<S: Stream + 'static>(&self, plain: S) -> Result<Box<dyn Stream>, BoxError> {
        Ok(match &self.tls {
            None => Box::new(plain),
            Some((tls, name)) => Box::new(tls.connect(name.clone(), plain).await?),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.open().await.map(TokioIo::new) })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection for Box<dyn Stream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
