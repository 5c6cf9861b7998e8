//! Where a request comes from, behind proxies that are trusted.

use std::sync::Arc;

use landfall_grants::enforce::ClientAddress;

use crate::{app::client::find, settings::Urls};

/// Finds the client's address: the nearest one that isn't a trusted proxy's.
pub(super) fn finder(urls: &Urls) -> Arc<ClientAddress> {
    let urls = urls.clone();
    Arc::new(move |headers, peer| find(&urls, headers, peer.map(|peer| peer.ip())))
}
