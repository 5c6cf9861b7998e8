//! Where clients see this server.

use std::{fmt, sync::Arc};

use http::{header, request::Parts};
use landfall::service::Peer;

type Tell = dyn Fn(&Parts) -> (bool, Option<String>) + Send + Sync;

/// Tells whether a client came over HTTPS, and to which `host[:port]`. Cheap to clone.
#[derive(Clone)]
pub struct SeenAt(Arc<Tell>);

impl SeenAt {
    /// Has somebody else tell who knows which proxies are trusted: see
    /// [`Handler::external_origin`](landfall::service::Handler::external_origin).
    #[must_use]
    pub fn new(tell: impl Fn(&Parts) -> (bool, Option<String>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// That of one request.
    pub(super) fn of(&self, request: &Parts) -> (bool, Option<String>) {
        (self.0)(request)
    }
}

impl Default for SeenAt {
    /// Goes by what the request itself says.
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

impl fmt::Debug for SeenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeenAt")
    }
}
