//! Cross-origin requests.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, header};
use landfall_protocol::cors;

/// Which origins may use the uploads from a browser, and what they are told.
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

/// An additional list that can't stand in a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't stand in a header")]
pub struct InvalidHeaderList(pub String);

impl Default for Cors {
    /// Any origin, without credentials.
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
    /// Only origins for which `rule` holds; others get 403.
    #[must_use]
    pub fn allow_origin(mut self, rule: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.allow_origin = Some(Arc::new(rule));
        self
    }

    /// Whether any page may send cookies along: credentials are allowed, and so is an origin that
    /// nobody has named.
    pub(super) fn shares_credentials(&self) -> bool {
        self.allow_credentials
            && self
                .allow_origin
                .as_ref()
                .is_none_or(|rule| rule("https://any-origin.invalid"))
    }

    /// Lets browsers send cookies along. Origins must be named then.
    #[must_use]
    pub fn allow_credentials(mut self, allow: bool) -> Self {
        self.allow_credentials = allow;
        self
    }

    /// Adds methods, request headers and response headers to the built-in lists, each as a comma
    /// list (empty = none), and sets how long browsers remember an answer, in seconds.
    ///
    /// # Errors
    /// [`InvalidList`] if one of them can't stand in a header.
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

    /// Whether a request with these headers may go on: one without an origin, or of one that may use
    /// the uploads.
    #[must_use]
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        match &self.allow_origin {
            None => true,
            Some(rule) => origin.to_str().is_ok_and(|origin| rule(origin)),
        }
    }

    /// Adds what the response to an [admitted](Self::admits) `origin` needs: on the response to a
    /// `preflight` what may be sent, on others what scripts may read.
    ///
    /// `Vary: Origin` is added without an origin, too, or else a cache serves that response to a page.
    pub fn apply(&self, origin: Option<&HeaderValue>, preflight: bool, reply: &mut HeaderMap) {
        reply.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else {
            return;
        };
        reply.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.allow_credentials {
            let yes = HeaderValue::from_static("true");
            reply.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if preflight {
            reply.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                self.allow_methods.clone(),
            );
            reply.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                self.allow_headers.clone(),
            );
            reply.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        } else {
            reply.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                self.expose_headers.clone(),
            );
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
