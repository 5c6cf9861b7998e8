//! Where the server is, and how to call it.

use std::{path::PathBuf, time::Duration};

/// Where the gRPC server is, and how to call it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GrpcSettings {
    /// `host:port`, also as `dns:///host:port`, `passthrough:///host:port`, `http://host:port` or
    /// `https://host:port`; or a UNIX socket as `unix:///path` or `unix:path`. Without a port it is
    /// 443 (80 after `http://`).
    pub target: String,
    /// How often a call is made in all while its code is `RESOURCE_EXHAUSTED` or `UNAVAILABLE` (3);
    /// 0 is 1.
    pub attempts: u32,
    /// The wait before it is made again (1 s).
    pub backoff: Duration,
    /// How long one call may take, its connection included, and how long it may wait for its turn
    /// (60 s); `None` is for ever.
    pub timeout: Option<Duration>,
    /// Whether to speak TLS (no; `https://` asks for it too).
    pub secure: bool,
    /// A PEM file with the certificates that the server's must come from, or with the server's
    /// itself. TLS needs it.
    pub server_ca: Option<PathBuf>,
    /// A PEM file with the certificate to show to the server, and those it comes from.
    pub client_certificate: Option<PathBuf>,
    /// A PEM file with the private key of [`client_certificate`](Self::client_certificate).
    pub client_key: Option<PathBuf>,
    /// Headers of the client's request whose first value becomes metadata of the call.
    pub forward_headers: Vec<String>,
    /// How many calls may be under way at once (64); 0 is 1.
    pub parallel: usize,
}

impl GrpcSettings {
    /// Those of a server at `target`, all else as the fields have it.
    #[must_use]
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            attempts: 3,
            backoff: Duration::from_secs(1),
            timeout: Some(Duration::from_secs(60)),
            secure: false,
            server_ca: None,
            client_certificate: None,
            client_key: None,
            forward_headers: Vec::new(),
            parallel: 64,
        }
    }
}

/// The settings make no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrpcSettingsError {
    /// See [`GrpcSettings::target`].
    #[error("the gRPC target {target:?} can't be one: {why}")]
    Target {
        /// The target.
        target: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no [`GrpcSettings::server_ca`].
    #[error(
        "gRPC over TLS needs a file with the certificate that the server's must come from \
         (for public ones: /etc/ssl/certs/ca-certificates.crt)"
    )]
    NoServerCa,
    /// There is one of [`GrpcSettings::client_certificate`] and [`GrpcSettings::client_key`].
    #[error("a client certificate for gRPC needs its key, and a key its certificate")]
    HalfIdentity,
    /// A file can't be read, or isn't what it should be.
    #[error("{what} in {}: {source}", file.display())]
    File {
        /// What should be in it.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: landfall::BoxError,
    },
}
