//! The client and its settings.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::AsyncWrite;

use crate::{
    BoxError, Capabilities, Download, Error, FingerprintStore, Grant, GrantRequest, Protocol,
    RetryPolicy, ServerUrls, Source, Status, Upload,
    discovery::discover,
    download::Target,
    grant,
    hosts::Hosts,
    http::{Authentication, Session, tls_config},
    rate_limit::RateLimiter,
    shared::{Shared, capabilities, parse_url},
    upload::Dialect,
};

const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client. Clones share connections, fingerprints and the limits learnt of each host.
#[derive(Debug, Clone)]
pub struct Client(pub(crate) Arc<Shared>);

/// The version of HTTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/2 if the server chooses it over TLS (ALPN), else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without negotiation.
    Http2,
}

/// The settings of a [`Client`].
#[derive(Default)]
#[must_use]
pub struct ClientBuilder {
    headers: HeaderMap,
    authentication: Option<Authentication>,
    root_certificates: Vec<Vec<u8>>,
    http_version: HttpVersion,
    protocol: Protocol,
    retry: RetryPolicy,
    fingerprints: Option<Arc<dyn FingerprintStore>>,
    forgets_finished: bool,
    idle_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    http_client: Option<reqwest::Client>,
    rate_limit: Option<u64>,
    accepts_invalid_certificates: bool,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may have secrets.
        f.debug_struct("ClientBuilder")
            .field("http_version", &self.http_version)
            .field("protocol", &self.protocol)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client with default settings.
    ///
    /// # Errors
    /// [`Error::Configuration`] if TLS cannot be set up.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Returns the settings of a new client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Prepares an upload, which [`Upload::run`] starts. `endpoint` is the URL where uploads are created.
    pub fn upload(&self, endpoint: impl AsRef<str>, source: Source) -> Upload {
        Upload::new(self.0.clone(), endpoint.as_ref(), source)
    }

    /// Prepares an upload by a grant: to its upload URL if it has one, else with its token.
    pub fn upload_granted(&self, grant: &Grant, source: Source) -> Upload {
        let upload = self.upload(&grant.location, source);
        match (&grant.upload_url, &grant.upload_token) {
            (Some(url), _) => upload.url(url),
            (None, Some(token)) => upload.token(token),
            (None, None) => upload,
        }
    }

    /// Prepares a download to a file, which [`Download::run`] starts.
    pub fn download(&self, url: impl AsRef<str>, target: impl Into<PathBuf>) -> Download {
        Download::new(self.0.clone(), url.as_ref(), Target::File(target.into()))
    }

    /// Prepares a download to a writer, which receives the bytes in order and once.
    pub fn download_to(
        &self,
        url: impl AsRef<str>,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Download {
        Download::new(
            self.0.clone(),
            url.as_ref(),
            Target::Writer(Box::new(writer)),
        )
    }

    /// Returns the features of a server (OPTIONS).
    ///
    /// # Errors
    /// [`Error::Rejected`] if the server rejects the request, [`Error::GaveUp`] if it cannot be reached.
    pub async fn options(&self, endpoint: impl AsRef<str>) -> Result<Capabilities, Error> {
        let endpoint = parse_url(endpoint.as_ref())?;
        let session = self.0.session_of_call(&endpoint);
        let backoff = self.0.backoff();
        session
            .retried(backoff, || capabilities(&session, &endpoint))
            .await
    }

    /// Returns the state of an upload (HEAD).
    ///
    /// # Errors
    /// [`Error::Gone`] if there is no such upload.
    pub async fn inspect(&self, url: impl AsRef<str>) -> Result<Status, Error> {
        let url = parse_url(url.as_ref())?;
        let session = self.0.session_of_call(&url);
        let inspect = |dialect: Dialect| dialect.inspect(&session, url.clone());
        self.in_dialects(&session, inspect).await
    }

    /// Removes an upload (DELETE; tus termination, cancellation of the draft). One that is gone is no error.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the server does not allow it.
    pub async fn terminate(&self, url: impl AsRef<str>) -> Result<(), Error> {
        let url = parse_url(url.as_ref())?;
        let session = self.0.session_of_call(&url);
        let terminate = |dialect: Dialect| dialect.terminate(&session, url.clone());
        match self.in_dialects(&session, terminate).await {
            Err(Error::Gone(_)) => Ok(()),
            other => other,
        }
    }

    /// Returns the URLs that the upload page of a Landfall server names; `None` if there is no such page at the URL.
    ///
    /// # Errors
    /// [`Error::GaveUp`] if the server cannot be reached.
    pub async fn discover(&self, page: impl AsRef<str>) -> Result<Option<ServerUrls>, Error> {
        let page = parse_url(page.as_ref())?;
        let session = self.0.session_of_call(&page);
        session
            .retried(self.0.backoff(), || discover(&session, &page))
            .await
    }

    /// Requests a grant at the URL of `/uploadjobs`.
    ///
    /// # Errors
    /// [`Error::Rejected`] with the problem if the grant is denied.
    pub async fn grant(
        &self,
        jobs_url: impl AsRef<str>,
        request: &GrantRequest,
    ) -> Result<Grant, Error> {
        let url = parse_url(jobs_url.as_ref())?;
        let session = self.0.session_of_call(&url);
        session
            .retried(self.0.backoff(), || grant::request(&session, &url, request))
            .await
    }

    /// Makes a call by the protocol of the client, or by each until one is not rejected.
    async fn in_dialects<T, F: Future<Output = Result<T, Error>>>(
        &self,
        session: &Session,
        call: impl Fn(Dialect) -> F,
    ) -> Result<T, Error> {
        let first = match self.0.protocol {
            Protocol::Draft => Dialect::newest(),
            Protocol::Auto | Protocol::Tus => Dialect::Tus,
        };
        match session.retried(self.0.backoff(), || call(first)).await {
            Err(Error::Rejected(_) | Error::Protocol(_) | Error::Gone(_))
                if self.0.protocol == Protocol::Auto =>
            {
                let call = || call(Dialect::newest());
                session.retried(self.0.backoff(), call).await
            }
            other => other,
        }
    }
}

impl ClientBuilder {
    /// Adds a header to each request to the host of the endpoint.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets a callback that returns the value of `Authorization`.
    ///
    /// It is called before the first request with `None`, and with the rejected value when the server responds
    /// 401; its value is used until then. It is sent to the host of the endpoint alone.
    pub fn authentication<F, A>(mut self, callback: F) -> Self
    where
        F: Fn(Option<HeaderValue>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<HeaderValue, BoxError>> + Send + 'static,
    {
        let callback = Arc::new(move |rejected| {
            let value: futures_util::future::BoxFuture<'static, _> = Box::pin(callback(rejected));
            value
        });
        self.authentication = Some(Authentication::new(callback));
        self
    }

    /// Adds trusted certificates in PEM to those of the system.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates.push(pem.into());
        self
    }

