//! Requests that a foreign page makes a browser send.
//!
//! A browser sends cookies along whoever's page asks. So a caller that is known by cookies alone may
//! only change something if its request can't be a foreign page's doing. `Sec-Fetch-Site` and `Origin`
//! are set by the browser, and no page can change them: the first says whether the page is of this
//! server, the second whose it is. A request with neither comes from an old browser or from no browser.
//! Then a header that HTML can't produce shows that a script set it, which a foreign script may do only
//! after a preflight, and those are answered for the application's own origins.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, header, request::Parts};
use url::Url;

use super::ExternalOrigin;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers that only scripts set.
const FETCH_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-requested-with"),
    HeaderName::from_static("x-csrf-token"),
    HeaderName::from_static("x-xsrf-token"),
];

/// Tells requests that foreign pages may have made from others. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CsrfPolicy {
    seen_at: ExternalOrigin,
    allowed_origins: Arc<[String]>,
}

impl CsrfPolicy {
    /// Only pages of this server may ask, and it is seen under the host that requests name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has somebody else tell where clients see this server; see [`ExternalOrigin::new`].
    #[must_use]
    pub fn seen_at(
        mut self,
        tell: impl Fn(&Parts) -> (bool, Option<String>) + Send + Sync + 'static,
    ) -> Self {
        self.seen_at = ExternalOrigin::new(tell);
        self
    }

    /// Pages of these origins may ask as well.
    ///
    /// # Errors
    /// One of them isn't an origin.
    pub fn allow_origins<S: AsRef<str>>(
        mut self,
        origins: impl IntoIterator<Item = S>,
    ) -> Result<Self, InvalidOrigin> {
        let origins = origins.into_iter();
        self.allowed_origins = origins
            .map(|text| origin(text.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// The origin of this server, as the client's browser writes it.
    fn own_origin(&self, request: &Parts) -> Option<String> {
        let (is_tls, host) = self.seen_at.of(request);
        let scheme = if is_tls { "https" } else { "http" };
        origin(&format!("{scheme}://{}", host?)).ok()
    }

    /// Whether a page of this server's own asks, by the origin that the browser states.
    #[must_use]
    pub fn is_same_origin(&self, request: &Parts) -> bool {
        let page = text(&request.headers, &header::ORIGIN);
        page.is_some_and(|page| {
            self.own_origin(request)
                .is_some_and(|own| own.eq_ignore_ascii_case(page))
        })
    }

    /// Whether the request changes nothing, or can't be a foreign page's doing.
    #[must_use]
    pub fn admits(&self, request: &Parts) -> bool {
        let changes_nothing = [Method::GET, Method::HEAD, Method::OPTIONS];
        changes_nothing.contains(&request.method) || self.allows_write(request)
    }

    /// Whether the request can't be a foreign page's doing, whatever its method.
    #[must_use]
    pub fn allows_write(&self, request: &Parts) -> bool {
        let site = text(&request.headers, &SEC_FETCH_SITE);
        if matches!(site, Some("same-origin" | "none")) {
            return true;
        }
        match text(&request.headers, &header::ORIGIN) {
            Some(page) => {
                let is_listed = self
                    .allowed_origins
                    .iter()
                    .any(|origin| origin.eq_ignore_ascii_case(page));
                // What the browser says of the site wins over a comparison of names.
                is_listed || site.is_none() && self.is_same_origin(request)
            }
            None => site.is_none() && is_fetch(&request.headers),
        }
    }
}

/// Reports whether a page of another site may have caused a request, by what a browser says of it.
/// Other programs can claim it, too.
#[must_use]
pub fn is_cross_site(headers: &HeaderMap) -> bool {
    match text(headers, &SEC_FETCH_SITE) {
        Some("same-origin" | "none") => false,
        Some(_) => true,
        None => headers.contains_key(header::ORIGIN),
    }
}

/// A header's value; of several, or of one that isn't text, something that is nothing we know.
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
}

/// An origin as browsers write it.
fn origin(text: &str) -> Result<String, InvalidOrigin> {
    let bad = || InvalidOrigin(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !is_bare || !is_anonymous {
        return Err(bad());
    }
    Ok(url.origin().ascii_serialization())
}

/// A text that isn't an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin; write a scheme and a host, such as https://example.org")]
pub struct InvalidOrigin(pub String);

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
    fn what_foreign_pages_may_have_made() {
        let guard = CsrfPolicy::new()
            .allow_origins(["https://app.example", "http://localhost:3000/"])
            .unwrap();
        let cases: &[(&[(&str, &str)], bool)] = &[
            // What the browser says of the site.
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
            // A script of a foreign page can set these only after a preflight, but says where it is.
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
            // Whose page.
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
            // A host that the browser was led to by another name is still another site.
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
            // Neither.
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
            (&[("referer", "http://up.example:8080/")], false),
        ];
        for (headers, admitted) in cases {
            for method in ["POST", "DELETE", "PATCH", "PUT"] {
                let request = request(method, headers);
                assert_eq!(guard.admits(&request), *admitted, "{method} {headers:?}");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                let request = request(method, headers);
                assert!(guard.admits(&request), "{method} {headers:?}");
                assert_eq!(
                    guard.allows_write(&request),
                    *admitted,
                    "{method} {headers:?}"
                );
            }
        }
    }

    #[test]
    fn the_servers_own_origin_may_be_told() {
        let guard = CsrfPolicy::new().seen_at(|_| (true, Some("Out.example:443".into())));
        assert!(guard.admits(&request("POST", &[("origin", "https://out.example")])));
        assert!(!guard.admits(&request("POST", &[("origin", "http://up.example:8080")])));
        let nowhere = CsrfPolicy::new().seen_at(|_| (false, None));
        assert!(!nowhere.admits(&request("POST", &[("origin", "null")])));
        let mut secure = request("POST", &[("origin", "https://up.example:8080")]);
        secure.extensions.insert(Peer {
            address: None,
            tls: true,
        });
        assert!(CsrfPolicy::new().admits(&secure));
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
            assert_eq!(refused.unwrap_err(), InvalidOrigin(wrong.into()));
        }
        let allowed_origins = CsrfPolicy::new()
            .allow_origins(["HTTPS://App.Example:443/"])
            .unwrap()
            .allowed_origins;
        assert_eq!(*allowed_origins, ["https://app.example"]);
    }
}
