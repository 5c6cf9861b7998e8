//! Credentials in request headers.

use http::{HeaderMap, header};
use landfall_queue::is_secret;

pub(super) fn has_two(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .nth(1)
        .is_some()
}

/// Returns the token of `Authorization: Bearer`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns whether the bearer token is an API key or upload token of Landfall.
pub(super) fn are_own(headers: &HeaderMap) -> bool {
    bearer(headers).is_some_and(is_secret)
}
