//! HTTP proxies, by the same environment variables as Go programs.

use std::{env, net::IpAddr, sync::Arc};

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

/// The proxies for requests. Those to `localhost` and loopback addresses use none.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Option<Arc<Matcher>>);

impl Proxies {
    /// Uses no proxy.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Sets the proxies for `http` and `https` endpoints, and the hosts that use none.
    ///
    /// A proxy is `host:port` or a URL, with or without user and password; empty for none.
    /// `no_proxy` is a comma-separated list of domain names, which include subdomains, addresses
    /// and networks.
    #[must_use]
    pub fn new(http: &str, https: &str, no_proxy: &str) -> Self {
        if http.is_empty() && https.is_empty() {
            return Self::none();
        }
        let builder = Matcher::builder();
        let matcher = builder
            .http(http.to_owned())
            .https(https.to_owned())
            .no(no_proxy.to_owned());
        Self(Some(Arc::new(matcher.build())))
    }

    /// Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in upper or lower case.
    #[must_use]
    pub fn from_env() -> Self {
        let first = |names: [&str; 2]| {
            let values = names.into_iter().filter_map(|name| env::var(name).ok());
            let mut values = values.filter(|value| !value.is_empty());
            values.next().unwrap_or_default()
        };
        Self::new(
            &first(["HTTP_PROXY", "http_proxy"]),
            &first(["HTTPS_PROXY", "https_proxy"]),
            &first(["NO_PROXY", "no_proxy"]),
        )
    }

    pub(super) fn for_uri(&self, uri: &Uri) -> Option<Intercept> {
        let host = uri.host()?.trim_matches(['[', ']']);
        let is_here = host.eq_ignore_ascii_case("localhost")
            || host
                .parse()
                .is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
        let matcher = self.0.as_ref().filter(|_| !is_here)?;
        matcher.intercept(uri)
    }

    /// Returns the proxy's credentials for a request without a tunnel.
    pub(super) fn authorization(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        self.for_uri(uri)?.basic_auth().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_depends_on_scheme_and_host() {
        let proxies = Proxies::new(
            "proxy:3128",
            "http://u:p@secure:8080",
            "example.org, 10.0.0.0/8",
        );
        let proxy_for = |uri: &'static str| {
            let proxy = proxies.for_uri(&Uri::from_static(uri));
            proxy.map(|proxy| proxy.uri().to_string())
        };
        let plain = Some("http://proxy:3128/".to_owned());
        assert_eq!(proxy_for("http://app.example.com/hook"), plain);
        assert_eq!(
            proxy_for("https://app.example.com/hook"),
            Some("http://secure:8080/".into())
        );
        for direct in [
            "http://localhost:8000/",
            "https://LOCALHOST/",
            "http://127.0.0.1:8000/",
            "http://127.1.2.3/",
            "http://[::1]:8000/",
            "http://example.org/",
            "https://sub.example.org/",
            "http://10.1.2.3/",
        ] {
            assert_eq!(proxy_for(direct), None, "{direct}");
        }
        assert_eq!(
            Proxies::new("", "", "a")
                .for_uri(&Uri::from_static("http://b/"))
                .map(|_| ()),
            None
        );
        let shown = format!("{proxies:?}");
        assert!(!shown.contains("u:p"), "{shown}");
    }
}
