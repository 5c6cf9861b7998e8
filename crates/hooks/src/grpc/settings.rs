//! Options of gRPC hooks.
//!
//! Plain values: `connect` parses the target and reads the certificate files.

use std::{path::PathBuf, time::Duration};

use landfall_net::Proxies;

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
    /// The proxies; from the environment by default. As in other gRPC clients, it is always the one
    /// for `https`, which tunnels the connection.
    pub proxies: Proxies,
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
            proxies: Proxies::from_env(),
        }
    }
}
