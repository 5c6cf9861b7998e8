//! The client's address behind trusted proxies, for grants.

use std::sync::Arc;

use landfall_grants::enforce::ClientAddress;

use crate::{app::client::client_address, settings::Urls};

pub(super) fn client_address_finder(urls: &Urls) -> Arc<ClientAddress> {
    let urls = urls.clone();
    Arc::new(move |headers, peer| client_address(&urls, headers, peer.map(|peer| peer.ip())))
}
