//! A client of HTTP that can violate the protocol, and that sees every head of the responses.
//!
//! Each check has a [`Client`] with its own [`Transcript`]. Uploads that appear in responses are recorded in
//! [`CreatedUploads`], whatever becomes of the check.

mod connection;
mod created;
mod http1;
mod http2;
#[cfg(feature = "http3")]
mod http3;
mod request;
mod response;
mod streams;
mod transcript;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::{Host, Url};

pub(crate) use self::connection::Connection;
pub(crate) use self::created::{CreatedUploads, INTEROP_VERSION};
use self::http1::{Http1, Stream};
pub(crate) use self::request::{Content, Request, chunk};
pub(crate) use self::response::Response;
use self::streams::Streams;
pub(crate) use self::transcript::Transcript;
use crate::options::HttpVersion;
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
    /// The response is not HTTP.
    #[error("malformed response: {0}")]
    Malformed(&'static str),
    /// The request of a check exists in HTTP/1.1 alone.
    #[error("needs HTTP/1.1: {0}")]
    NeedsHttp1(&'static str),
}

impl From<ClientError> for Finding {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect(_) | ClientError::Tls(_) => Self::Error(error.to_string()),
            ClientError::NeedsHttp1(_) => Self::Skipped(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

struct Shared {
    endpoint: Url,
    given: Vec<(String, String)>,
    timeout: Duration,
    tls: Option<TlsConnector>,
    version: HttpVersion,
    created: Arc<CreatedUploads>,
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
        version: HttpVersion,
    ) -> Result<Self, ClientError> {
        let shared = Shared {
            endpoint: endpoint.clone(),
            given,
            timeout,
            tls: tls_for(endpoint, version)?,
            version,
            created: Arc::default(),
            is_lost: AtomicBool::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
            transcript: Arc::default(),
            waits: false,
        })
    }

    /// Returns a client of another endpoint or version, with the same fields, list of uploads and transcript.
    pub(crate) fn of(&self, endpoint: &Url, version: HttpVersion) -> Result<Self, ClientError> {
        let shared = Shared {
            endpoint: endpoint.clone(),
            given: self.shared.given.clone(),
            timeout: self.shared.timeout,
            tls: tls_for(endpoint, version)?,
            version,
            created: Arc::clone(&self.shared.created),
            is_lost: AtomicBool::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
            transcript: Arc::clone(&self.transcript),
            waits: false,
        })
    }

    /// Returns a client of HTTP/2 if the server offers it: by ALPN, or without TLS by prior knowledge.
    pub(crate) async fn over_http2(&self, endpoint: &Url) -> Result<Option<Self>, ClientError> {
        let client = self.of(endpoint, HttpVersion::Http2)?;
        let is_offered = match endpoint.scheme() {
            "https" => self.selects_http2(endpoint).await.unwrap_or(false),
            _ => {
                let request = Request::new("OPTIONS", endpoint);
                client.send(&request).await.is_ok()
            }
        };
        Ok(is_offered.then_some(client))
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

    /// Records the end of a request: its response, with the uploads that the heads name, or the error.
    fn record_end(&self, request: Option<&Request>, result: &Result<Response, ClientError>) {
        match result {
            Ok(response) => {
                self.transcript.push(response.transcript());
                for head in response.interim.iter().chain([response]) {
                    request.inspect(|request| self.record(request, head));
                }
            }
            Err(error) => self.transcript.push(format!("< ({error})\n")),
        }
    }

    /// Records a head that is read before the end of its response.
    fn record_head(&self, request: Option<&Request>, head: &Response) {
        self.transcript.push(head.transcript());
        request.inspect(|request| self.record(request, head));
    }

    /// Records the upload that a response names.
    fn record(&self, request: &Request, response: &Response) {
        let is_created = matches!(response.status, 104 | 200..=299 | 400..=499);
        if let Some(url) = location(request, response).filter(|_| is_created) {
            self.shared.created.record(url, request);
        }
    }

    /// Opens a connection to the host of a URL.
    pub(crate) async fn connect(&self, url: &Url) -> Result<Connection, ClientError> {
        let connected = async {
            loop {
                match self.open(url).await {
                    Err(ClientError::Connect(_)) if self.waits => sleep(RETRY_DELAY).await,
                    other => return other,
                }
            }
        };
        let connected = timeout(self.shared.timeout, connected).await;
        connected.unwrap_or_else(|_| {
            self.shared.is_lost.store(self.waits, Ordering::Relaxed);
            Err(ClientError::Connect(io::ErrorKind::TimedOut.into()))
        })
    }

    /// Returns whether the server selects HTTP/2 if it is offered both versions.
    pub(crate) async fn selects_http2(&self, url: &Url) -> Result<bool, ClientError> {
        let tls = tls(&[HttpVersion::Http2, HttpVersion::Http1])?;
        let stream = timeout(self.shared.timeout, secure(&tls, url)).await;
        let stream = stream.map_err(|_| ClientError::Connect(io::ErrorKind::TimedOut.into()))?;
        let selected = stream?.get_ref().1.alpn_protocol() == Some(HttpVersion::Http2.alpn());
        Ok(selected)
    }

    async fn open(&self, url: &Url) -> Result<Connection, ClientError> {
        Ok(match self.shared.version {
            HttpVersion::Http1 => {
                let http1 = Http1::new(self.open_stream(url).await?);
                Connection::new(http1, self.clone())
            }
            HttpVersion::Http2 => {
                let opener = http2::connect(self.open_stream(url).await?).await?;
                Connection::new(Streams::new(opener), self.clone())
            }
            #[cfg(feature = "http3")]
            HttpVersion::Http3 => {
                let tls = self.shared.tls.as_ref().filter(|_| url.scheme() == "https");
                let tls = tls.ok_or_else(|| tls_error("HTTP/3 needs a URL with https"))?;
                let opener = http3::connect(url, tls.config()).await?;
                Connection::new(Streams::new(opener), self.clone())
            }
        })
    }

    async fn open_stream(&self, url: &Url) -> Result<Stream, ClientError> {
        match (&self.shared.tls, url.scheme()) {
            (Some(tls), "https") => Ok(Either::Right(secure(tls, url).await?)),
            (None, "https") => Err(tls_error("an upload with https below an http endpoint")),
            _ => Ok(Either::Left(open(url).await?)),
        }
    }

    /// Sends a request on a new connection.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, ClientError> {
        let mut connection = self.connect(&request.url).await?;
        connection.send(request).await
    }
}

