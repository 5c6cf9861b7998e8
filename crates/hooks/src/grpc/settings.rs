use std::{path::PathBuf, time::Duration};

/// Settings of [`Grpc`](super::Grpc).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GrpcSettings {
    /// The server: `host:port`, `dns:///host:port`, `passthrough:///host:port`, `http://host:port`,
    /// `https://host:port`, `unix:///path` or `unix:path`.
    /// The default port is 443 (80 for `http://`).
    pub target: String,
    /// Maximum attempts of a call that fails with `RESOURCE_EXHAUSTED` or `UNAVAILABLE` (3); 0 means 1.
    pub attempts: u32,
    /// The delay between two attempts (1 s).
    pub backoff: Duration,
    /// Timeout of a call, connecting included, and of the wait for a permit (60 s); `None` for
    /// none.
    pub timeout: Option<Duration>,
    /// Enables TLS (off; `https://` implies it).
    pub secure: bool,
    /// A PEM file with the CA certificates of the server, or its own certificate. TLS needs it.
    pub server_ca: Option<PathBuf>,
    /// A PEM file with the client certificate chain.
    pub client_certificate: Option<PathBuf>,
    /// A PEM file with the private key of [`client_certificate`](Self::client_certificate).
    pub client_key: Option<PathBuf>,
    /// Headers of the client's request whose first value is sent as metadata.
    pub forward_headers: Vec<String>,
    /// Maximum concurrent calls (64); 0 means 1.
    pub max_concurrency: usize,
}

impl GrpcSettings {
    /// Creates default settings for a server at `target`.
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
            max_concurrency: 64,
        }
    }
}

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrpcSettingsError {
    /// The [target](GrpcSettings::target) is invalid.
    #[error("invalid gRPC target {target:?}: {reason}")]
    Target {
        /// The target.
        target: String,
        /// The reason.
        reason: &'static str,
    },
    /// TLS is enabled without [`GrpcSettings::server_ca`].
    #[error(
        "gRPC over TLS needs a file with the CA certificates of the server \
         (for public CAs: /etc/ssl/certs/ca-certificates.crt)"
    )]
    NoServerCa,
    /// Only one of [`GrpcSettings::client_certificate`] and [`GrpcSettings::client_key`] is set.
    #[error("a client certificate for gRPC needs its key, and a key its certificate")]
    IncompleteIdentity,
    /// A file cannot be read or parsed.
    #[error("{what} in {}: {source}", file.display())]
    File {
        /// The expected content.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// The reason.
        #[source]
        source: landfall::BoxError,
    },
}
