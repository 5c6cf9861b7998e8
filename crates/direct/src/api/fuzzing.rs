//! The request parsers, for fuzz targets. Not part of the public API.

use std::collections::BTreeMap;

use http::Method;

use super::{
    fields::Query,
    notifications::Notification,
    route::{self, MatchedRoute},
};

/// Returns the value of a query parameter; `None` if it is repeated.
pub fn value(query: &str, name: &'static str) -> Option<Option<String>> {
    let value = Query::new(Some(query)).single(name).ok()?;
    Some(value.map(std::borrow::Cow::into_owned))
}

/// Returns the metadata in a query; `None` if it is too large.
pub fn metadata(query: &str) -> Option<BTreeMap<String, String>> {
    Query::new(Some(query)).metadata().ok()
}

/// Returns a query without secrets; `None` if there are none.
pub fn without_secrets(query: &str) -> Option<String> {
    Query::new(Some(query)).without_secrets()
}

/// Returns the token in a path, the path for the log, and whether a route exists.
pub fn path(base: &str, path: &str, method: &Method) -> (Option<String>, String, bool) {
    match MatchedRoute::find(base, path) {
        Some(located) => {
            let token = located.token.map(str::to_owned);
            let leads_somewhere = located.route(method).is_ok();
            (token, located.redacted(base), leads_somewhere)
        }
        None => (None, route::redacted_path(base, path), false),
    }
}

/// Returns the objects (bucket and key) in a notification.
///
/// # Errors
/// The reason why it is invalid.
pub fn notification(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    Notification::read(body).map(|notification| match notification {
        Notification::Objects(objects) => objects,
        Notification::Subscription { .. } => Vec::new(),
    })
}