    /// Sets the version of HTTP.
    pub fn http_version(mut self, version: HttpVersion) -> Self {
        self.http_version = version;
        self
    }

    /// Sets the protocol of uploads.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets when requests are repeated.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets the store of fingerprints: uploads of files then resume after a restart of the program.
    ///
    /// Uploads to tus servers and those of the IETF draft are remembered for a month when they are complete: another
    /// upload of the same unchanged file asks the server for the upload, and sends nothing if it is there.
    pub fn fingerprints(mut self, store: impl FingerprintStore + 'static) -> Self {
        self.fingerprints = Some(Arc::new(store));
        self
    }

    /// Removes the record of an upload when it is complete: the next upload of the same file sends it again.
    pub fn forget_finished(mut self) -> Self {
        self.forgets_finished = true;
        self
    }

    /// Sets the longest time without any byte sent or received in a request, 30 seconds by default.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Sets the longest time to open a connection, 10 seconds by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Limits the rate of all transfers of the client together, in bytes per second.
    pub fn rate_limit(mut self, bytes_per_second: u64) -> Self {
        self.rate_limit = Some(bytes_per_second);
        self
    }

    /// Sets whether certificates of servers are not verified: anyone in the network can then read and change what is
    /// sent. False by default.
    pub fn accept_invalid_certificates(mut self, accept: bool) -> Self {
        self.accepts_invalid_certificates = accept;
        self
    }

    /// Sends requests with this client, in place of one built from the settings of TLS, HTTP version and timeouts.
    ///
    /// It should follow no redirects. A program that compiles reqwest with `http3` (which needs
    /// `--cfg reqwest_unstable`) can upload over HTTP/3.
    pub fn http_client(mut self, client: reqwest::Client) -> Self {
        self.http_client = Some(client);
        self
    }

    /// Creates the client.
    ///
    /// # Errors
    /// [`Error::Configuration`] if a certificate is invalid.
    pub fn build(self) -> Result<Client, Error> {
        let http = match self.http_client {
            Some(client) => client,
            None => {
                let accepts_invalid = self.accepts_invalid_certificates;
                let mut tls = tls_config(&self.root_certificates, accepts_invalid)?;
                if self.http_version == HttpVersion::Http2 {
                    tls.alpn_protocols = vec![b"h2".to_vec()];
                }
                let builder = reqwest::Client::builder()
                    .tls_backend_preconfigured(tls)
                    .redirect(reqwest::redirect::Policy::none())
                    .connect_timeout(self.connect_timeout.unwrap_or(CONNECT_TIMEOUT));
                let builder = match self.http_version {
                    HttpVersion::Auto => builder,
                    HttpVersion::Http1 => builder.http1_only(),
                    HttpVersion::Http2 => builder.http2_prior_knowledge(),
                };
                let built = builder.build();
                built.map_err(|error| Error::Configuration(error.to_string()))?
            }
        };
        Ok(Client(Arc::new(Shared {
            http,
            idle_timeout: self.idle_timeout.unwrap_or(IDLE_TIMEOUT),
            authentication: self.authentication.map(Arc::new),
            headers: self.headers,
            retry: self.retry,
            protocol: self.protocol,
            fingerprints: self.fingerprints,
            forgets_finished: self.forgets_finished,
            hosts: Hosts::default(),
            limiter: self.rate_limit.map(RateLimiter::new).map(Arc::new),
        })))
    }
}
