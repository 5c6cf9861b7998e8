//! CSRF protection for requests that are authenticated by cookies.
//!
//! Browsers send cookies with requests that any page makes. A request with side effects must
//! therefore come from an allowed origin. Browsers set `Sec-Fetch-Site` and `Origin`, and pages
//! cannot change them: the first says whether the page is of this server, the second is the page's
//! origin. A request with neither comes from an old browser or from another client. It must have a
//! header that HTML forms cannot set: a script of another origin can set it only after a preflight,
//! which is allowed for the application's own origins.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};
use url::Url;

use super::{ExternalOrigin, SettingsError};

pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers that only scripts can set.
const FETCH_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-requested-with"),
    HeaderName::from_static("x-csrf-token"),
    HeaderName::from_static("x-xsrf-token"),
];

/// The CSRF policy. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CsrfPolicy {
    external_origin: ExternalOrigin,
    allowed_origins: Arc<[String]>,
}

impl CsrfPolicy {
    /// Creates a policy that allows the server's own origin, by the request's host.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the server's external origin is found; see [`ExternalOrigin::new`].
    #[must_use]
    pub fn external_origin(
        mut self,
        find: impl Fn(&Parts) -> (bool, Option<String>) + Send + Sync + 'static,
    ) -> Self {
        self.external_origin = ExternalOrigin::new(find);
        self
    }

    /// Allows more origins.
    ///
    /// # Errors
    /// An origin is invalid.
    pub fn allow_origins<S: AsRef<str>>(
        mut self,
        origins: impl IntoIterator<Item = S>,
    ) -> Result<Self, SettingsError> {
        let origins = origins.into_iter().map(|text| origin(text.as_ref()));
        self.allowed_origins = origins.collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Returns the origin of this server as browsers write it.
    fn own_origin(&self, request: &Parts) -> Option<String> {
        let (is_tls, host) = self.external_origin.get(request);
        let scheme = if is_tls { "https" } else { "http" };
        origin(&format!("{scheme}://{}", host?)).ok()
    }

    /// Returns whether the `Origin` header is the server's own origin.
    #[must_use]
    pub fn is_same_origin(&self, request: &Parts) -> bool {
        let page = text(&request.headers, &header::ORIGIN);
        let own = self.own_origin(request);
        page.is_some_and(|page| own.is_some_and(|own| own.eq_ignore_ascii_case(page)))
    }

    /// Returns whether a request is safe by its method, or not a cross-site request.
    #[must_use]
    pub fn allows(&self, request: &Parts) -> bool {
        let changes_nothing = [Method::GET, Method::HEAD, Method::OPTIONS];
        changes_nothing.contains(&request.method) || self.allows_write(request)
    }

    /// Returns whether a request is not a cross-site request, whatever its method.
    #[must_use]
    pub fn allows_write(&self, request: &Parts) -> bool {
        let site = text(&request.headers, &SEC_FETCH_SITE);
        if matches!(site, Some("same-origin" | "none")) {
            return true;
        }
        match text(&request.headers, &header::ORIGIN) {
            Some(page) => {
                let mut listed = self.allowed_origins.iter();
                let is_listed = listed.any(|origin| origin.eq_ignore_ascii_case(page));
                // `Sec-Fetch-Site` takes precedence over the comparison of origins.
                is_listed || site.is_none() && self.is_same_origin(request)
            }
            None => site.is_none() && is_fetch(&request.headers),
        }
    }
}

/// Returns whether a request claims to come from a page of another site. Clients other than
/// browsers can claim anything.
#[must_use]
pub fn is_cross_site(headers: &HeaderMap) -> bool {
    match text(headers, &SEC_FETCH_SITE) {
        Some("same-origin" | "none") => false,
        Some(_) => true,
        None => headers.contains_key(header::ORIGIN),
    }
}

/// Returns a single header value; invalid or repeated ones become `?`, which matches nothing.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().unwrap_or("?");
    Some(values.next().map_or(value, |_| "?"))
}

fn is_fetch(headers: &HeaderMap) -> bool {
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || FETCH_HEADERS.iter().any(|name| headers.contains_key(name))
        || headers
            .get(header::AUTHORIZATION)
            .is_some_and(|value| !is_sent_by_browsers(value))
}

/// Returns whether browsers repeat such an `Authorization` header automatically. Others come from scripts.
pub(super) fn is_sent_by_browsers(authorization: &HeaderValue) -> bool {
    let scheme = authorization.as_bytes().split(|byte| *byte == b' ').next();
    let scheme = scheme.unwrap_or_default();
    [&b"basic"[..], b"digest", b"negotiate", b"ntlm"]
        .iter()
        .any(|one| scheme.eq_ignore_ascii_case(one))
}

