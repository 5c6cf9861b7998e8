//! An HTTP/1.1 client that can violate the protocol, and that sees every byte of the responses.
//!
//! Each check has a [`Client`] with its own [`Transcript`]. Uploads that appear in responses are recorded in
//! [`CreatedUploads`], whatever becomes of the check.

mod connection;
mod created;
mod request;
mod response;
mod transcript;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use url::{Host, Url};

pub(crate) use self::connection::Connection;
pub(crate) use self::created::{CreatedUploads, INTEROP_VERSION};
pub(crate) use self::request::{Content, Request, chunk};
pub(crate) use self::response::Response;
pub(crate) use self::transcript::Transcript;
use crate::requirement::Finding;

/// Between attempts to reach a server that may be restarting.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// A reason why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection cannot be established.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The TLS handshake fails, or there are no root certificates.
    #[error("the TLS handshake fails: {0}")]
    Tls(String),
    /// The server does not act in time.
    #[error("the server takes too long {0}")]
    Timeout(&'static str),
    /// The request cannot be sent.
    #[error("cannot send: {0}")]
    Write(io::Error),
    /// The response cannot be read.
    #[error("cannot read the response: {0}")]
    Read(io::Error),
    /// The connection ended before the response.
    #[error("the server closed the connection without a complete response")]
    Closed,
    /// The response is not HTTP/1.1.
    #[error("malformed response: {0}")]
    Malformed(&'static str),
}

impl From<ClientError> for Finding {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect(_) | ClientError::Tls(_) => Self::Error(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

struct Shared {
    endpoint: Url,
    given: Vec<(String, String)>,
    timeout: Duration,
    tls: Option<TlsConnector>,
    created: CreatedUploads,
    /// The server was there, and could not be reached again.
    is_lost: AtomicBool,
}

/// A client for the requests of one check. Clones share the transcript.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
    transcript: Arc<Transcript>,
    /// Waits for a server that restarts.
    waits: bool,
}

impl Client {
    /// `given` are the fields of `--header`. Root certificates are loaded if the scheme is `https`.
    pub(crate) fn new(
        endpoint: &Url,
        given: Vec<(String, String)>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let tls = (endpoint.scheme() == "https").then(tls).transpose()?;
        Ok(Self {
            shared: Arc::new(Shared {
                endpoint: endpoint.clone(),
                given,
                timeout,
                tls,
                created: CreatedUploads::default(),
                is_lost: AtomicBool::new(false),
            }),
            transcript: Arc::default(),
            waits: false,
        })
    }

    /// Returns a client with an empty transcript, which waits for the server if it restarts.
    pub(crate) fn fresh(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            transcript: Arc::default(),
            waits: true,
        }
    }

    /// Returns whether a check could not reach the server within the timeout.
    pub(crate) fn has_lost_server(&self) -> bool {
        self.shared.is_lost.load(Ordering::Relaxed)
    }

    pub(crate) fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Returns the uploads that the clients of this run have created.
    pub(crate) fn created(&self) -> &CreatedUploads {
        &self.shared.created
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    /// Another host must not receive the credentials.
    fn given_fields(&self, url: &Url) -> &[(String, String)] {
        match url.host() == self.shared.endpoint.host() {
            true => &self.shared.given,
            false => &[],
        }
    }

    /// Records the upload that a response names.
    fn record(&self, request: &Request, response: &Response) {
        let is_created = matches!(response.status, 104 | 200..=299 | 400..=499);
        if let Some(url) = connection::location(request, response).filter(|_| is_created) {
            self.shared.created.record(url, request);
        }
    }

    /// Opens a connection to the host of a URL.
    pub(crate) async fn connect(&self, url: &Url) -> Result<Connection, ClientError> {
        let stream = async {
            let stream = loop {
                match open(url).await {
                    Ok(stream) => break stream,
                    Err(_) if self.waits => sleep(RETRY_DELAY).await,
                    Err(error) => return Err(ClientError::Connect(error)),
                }
            };
            match (&self.shared.tls, url.scheme()) {
                (Some(tls), "https") => {
                    let host = url.host_str().unwrap_or_default();
                    let host = host.trim_matches(['[', ']']).to_owned();
                    let name = ServerName::try_from(host).map_err(tls_error)?;
                    let stream = tls.connect(name, stream).await.map_err(tls_error)?;
                    Ok(Either::Right(stream))
                }
                (None, "https") => Err(tls_error("an upload with https below an http endpoint")),
                _ => Ok(Either::Left(stream)),
            }
        };
        let stream = timeout(self.shared.timeout, stream).await;
        let stream = stream.unwrap_or_else(|_| {
            self.shared.is_lost.store(self.waits, Ordering::Relaxed);
            Err(ClientError::Connect(io::ErrorKind::TimedOut.into()))
        })?;
        Ok(Connection::new(stream, self.clone()))
    }

    /// Sends a request on a new connection.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, ClientError> {
        let mut connection = self.connect(&request.url).await?;
        connection.send(request).await
    }
}

async fn open(url: &Url) -> io::Result<TcpStream> {
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = match url.host() {
        Some(Host::Domain(name)) => TcpStream::connect((name, port)).await?,
        Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await?,
        Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await?,
        None => return Err(io::Error::other("the URL has no host")),
    };
    // Pieces of a body must not wait for more.
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn tls_error(error: impl ToString) -> ClientError {
    ClientError::Tls(error.to_string())
}

fn tls() -> Result<TlsConnector, ClientError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(tls_error("this machine has no root certificates"));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(tls_error)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
