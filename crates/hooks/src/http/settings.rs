//! What an operator decides about the HTTP transport.

use std::{fmt, time::Duration};

use ipnet::IpNet;

use super::{Proxies, Secret};
use crate::format::Format;

/// Where messages go, and how.
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// The endpoint, `http://…` or `https://…`; it may be at a private address. A user and a password
    /// in it become Basic authorization.
    pub url: String,
    /// How messages are written and answers are understood; see [`Http`](super::Http).
    pub format: Format,
    /// Names of headers of the client's request that are sent along, in any case.
    pub forward_headers: Vec<String>,
    /// How often a question is put if the endpoint can't be reached or answers with 5xx; at least
    /// once.
    pub attempts: u32,
    /// The wait between two attempts.
    pub backoff: Duration,
    /// The limit on all attempts and waits together; longer than 0.
    pub timeout: Duration,
    /// The most bytes of an answer that are read; [`Format::V1`] knows no limit, there 1 MiB counts.
    pub size_limit: usize,
    /// Whether any TLS certificate of the endpoint will do. For tests.
    pub skip_verify: bool,
    /// With which requests are signed; several while one takes the place of another.
    pub secrets: Vec<Secret>,
    /// Whether redirects are followed, at most ten.
    pub follow_redirects: bool,
    /// Networks that redirects may lead to, besides public addresses and the endpoint's own.
    pub allow: Vec<IpNet>,
    /// The most calls at a time; others wait.
    pub parallel: usize,
    /// The status with which a receiver of `post-receive` stops the upload, as tusd 1 had it; not in
    /// [`Format::V2`].
    pub stop_code: Option<u16>,
    /// The way out; that of the environment by default.
    pub proxies: Proxies,
}

impl HttpSettings {
    /// tusd's usual values.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
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
            allow: Vec::new(),
            parallel: 64,
            stop_code: None,
            proxies: Proxies::from_env(),
        }
    }
}

/// Leaves the URL out, which may hold a password.
impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings")
            .field("format", &self.format)
            .field("forward_headers", &self.forward_headers)
            .field("attempts", &self.attempts)
            .field("backoff", &self.backoff)
            .field("timeout", &self.timeout)
            .field("size_limit", &self.size_limit)
            .field("skip_verify", &self.skip_verify)
            .field("secrets", &self.secrets.len())
            .field("follow_redirects", &self.follow_redirects)
            .field("allow", &self.allow)
            .field("parallel", &self.parallel)
            .field("stop_code", &self.stop_code)
            .field("proxies", &self.proxies)
            .finish_non_exhaustive()
    }
}

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpSettingsError {
    /// The endpoint's URL. It isn't repeated, since it may hold a password.
    #[error("the URL of HTTP hooks can't be used: {0}")]
    Url(String),
    /// A header to forward has a name that no header can have.
    #[error("no header to forward can have the name {0:?}")]
    Header(String),
    /// A number or time that must not be zero.
    #[error("{0} of HTTP hooks must be more than 0")]
    Zero(&'static str),
    /// The system's root certificates, or a proxy's.
    #[error("TLS for HTTP hooks can't be set up: {0}")]
    Tls(#[source] std::io::Error),
}
