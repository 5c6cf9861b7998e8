//! Parts that the HTTP APIs of Landfall share: grants, direct uploads, and the dashboard's.
//!
//! [`auth`] authenticates requests with API keys, JWTs or forward auth, protects requests that are
//! authenticated by cookies from CSRF, and limits failed attempts. [`Problem`] is an error response.
//! The rest reads request bodies, answers CORS requests and finds the client's address.
//!
//! Secrets (upload tokens, API keys) are compared by their hashes and never logged. A request body
//! is limited in size and time.
//!
//! Start reading at `auth/mod.rs`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod auth;
mod body;
mod cors;
mod problem;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

pub use self::{
    body::{JsonBodyError, check_json, json_object, media_type, read_body},
    cors::{CorsContext, CorsRules, request_id},
    problem::Problem,
};

/// Finds the client's address of a request, behind trusted proxies.
pub type ClientAddress =
    dyn Fn(&http::HeaderMap, Option<SocketAddr>) -> Option<IpAddr> + Send + Sync;

/// Returns the client's address of a request; without a finder that of the connection.
#[must_use]
pub fn client_address(
    finder: Option<&Arc<ClientAddress>>,
    headers: &http::HeaderMap,
    peer: Option<SocketAddr>,
) -> Option<IpAddr> {
    match finder {
        Some(find) => find(headers, peer),
        None => peer.map(|peer| peer.ip()),
    }
}
