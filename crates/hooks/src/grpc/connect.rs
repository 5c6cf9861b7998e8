//! Connections to the server: TCP or a UNIX socket, plain or TLS.

use std::{
    fmt::Display,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Authority};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use landfall::BoxError;
use landfall_net::ProxyConnector;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tower_service::Service;

use super::GrpcSettings;
use crate::SettingsError;

/// TLS included. A call may have a shorter timeout; the connection attempt then continues for the next call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;
/// Without acknowledgment, TCP then closes the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(super) struct Connector {
    pub(super) target: Arc<Target>,
    tcp: ProxyConnector<HttpConnector>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    pub(super) fn new(target: Target, settings: &GrpcSettings) -> Result<Self, SettingsError> {
        let mut tcp = landfall_net::tcp();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEP_ALIVE_PROBES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let to_proxy = landfall_net::system_certificates(false)
            .and_then(landfall_net::client_config)
            .map_err(|error| SettingsError(format!("TLS for gRPC: {error}")))?;
        let tcp = ProxyConnector::new(&to_proxy, settings.proxies.clone(), tcp);
        let tls = if target.secure {
            let name = ServerName::try_from(target.host().to_owned()).map_err(|_| {
                let reason = "the host is not a valid name for a certificate";
                invalid_target(&settings.target, reason)
            })?;
            Some((Arc::new(tls_config(settings)?).into(), name))
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
                    let socket = self.tcp.clone().call(self.target.tunneled()).await?;
                    self.secured(TokioIo::new(socket)).await
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

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection for Box<dyn Stream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

fn tls_config(settings: &GrpcSettings) -> Result<ClientConfig, SettingsError> {
    let file = settings.server_ca.as_deref();
    let file = file.ok_or_else(|| {
        SettingsError(
            "gRPC over TLS needs a file with the CA certificates of the server (for public CAs: \
             /etc/ssl/certs/ca-certificates.crt)"
                .into(),
        )
    })?;
    let config = landfall_net::pinning_client_config(certificates(file)?)
        .map_err(wrong(CERTIFICATES, file))?;
    let mut config = match (&settings.client_certificate, &settings.client_key) {
        (None, None) => config.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let shown = certificates(certificate)?;
            let read = PrivateKeyDer::from_pem_file(key).map_err(wrong("the private key", key))?;
            config
                .with_client_auth_cert(shown, read)
                .map_err(wrong("the private key", key))?
        }
        _ => {
            let text = "a client certificate for gRPC needs its key, and a key its certificate";
            return Err(SettingsError(text.into()));
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

const CERTIFICATES: &str = "the certificates";

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(wrong(CERTIFICATES, file))?
        .collect();
    let found = found.map_err(wrong(CERTIFICATES, file))?;
    if found.is_empty() {
        return Err(wrong(CERTIFICATES, file)("it contains none"));
    }
    Ok(found)
}

fn wrong<E: Display>(what: &str, file: &Path) -> impl FnOnce(E) -> SettingsError {
    move |error| SettingsError(format!("{what} in {}: {error}", file.display()))
}

fn invalid_target(target: &str, reason: &str) -> SettingsError {
    SettingsError(format!("invalid gRPC target {target:?}: {reason}"))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) secure: bool,
    /// `localhost` for a UNIX socket, as in gRPC.
    authority: Authority,
    socket: Option<PathBuf>,
}

impl Target {
    /// `secure` enables TLS unless the target has a scheme.
    pub(super) fn new(target: &str, secure: bool) -> Result<Self, SettingsError> {
        let invalid = |reason| invalid_target(target, reason);
        if let Some(rest) = target.strip_prefix("unix:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let absolute = path.starts_with('/') || rest == path;
            if path.is_empty() || !absolute {
                return Err(invalid("it must be unix:///path or unix:path"));
            }
            return Ok(Self {
                secure,
                authority: Authority::from_static("localhost"),
                socket: Some(path.into()),
            });
        }
        let (secure, port, rest) = if let Some(rest) = target.strip_prefix("http://") {
            if secure {
                return Err(invalid("http:// contradicts the TLS setting"));
            }
            (false, 80, rest.trim_end_matches('/'))
        } else if let Some(rest) = target.strip_prefix("https://") {
            (true, 443, rest.trim_end_matches('/'))
        } else {
            let names = ["dns:", "passthrough:"];
            let named = names.iter().find_map(|name| target.strip_prefix(name));
            let rest = match named {
                None => target,
                Some(rest) => match rest.strip_prefix("//") {
                    None => rest,
                    // A DNS server between the slashes is not supported.
                    Some(rest) => rest
                        .strip_prefix('/')
                        .ok_or_else(|| invalid("the host must come after three slashes"))?,
                },
            };
            (secure, 443, rest)
        };
        let authority: Authority = rest
            .parse()
            .map_err(|_| invalid("it must be host:port or unix:///path"))?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(invalid("it must be host:port or unix:///path"));
        }
        let authority = match authority.port() {
            Some(port) if port.as_str().parse() == Ok(port.as_u16()) => authority,
            Some(_) => return Err(invalid("the port must be a number up to 65535")),
            None if authority.as_str() == host => format!("{host}:{port}")
                .parse()
                .map_err(|_| invalid("it must be host:port"))?,
            None => return Err(invalid("the port must be a number up to 65535")),
        };
        Ok(Self {
            secure,
            authority,
            socket: None,
        })
    }

    pub(super) fn origin(&self) -> Uri {
        self.uri(if self.secure { "https" } else { "http" })
    }

    /// A proxy that reads requests cannot pass on gRPC.
    fn tunneled(&self) -> Uri {
        self.uri("https")
    }

    fn uri(&self, scheme: &str) -> Uri {
        Uri::builder()
            .scheme(scheme)
            .authority(self.authority.clone())
            .path_and_query("/")
            .build()
            .expect("a scheme, an authority and a path make a URI")
    }

    pub(super) fn host(&self) -> &str {
        let host = self.authority.host();
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        address.unwrap_or(host)
    }

    pub(super) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }
}