/// Resolves the `Location` of a response.
fn location(request: &Request, response: &Response) -> Option<Url> {
    request.url.join(response.field("Location")?).ok()
}

async fn open(url: &Url) -> Result<TcpStream, ClientError> {
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = match url.host() {
        Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
        Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await,
        Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await,
        None => Err(io::Error::other("the URL has no host")),
    };
    let stream = stream.map_err(ClientError::Connect)?;
    // Pieces of a body must not wait for more.
    stream.set_nodelay(true).map_err(ClientError::Connect)?;
    Ok(stream)
}

async fn secure(tls: &TlsConnector, url: &Url) -> Result<TlsStream<TcpStream>, ClientError> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(tls_error)?;
    let connected = tls.connect(name, open(url).await?).await;
    connected.map_err(tls_error)
}

/// Returns the configuration of TLS for an endpoint; `None` without TLS.
fn tls_for(endpoint: &Url, version: HttpVersion) -> Result<Option<TlsConnector>, ClientError> {
    let is_secure = endpoint.scheme() == "https";
    is_secure.then(|| tls(&[version])).transpose()
}

fn tls_error(error: impl ToString) -> ClientError {
    ClientError::Tls(error.to_string())
}

fn stream_error(error: impl std::error::Error) -> ClientError {
    ClientError::Read(io::Error::other(error.to_string()))
}

/// Returns the configuration of TLS, which offers these versions of HTTP.
fn tls(versions: &[HttpVersion]) -> Result<TlsConnector, ClientError> {
    let mut config = landfall_net::system_certificates(true)
        .and_then(landfall_net::client_config)
        .map_err(tls_error)?;
    let names = versions.iter().map(|version| version.alpn().to_vec());
    config.alpn_protocols = names.collect();
    Ok(TlsConnector::from(Arc::new(config)))
}
