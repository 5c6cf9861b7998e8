//! Integration with axum: a router for the handler, and the URI and peer address from axum's extensions.
//!
//! A [`Peer`] that another layer has set takes precedence. A connection is never assumed to be encrypted.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, OriginalUri},
};
use http::{Request, Uri};

use super::{Handler, LingeringCloseLayer, Peer};

impl Handler {
    /// Returns a router that serves uploads at the base path, for `merge` or `nest`.
    ///
    /// Hooks get the addresses of clients if the application is served with
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let base = &*self.0.urls.base;
        let router = Router::new()
            .route_service(base, self.clone())
            .route_service(&format!("{base}{{*id}}"), self.clone());
        let router = match base.trim_end_matches('/') {
            "" => router,
            bare => router.route_service(bare, self.clone()),
        };
        router.layer(LingeringCloseLayer::default())
    }
}

/// Returns the URI before routers stripped a prefix.
pub(super) fn adopt<B>(request: &mut Request<B>) -> Option<Uri> {
    let extensions = request.extensions_mut();
    if let Some(ConnectInfo(address)) = extensions.get::<ConnectInfo<SocketAddr>>().copied()
        && extensions.get::<Peer>().is_none()
    {
        extensions.insert(Peer {
            address: Some(address),
            tls: false,
        });
    }
    extensions.get().map(|OriginalUri(uri)| uri.clone())
}
