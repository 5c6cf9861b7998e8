//! The client and its settings.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use crate::{
    Capabilities, Download, Error, FingerprintStore, Grant, GrantRequest, RetryPolicy, Source,
    Status, Upload,
};

/// An error of a callback.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A client. Clones share connections, fingerprints and the limits learnt of each host.
#[derive(Debug, Clone)]
pub struct Client(Arc<()>);

/// The protocol of uploads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// tus if the server has it, else the IETF draft.
    #[default]
    Auto,
    /// tus 1.0.0.
    Tus,
    /// The IETF draft "Resumable Uploads for HTTP", the newest interop version that the server accepts.
    Draft,
}

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
#[derive(Debug, Default)]
pub struct ClientBuilder {}

impl Client {
    /// Creates a client with default settings.
    ///
    /// # Errors
    /// [`Error::Configuration`] if TLS cannot be set up.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Returns the settings of a new client.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Prepares an upload, which [`Upload::run`] starts. `endpoint` is the URL where uploads are created.
    #[must_use]
    pub fn upload(&self, endpoint: impl AsRef<str>, source: Source) -> Upload {
        let _ = (endpoint.as_ref(), source);
        todo!()
    }

    /// Prepares an upload by a grant: to its upload URL if it has one, else with its token.
    #[must_use]
    pub fn upload_granted(&self, grant: &Grant, source: Source) -> Upload {
        let _ = (grant, source);
        todo!()
    }

    /// Prepares a download to a file, which [`Download::run`] starts.
    #[must_use]
    pub fn download(&self, url: impl AsRef<str>, target: impl Into<PathBuf>) -> Download {
        let (_, _): (_, PathBuf) = (url.as_ref(), target.into());
        todo!()
    }

    /// Returns what a server supports (OPTIONS).
    ///
    /// # Errors
    /// [`Error::Rejected`] if the server rejects the request, [`Error::GaveUp`] if it cannot be reached.
    pub async fn options(&self, endpoint: impl AsRef<str>) -> Result<Capabilities, Error> {
        let _ = endpoint.as_ref();
        todo!()
    }

    /// Returns the state of an upload (HEAD).
    ///
    /// # Errors
    /// [`Error::Gone`] if there is no such upload.
    pub async fn inspect(&self, url: impl AsRef<str>) -> Result<Status, Error> {
        let _ = url.as_ref();
        todo!()
    }

    /// Removes an upload (DELETE; tus termination, cancellation of the draft). One that is gone is no error.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the server does not allow it.
    pub async fn terminate(&self, url: impl AsRef<str>) -> Result<(), Error> {
        let _ = url.as_ref();
        todo!()
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
        let _ = (jobs_url.as_ref(), request);
        todo!()
    }
}

impl ClientBuilder {
    /// Adds a header to each request to the host of the endpoint.
    #[must_use]
    pub fn header(self, name: HeaderName, value: HeaderValue) -> Self {
        let _ = (name, value);
        todo!()
    }

    /// Sets a callback that returns the value of `Authorization`.
    ///
    /// It is called before the first request with `None`, and with the rejected value when the server responds
    /// 401; its value is used until then.
    #[must_use]
    pub fn authentication<F, A>(self, callback: F) -> Self
    where
        F: Fn(Option<HeaderValue>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<HeaderValue, BoxError>> + Send + 'static,
    {
        let _ = callback;
        todo!()
    }

    /// Adds trusted certificates in PEM to those of the system.
    #[must_use]
    pub fn root_certificates(self, pem: impl Into<Vec<u8>>) -> Self {
        let _: Vec<u8> = pem.into();
        todo!()
    }

    /// Sets the version of HTTP.
    #[must_use]
    pub fn http_version(self, version: HttpVersion) -> Self {
        let _ = version;
        todo!()
    }

    /// Sets the protocol of uploads.
    #[must_use]
    pub fn protocol(self, protocol: Protocol) -> Self {
        let _ = protocol;
        todo!()
    }

    /// Sets when requests are repeated.
    #[must_use]
    pub fn retry(self, policy: RetryPolicy) -> Self {
        let _ = policy;
        todo!()
    }

    /// Sets the store of fingerprints, by which uploads resume after a restart of the program.
    #[must_use]
    pub fn fingerprints(self, store: impl FingerprintStore + 'static) -> Self {
        let _ = store;
        todo!()
    }

    /// Sets the longest time without any byte sent or received in a request, 30 seconds by default.
    #[must_use]
    pub fn idle_timeout(self, timeout: Duration) -> Self {
        let _ = timeout;
        todo!()
    }

    /// Sets the longest time to open a connection, 10 seconds by default.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        let _ = timeout;
        todo!()
    }

    /// Sends requests with this client, in place of one built from the settings of TLS, HTTP version and timeouts.
    ///
    /// A program that compiles reqwest with `http3` (which needs `--cfg reqwest_unstable`) can upload over HTTP/3.
    #[must_use]
    pub fn http_client(self, client: reqwest::Client) -> Self {
        let _ = client;
        todo!()
    }

    /// Creates the client.
    ///
    /// # Errors
    /// [`Error::Configuration`] if a certificate is invalid.
    pub fn build(self) -> Result<Client, Error> {
        todo!()
    }
}
