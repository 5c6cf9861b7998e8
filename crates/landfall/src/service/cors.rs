//! The CORS policy of uploads, which the APIs of other crates share.
//!
//! `Vary: Origin` is sent with and without an origin, or else caches would mix responses. `Handler::new` rejects
//! credentials for any origin.

use std::{fmt, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue,
    header::{self, InvalidHeaderValue},
};
use landfall_protocol::cors;

/// The CORS policy: which origins may use the uploads from a browser.
///
/// What uploads need is allowed by default, for any origin, without credentials.
///
/// ```
/// use std::time::Duration;
///
/// use landfall::{Config, service::Cors, store::MemoryStore};
///
/// let mut config = Config::new(MemoryStore::new());
/// config.cors = Some(
///     Cors::default()
///         .allow_origin(|origin| origin == "https://app.example.org")
///         .allow_credentials(true)
///         .allow_headers(&["X-CSRF-Token"])?
///         .max_age(Duration::from_secs(3600)),
/// );
/// # Ok::<(), landfall::http::header::InvalidHeaderValue>(())
/// ```
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

    /// Allows these methods in addition to the built-in ones.
    ///
    /// # Errors
    /// One is not valid in a header.
    pub fn allow_methods<T: AsRef<str>>(mut self, more: &[T]) -> Result<Self, InvalidHeaderValue> {
        extend(&mut self.allow_methods, more)?;
        Ok(self)
    }

    /// Allows these request headers in addition to the built-in ones.
    ///
    /// # Errors
    /// One is not valid in a header.
    pub fn allow_headers<T: AsRef<str>>(mut self, more: &[T]) -> Result<Self, InvalidHeaderValue> {
        extend(&mut self.allow_headers, more)?;
        Ok(self)
    }

    /// Lets scripts read these response headers in addition to the built-in ones.
    ///
    /// # Errors
    /// One is not valid in a header.
    pub fn expose_headers<T: AsRef<str>>(mut self, more: &[T]) -> Result<Self, InvalidHeaderValue> {
        extend(&mut self.expose_headers, more)?;
        Ok(self)
    }

    /// Sets how long browsers may cache the response to a preflight, in whole seconds; a day by default.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age.as_secs().into();
        self
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

fn extend<T: AsRef<str>>(list: &mut HeaderValue, more: &[T]) -> Result<(), InvalidHeaderValue> {
    for one in more {
        let extended = [list.as_bytes(), b", ", one.as_ref().as_bytes()].concat();
        *list = HeaderValue::from_bytes(&extended)?;
    }
    Ok(())
}

impl fmt::Debug for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cors")
            .field("any_origin", &self.allow_origin.is_none())
            .field("allow_credentials", &self.allow_credentials)
            .finish_non_exhaustive()
    }
}