#[cfg(test)]
mod target_tests {
    use super::*;

    fn origin(target: &str, secure: bool) -> String {
        Target::new(target, secure).unwrap().origin().to_string()
    }

    #[test]
    fn parses_hosts_and_ports() {
        for target in [
            "hooks:8000",
            "dns:///hooks:8000",
            "dns:hooks:8000",
            "passthrough:///hooks:8000",
            "http://hooks:8000",
            "http://hooks:8000/",
        ] {
            assert_eq!(origin(target, false), "http://hooks:8000/", "{target}");
        }
        assert_eq!(origin("hooks:8000", true), "https://hooks:8000/");
        assert_eq!(origin("https://hooks:8000", false), "https://hooks:8000/");
        assert_eq!(origin("hooks", false), "http://hooks:443/");
        assert_eq!(origin("http://hooks", false), "http://hooks:80/");
        assert_eq!(origin("[::1]:50051", false), "http://[::1]:50051/");
        assert_eq!(Target::new("[::1]:1", true).unwrap().host(), "::1");
        assert_eq!(
            Target::new("127.0.0.1:1", true).unwrap().host(),
            "127.0.0.1"
        );
    }

    #[test]
    fn parses_unix_sockets() {
        for (target, path) in [
            ("unix:///run/hooks.sock", "/run/hooks.sock"),
            ("unix:/run/hooks.sock", "/run/hooks.sock"),
            ("unix:hooks.sock", "hooks.sock"),
        ] {
            let read = Target::new(target, false).unwrap();
            assert_eq!(read.socket(), Some(Path::new(path)), "{target}");
            assert_eq!(read.origin(), "http://localhost/");
        }
    }

    #[test]
    fn rejects_invalid_targets() {
        for target in [
            "",
            ":8000",
            "dns://8.8.8.8/hooks:8000",
            "hooks:port",
            "hooks:70000",
            "hooks:",
            "http://hooks:8000/path",
            "http://user@hooks:8000",
            "a b:1",
            "unix:",
            "unix://",
            "unix://run/hooks.sock",
            "ftp://hooks:1",
        ] {
            let error = Target::new(target, false).unwrap_err().to_string();
            assert!(error.contains(&format!("{target:?}")), "{error}");
        }
        assert!(Target::new("http://hooks:8000", true).is_err());
    }
}
