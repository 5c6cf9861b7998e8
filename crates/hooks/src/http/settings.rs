//! Settings of HTTP hooks.

use std::time::Duration;

use ipnet::IpNet;

use super::{Proxies, Secret};
use crate::{SecretUrl, format::Format};

/// Settings of [`Http`](super::Http).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// The endpoint URL, `http://…` or `https://…`; private addresses are allowed.
    ///
    /// A user and password in it become Basic authentication.
    pub url: SecretUrl,
    /// The format of messages and responses; see [`Http`](super::Http).
    pub format: Format,
    /// Headers of the client's request to forward, in any spelling.
    pub forward_headers: Vec<String>,
    /// Maximum attempts for a blocking hook after a connection error or 5xx response; at least 1.
    pub attempts: u32,
    /// The delay between two attempts.
    pub backoff: Duration,
    /// Timeout for all attempts and delays together; greater than 0.
    pub timeout: Duration,
    /// Maximum response size in bytes. [`Format::V1`] has a fixed limit of 1 MiB.
    pub size_limit: usize,
    /// Accepts any TLS certificate of the endpoint. For tests.
    pub skip_verify: bool,
    /// Secrets for signing; several while one replaces another.
    pub secrets: Vec<Secret>,
    /// Follows redirects, at most ten.
    pub follow_redirects: bool,
    /// Networks that redirects may lead to, in addition to public addresses and the endpoint.
    pub redirect_allow: Vec<IpNet>,
    /// Maximum concurrent calls; others wait.
    pub max_concurrency: usize,
    /// The response status to `post-receive` that stops the upload, as in tusd 1.
    ///
    /// Ignored with [`Format::V2`].
    pub stop_code: Option<u16>,
    /// The proxies; from the environment by default.
    pub proxies: Proxies,
}

impl HttpSettings {
    /// Creates settings with tusd's defaults.
    #[must_use]
    pub fn new(url: impl Into<SecretUrl>) -> Self {
        Self {
            url: url.into(),
            format: Format::default(),
            forward_headers: Vec::new(),
            attempts: 3,
            backoff: Duration::from_secs(1),
            timeout: Duration::from_secs(15),
            size_limit: 5120,
            skip_verify: false,
            secrets: Vec::new(),
            follow_redirects: false,
            redirect_allow: Vec::new(),
            max_concurrency: 64,
            stop_code: None,
            proxies: Proxies::from_env(),
        }
    }
}

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpSettingsError {
    /// The endpoint URL is invalid. It is not repeated, because it may contain a password.
    #[error("invalid URL of HTTP hooks: {0}")]
    Url(String),
    /// A header to forward has an invalid name.
    #[error("invalid name of a header to forward: {0:?}")]
    Header(String),
    /// A number or duration is zero.
    #[error("{0} of HTTP hooks must be greater than 0")]
    Zero(&'static str),
    /// TLS cannot be configured, for example without root certificates.
    #[error("failed to configure TLS for HTTP hooks: {0}")]
    Tls(#[source] std::io::Error),
}
