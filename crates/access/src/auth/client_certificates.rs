//! Authentication by TLS client certificates (mutual TLS).
//!
//! Knows no TLS: the program provides the function that returns the name of a verified certificate. A request from a
//! page in a browser counts as authenticated by cookie and is subject to the CSRF policy.

use std::{fmt, net::IpAddr};

use async_trait::async_trait;
use http::{header, request::Parts};
use landfall_state::queue::{Principal, is_subject};

use super::{AuthError, AuthMethod, csrf::SEC_FETCH_SITE};

type FindName = dyn Fn(&Parts) -> Option<String> + Send + Sync;

/// Authenticates requests of TLS connections whose client has a verified certificate. The subject is the
/// certificate's name.
///
/// It should be the last method: another one's credentials name a user, the certificate may be a proxy's.
pub struct ClientCertificates(Box<FindName>);

impl ClientCertificates {
    /// Creates the method with a function that returns the name of the request's certificate, and `None` without
    /// one.
    #[must_use]
    pub fn new(name: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Box::new(name))
    }
}

#[async_trait]
impl AuthMethod for ClientCertificates {
    async fn authenticate(
        &self,
        request: &Parts,
        _client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError> {
        let Some(name) = (self.0)(request) else {
            return Ok(None);
        };
        if !is_subject(&name) {
            let why = "the name of the client certificate is no subject: it needs 1 to 255 bytes without control characters";
            return Err(AuthError::Forbidden(why.to_owned()));
        }
        let mut principal = Principal::new(name);
        // Browsers present certificates automatically, also for pages of other sites.
        let headers = &request.headers;
        principal.by_cookie =
            headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE);
        Ok(Some(principal))
    }
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificates")
    }
}
