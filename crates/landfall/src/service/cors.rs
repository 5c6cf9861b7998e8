use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, header};
use landfall_protocol::cors;

/// The CORS policy: which origins may use the uploads from a browser.
#[derive(Clone)]
pub struct Cors {
    allow_origin: Option<Arc<OriginRule>>,
    allow_credentials: bool,
    allow_methods: HeaderValue,
    allow_headers: HeaderValue,
    expose_headers: HeaderValue,
    max_age: HeaderValue,
}

type OriginRule = dyn Fn(&str) -> bool + Send + Sync;

/// A list that is not valid in a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not valid in a header")]
pub struct InvalidHeaderList(pub String);

impl Default for Cors {
    /// Allows any origin, without credentials.
    fn default() -> Self {
        Self {
            allow_origin: None,
            allow_credentials: false,
            allow_methods: HeaderValue::from_static(cors::ALLOW_METHODS),
            allow_headers: HeaderValue::from_static(cors::ALLOW_HEADERS),
            expose_headers: HeaderValue::from_static(cors::EXPOSE_HEADERS),
            max_age: HeaderValue::from_static(cors::MAX_AGE),
        }
    }
}

impl Cors {
    /// Allows only origins for which `rule` returns true; others get 403.
    #[must_use]
    pub fn allow_origin(mut self, rule: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.allow_origin = Some(Arc::new(rule));
        self
    }

    /// True if credentials are allowed for origins that are not listed.
    pub(super) fn shares_credentials(&self) -> bool {
        self.allow_credentials
            && self
                .allow_origin
                .as_ref()
                .is_none_or(|rule| rule("https://any-origin.invalid"))
    }

    /// Allows browsers to send credentials; the allowed origins must then be restricted.
    #[must_use]
    pub fn allow_credentials(mut self, allow: bool) -> Self {
        self.allow_credentials = allow;
        self
    }

    /// Extends the built-in lists of methods, request headers and response headers.
    ///
    /// Each is a comma-separated list and may be empty. `max_age` is how long browsers cache a preflight
    /// response, in seconds.
    ///
    /// # Errors
    /// [`InvalidHeaderList`] if one of them is not valid in a header.
    pub fn extend(
        mut self,
        methods: &str,
        headers: &str,
        expose: &str,
        max_age: &str,
    ) -> Result<Self, InvalidHeaderList> {
        self.allow_methods = extended(cors::ALLOW_METHODS, methods)?;
        self.allow_headers = extended(cors::ALLOW_HEADERS, headers)?;
        self.expose_headers = extended(cors::EXPOSE_HEADERS, expose)?;
        self.max_age =
            HeaderValue::from_str(max_age).map_err(|_| InvalidHeaderList(max_age.into()))?;
        Ok(self)
    }

    /// Returns whether a request is allowed: it has no origin, or an allowed one.
    #[must_use]
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let allows = |origin| self.allows_origin(origin);
        self.allow_origin.is_none() || headers.get(header::ORIGIN).is_none_or(allows)
    }

    fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let Some(rule) = &self.allow_origin else {
            return true;
        };
        origin.to_str().is_ok_and(|origin| rule(origin))
    }

    /// The field that all responses have.
    pub(super) const VARY: &'static str = "Vary: Origin\r\n";

    /// Returns the origin of a request, if it is allowed.
    pub(super) fn origin<'a>(&self, request: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = request.get(header::ORIGIN);
        origin.filter(|origin| self.allows_origin(origin))
    }

    /// Adds CORS headers to the response for an [allowed](Self::allows) `origin`.
    ///
    /// The response to a `preflight` lists what may be sent; others list what scripts may read. `Vary:
    /// Origin` is added even without an origin, or else a cache would serve that response to a page.
    pub fn apply(&self, origin: Option<&HeaderValue>, preflight: bool, reply: &mut HeaderMap) {
        reply.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            self.allow(origin, preflight, reply);
        }
    }

    /// Adds the fields besides `Vary`.
    pub(super) fn allow(&self, origin: &HeaderValue, preflight: bool, reply: &mut HeaderMap) {
        reply.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.allow_credentials {
            let yes = HeaderValue::from_static("true");
            reply.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        let mut set = |name, value: &HeaderValue| drop(reply.insert(name, value.clone()));
        if preflight {
            set(header::ACCESS_CONTROL_ALLOW_METHODS, &self.allow_methods);
            set(header::ACCESS_CONTROL_ALLOW_HEADERS, &self.allow_headers);
            set(header::ACCESS_CONTROL_MAX_AGE, &self.max_age);
        } else {
            set(header::ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose_headers);
        }
    }
}

fn extended(built_in: &str, more: &str) -> Result<HeaderValue, InvalidHeaderList> {
    let list = if more.is_empty() {
        built_in.into()
    } else {
        format!("{built_in}, {more}")
    };
    HeaderValue::from_str(&list).map_err(|_| InvalidHeaderList(more.into()))
}

impl fmt::Debug for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cors")
            .field("any_origin", &self.allow_origin.is_none())
            .field("allow_credentials", &self.allow_credentials)
            .finish_non_exhaustive()
    }
}
