//! The readers of requests, for the fuzz targets. No part of the interface.

use std::collections::BTreeMap;

use http::Method;

use super::{
    notices::Notice,
    query::Query,
    route::{self, Located},
};

/// What a query says under a name: `None` if nobody knows.
pub fn value(query: &str, name: &'static str) -> Option<Option<String>> {
    let value = Query::new(Some(query)).one(name).ok()?;
    Some(value.map(std::borrow::Cow::into_owned))
}

/// The metadata in a query; `None` if it is too much.
pub fn metadata(query: &str) -> Option<BTreeMap<String, String>> {
    Query::new(Some(query)).metadata().ok()
}

/// A query without secrets; `None` if there are none.
pub fn without_secrets(query: &str) -> Option<String> {
    Query::new(Some(query)).without_secrets()
}

/// The token in a path, the path as it is logged, and whether there is something at it.
pub fn path(base: &str, path: &str, method: &Method) -> (Option<String>, String, bool) {
    match Located::find(base, path) {
        Some(located) => {
            let token = located.token.map(str::to_owned);
            let leads_somewhere = located.route(method).is_ok();
            (token, located.shown(base), leads_somewhere)
        }
        None => (None, route::shown(base, path), false),
    }
}

/// The objects (bucket and key) that a notification tells of.
///
/// # Errors
/// Why it is none.
pub fn notice(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    Notice::read(body).map(|notice| match notice {
        Notice::Objects(objects) => objects,
        Notice::Nothing | Notice::Subscription { .. } => Vec::new(),
    })
}
