//! Access to uploads: the grant API, and the parts that it shares with other HTTP APIs.
//!
//! [`grants`] has the API for applications that request uploads, and the hook that enforces grants.
//! [`auth`] authenticates requests with API keys, JWTs or forward auth, protects requests that are
//! authenticated by cookies from CSRF, and limits failed attempts. [`Problem`] is an error response.
//! The rest reads request bodies, answers CORS requests and finds the client's address.
//!
//! Secrets (upload tokens, API keys) are compared by their hashes and never logged. A request body
//! is limited in size and time.
//!
//! Start reading at `auth/mod.rs` and `grants/mod.rs`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod auth;
mod body;
mod cache;
mod cors;
pub mod grants;
mod problem;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, request::Parts};
use landfall::service::Peer;
pub use landfall_hooks::media_type;

pub use self::{
    body::{check_json, json_object, read_body},
    cache::ExpiringCache,
    cors::{CorsContext, CorsRules, request_id},
    problem::Problem,
};

/// Finds the client's address of a request, behind trusted proxies. Cheap to clone.
#[derive(Clone)]
pub struct ClientAddress(Arc<FindAddress>);

type FindAddress = dyn Fn(&HeaderMap, Option<SocketAddr>) -> Option<IpAddr> + Send + Sync;

impl ClientAddress {
    /// Creates one with a function of the headers and the address of the connection.
    #[must_use]
    pub fn new(
        find: impl Fn(&HeaderMap, Option<SocketAddr>) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(find))
    }

    /// Returns the address for these headers.
    #[must_use]
    pub fn find(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<IpAddr> {
        (self.0)(headers, peer)
    }

    /// Returns the address of a request, whose extensions have its [`Peer`].
    #[must_use]
    pub fn of_request(&self, request: &Parts) -> Option<IpAddr> {
        let peer = request.extensions.get::<Peer>();
        self.find(&request.headers, peer.and_then(|peer| peer.address))
    }
}

impl Default for ClientAddress {
    /// Returns the address of the connection.
    fn default() -> Self {
        Self::new(|_, peer| peer.map(|peer| peer.ip()))
    }
}

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAddress")
    }
}
