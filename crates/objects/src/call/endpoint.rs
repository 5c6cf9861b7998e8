//! The URL of a service in its parts. It knows no bucket.

use http::{Uri, uri::Scheme};

/// The URL of a service, or of something below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// HTTPS.
    pub secure: bool,
    /// Host in lower case, and the port unless it is the scheme's.
    pub host: String,
    /// Path, as it was given.
    pub path: String,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// The problem, as the end of a sentence about the URL.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("must begin with http:// or https://"),
        };
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("must not contain credentials; configure them separately");
        }
        if uri.query().is_some() || url.contains('#') {
            return Err("must not have a query or a fragment");
        }
        let default = if secure { 443 } else { 80 };
        let host = authority.host().to_ascii_lowercase();
        let host = match authority.port_u16() {
            Some(port) if port != default => format!("{host}:{port}"),
            _ => host,
        };
        let path = uri.path().to_owned();
        Ok(Self { secure, host, path })
    }

    /// Returns the URL with a query, which may be empty.
    pub fn url(&self, query: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{scheme}://{}{}{mark}{query}", self.host, self.path)
    }
}

/// Returns whether a host, perhaps with a port, is an IP address.
pub fn is_address(host: &str) -> bool {
    use std::net::{IpAddr, SocketAddr};
    host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}
