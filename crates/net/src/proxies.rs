//! The proxy of a URL, as curl and the AWS tools choose it.

use std::{env, net::IpAddr, sync::Arc};

use http::{HeaderValue, Request, Uri, header::PROXY_AUTHORIZATION};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

/// The proxies for requests.
///
/// `localhost`, loopback and link-local addresses use none: behind the last ones are the metadata
/// services of this machine, which no proxy reaches.
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
    /// and networks, or `*`.
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

    /// Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or lower case.
    ///
    /// In a CGI program, `HTTP_PROXY` is a header of the client and ignored.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                let value = get(name).filter(|value| !value.is_empty())?;
                Some((*name, value))
            })
        };
        let is_cgi = get("REQUEST_METHOD").is_some();
        let all = first(&["ALL_PROXY", "all_proxy"]);
        let proxy = |names: &[&'static str]| {
            let (name, value) = first(names).or_else(|| all.clone()).unwrap_or_default();
            if value.is_empty() || is_http_proxy(&value) {
                return value;
            }
            // The value may contain a password.
            tracing::warn!("{name} is ignored: it is no http://host:port or https://host:port");
            String::new()
        };
        let http = ["HTTP_PROXY", "http_proxy"];
        let (_, no_proxy) = first(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
        Self::new(
            &proxy(if is_cgi { &http[1..] } else { &http }),
            &proxy(&["HTTPS_PROXY", "https_proxy"]),
            &no_proxy,
        )
    }

    /// Returns the proxy for requests to a URL.
    #[must_use]
    pub fn for_uri(&self, uri: &Uri) -> Option<Intercept> {
        let host = uri.host()?.trim_matches(['[', ']']);
        let is_here = host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_near);
        let matcher = self.0.as_ref().filter(|_| !is_here)?;
        matcher.intercept(uri)
    }

    /// Adds the credentials for the proxy to a request that it reads: one without a tunnel.
    pub fn authorize<B>(&self, request: &mut Request<B>) {
        if let Some(authorization) = self.authorization(request.uri()) {
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, authorization);
        }
    }

    /// Returns the proxy's credentials for a request without a tunnel.
    #[must_use]
    pub fn authorization(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        self.for_uri(uri)?.basic_auth().cloned()
    }
}

fn is_http_proxy(value: &str) -> bool {
    let matcher = Matcher::builder().all(value.to_owned()).build();
    let proxy = matcher.intercept(&Uri::from_static("http://landfall.invalid/"));
    proxy.is_some_and(|proxy| matches!(proxy.uri().scheme_str(), Some("http" | "https")))
}

/// Returns whether an address is of this machine or link.
fn is_near(ip: IpAddr) -> bool {
    // Metadata services of EC2 and EKS that have a unique local address.
    const METADATA: [u16; 3] = [0xfd00, 0xec2, 0];
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.segments()[..3] == METADATA
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy_for(proxies: &Proxies, uri: &'static str) -> Option<String> {
        let proxy = proxies.for_uri(&Uri::from_static(uri));
        proxy.map(|proxy| proxy.uri().to_string())
    }

    #[test]
    fn proxy_depends_on_scheme_and_host() {
        let proxies = Proxies::new(
            "proxy:3128",
            "http://u:p@secure:8080",
            "example.org, 10.0.0.0/8",
        );
        let plain = Some("http://proxy:3128/".to_owned());
        assert_eq!(proxy_for(&proxies, "http://app.example.com/hook"), plain);
        assert_eq!(
            proxy_for(&proxies, "https://app.example.com/hook"),
            Some("http://secure:8080/".into())
        );
        for direct in [
            "http://localhost:8000/",
            "https://LOCALHOST/",
            "http://127.0.0.1:8000/",
            "http://127.1.2.3/",
            "http://[::1]:8000/",
            "http://169.254.169.254/latest/api/token",
            "http://169.254.170.2/v2/credentials",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::254]/latest/api/token",
            "http://[fe80::1]/",
            "http://example.org/",
            "https://sub.example.org/",
            "http://10.1.2.3/",
        ] {
            assert_eq!(proxy_for(&proxies, direct), None, "{direct}");
        }
        assert_eq!(proxy_for(&Proxies::new("", "", "a"), "http://b/"), None);
        let shown = format!("{proxies:?}");
        assert!(!shown.contains("u:p"), "{shown}");
    }

    #[test]
    fn variables_are_read_as_by_curl() {
        const PLAIN: &str = "http://a.example/";
        const SECURE: &str = "https://a.example/";
        for (variables, plain, secure) in [
            (&[][..], None, None),
            (&[("HTTP_PROXY", "p:1")], Some("http://p:1/"), None),
            (&[("https_proxy", "http://p:1")], None, Some("http://p:1/")),
            (
                &[("HTTPS_PROXY", ""), ("https_proxy", "p:1")],
                None,
                Some("http://p:1/"),
            ),
            (
                &[("all_proxy", "p:1"), ("HTTPS_PROXY", "https://q:2")],
                Some("http://p:1/"),
                Some("https://q:2/"),
            ),
            (&[("ALL_PROXY", "p:1"), ("NO_PROXY", "*")], None, None),
            (&[("ALL_PROXY", "p:1"), ("no_proxy", "example")], None, None),
            (
                &[("HTTP_PROXY", "p:1"), ("REQUEST_METHOD", "GET")],
                None,
                None,
            ),
            (
                &[("http_proxy", "p:1"), ("REQUEST_METHOD", "GET")],
                Some("http://p:1/"),
                None,
            ),
            (&[("ALL_PROXY", "socks5://p:1")], None, None),
            (&[("ALL_PROXY", "not a URL")], None, None),
        ] {
            let proxies = Proxies::from_variables(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            });
            assert_eq!(
                proxy_for(&proxies, PLAIN).as_deref(),
                plain,
                "{variables:?}"
            );
            assert_eq!(
                proxy_for(&proxies, SECURE).as_deref(),
                secure,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn credentials_are_added_to_requests_that_the_proxy_reads() {
        let proxies = Proxies::new("u:p@proxy:1", "u:p@proxy:1", "direct");
        for (uri, expected) in [
            ("http://a/", Some("Basic dTpw")),
            ("https://a/", None),
            ("http://direct/", None),
        ] {
            let mut request = Request::get(uri).body(()).expect("valid");
            proxies.authorize(&mut request);
            let sent = request.headers().get(PROXY_AUTHORIZATION);
            let sent = sent.map(|value| value.to_str().expect("text"));
            assert_eq!(sent, expected, "{uri}");
        }
    }
}