/// Parses an origin into the form that browsers send.
fn origin(text: &str) -> Result<String, SettingsError> {
    let bad = || {
        let expected = "expected a scheme and a host, such as https://example.org";
        SettingsError(format!("invalid origin {text:?}; {expected}"))
    };
    let url = Url::parse(text).map_err(|_| bad())?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !is_bare || !is_anonymous {
        return Err(bad());
    }
    Ok(url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use landfall::service::Peer;

    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder()
            .method(method)
            .uri("/uploadjobs")
            .header("host", "Up.example:8080")
            .header("cookie", "session=1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn cross_site_requests_are_denied() {
        let guard = CsrfPolicy::new()
            .allow_origins(["https://app.example", "http://localhost:3000/"])
            .unwrap();
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "Same-Origin")], false),
            (&[("sec-fetch-site", "")], false),
            (
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-site", "cross-site"),
                ],
                false,
            ),
            // Scripts of other origins can set these after a preflight, but `Sec-Fetch-Site` gives
            // them away.
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("content-type", "application/json"),
                ],
                false,
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("x-requested-with", "XMLHttpRequest"),
                ],
                false,
            ),
            (&[("origin", "http://up.example:8080")], true),
            (&[("origin", "https://up.example:8080")], false),
            (&[("origin", "http://up.example")], false),
            (&[("origin", "http://up.example:8080.evil.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "https://evil.example")], false),
            (
                &[
                    ("origin", "https://evil.example"),
                    ("x-requested-with", "x"),
                ],
                false,
            ),
            (&[("origin", "https://app.example")], true),
            (&[("origin", "http://localhost:3000")], true),
            (&[("origin", "http://localhost:3001")], false),
            (&[("origin", "https://sub.app.example")], false),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://app.example"),
                ],
                true,
            ),
            (
                &[
                    ("sec-fetch-site", "same-site"),
                    ("origin", "https://evil.example"),
                ],
                false,
            ),
            // A DNS rebinding host is still cross-site for the browser.
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "http://up.example:8080"),
                ],
                false,
            ),
            (
                &[
                    ("origin", "https://app.example"),
                    ("origin", "https://evil.example"),
                ],
                false,
            ),
            // Without either header.
            (&[], false),
            (&[("content-type", "text/plain")], false),
            (
                &[("content-type", "application/x-www-form-urlencoded")],
                false,
            ),
            (&[("content-type", "text/plain; a=application/json")], false),
            (&[("content-type", "application/json; charset=utf-8")], true),
            (&[("x-requested-with", "XMLHttpRequest")], true),
            (&[("x-csrf-token", "a")], true),
            (&[("x-xsrf-token", "a")], true),
            (&[("authorization", "Bearer a")], true),
            (&[("authorization", "Basic YTpi")], false),
            (
                &[
                    ("origin", "https://evil.example"),
                    ("authorization", "Bearer a"),
                ],
                false,
            ),
            (&[("referer", "http://up.example:8080/")], false),
        ];
        for (headers, admitted) in cases {
            for method in ["POST", "DELETE", "PATCH", "PUT"] {
                let request = request(method, headers);
                assert_eq!(guard.allows(&request), *admitted, "{method} {headers:?}");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                let request = request(method, headers);
                assert!(guard.allows(&request), "{method} {headers:?}");
                assert_eq!(
                    guard.allows_write(&request),
                    *admitted,
                    "{method} {headers:?}"
                );
            }
        }
    }

    #[test]
    fn external_origin_may_be_set() {
        let guard = CsrfPolicy::new().external_origin(|_| (true, Some("Out.example:443".into())));
        assert!(guard.allows(&request("POST", &[("origin", "https://out.example")])));
        assert!(!guard.allows(&request("POST", &[("origin", "http://up.example:8080")])));
        let nowhere = CsrfPolicy::new().external_origin(|_| (false, None));
        assert!(!nowhere.allows(&request("POST", &[("origin", "null")])));
        let mut secure = request("POST", &[("origin", "https://up.example:8080")]);
        secure.extensions.insert(Peer {
            address: None,
            tls: true,
        });
        assert!(CsrfPolicy::new().allows(&secure));
    }

    #[test]
    fn origins_are_scheme_and_host() {
        for wrong in [
            "*",
            "null",
            "",
            "app.example",
            "https://",
            "https://a/b",
            "https://a?b",
            "ftp://a",
            "https://user@a",
            "https://a#b",
        ] {
            let refused = CsrfPolicy::new().allow_origins([wrong]);
            let error = refused.unwrap_err().to_string();
            assert!(
                error.contains(&format!("invalid origin {wrong:?}")),
                "{error}"
            );
        }
        let allowed_origins = CsrfPolicy::new()
            .allow_origins(["HTTPS://App.Example:443/"])
            .unwrap()
            .allowed_origins;
        assert_eq!(*allowed_origins, ["https://app.example"]);
    }
}
