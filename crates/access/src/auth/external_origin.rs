//! The external origin of the server.

use std::{fmt, sync::Arc};

use http::{header, request::Parts};
use landfall::service::Peer;

type Find = dyn Fn(&Parts) -> (bool, Option<String>) + Send + Sync;

/// Finds the scheme and host as the client sees them. Cheap to clone.
#[derive(Clone)]
pub struct ExternalOrigin(Arc<Find>);

impl ExternalOrigin {
    /// Creates one with a function that returns whether the client uses HTTPS, and `host[:port]`.
    /// It should consider trusted proxies, as
    /// [`Handler::external_origin`](landfall::service::Handler::external_origin) does.
    #[must_use]
    pub fn new(find: impl Fn(&Parts) -> (bool, Option<String>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(find))
    }

    pub(super) fn get(&self, request: &Parts) -> (bool, Option<String>) {
        (self.0)(request)
    }
}

impl Default for ExternalOrigin {
    /// Uses the connection and the `Host` header.
    fn default() -> Self {
        Self::new(|request| {
            let peer: Peer = request.extensions.get().copied().unwrap_or_default();
            let host = request
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .or_else(|| request.uri.authority().map(http::uri::Authority::as_str));
            (peer.tls, host.map(ToOwned::to_owned))
        })
    }
}

impl fmt::Debug for ExternalOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternalOrigin")
    }
}
