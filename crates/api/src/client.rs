use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::HeaderMap;

/// Finds the client's address of a request, behind trusted proxies.
pub type ClientAddress = dyn Fn(&HeaderMap, Option<SocketAddr>) -> Option<IpAddr> + Send + Sync;

/// Returns the client's address of a request; without a finder that of the connection.
#[must_use]
pub fn client_address(
    finder: Option<&Arc<ClientAddress>>,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
) -> Option<IpAddr> {
    match finder {
        Some(find) => find(headers, peer),
        None => peer.map(|peer| peer.ip()),
    }
}
