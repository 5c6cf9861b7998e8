//! What a request has with it that tells who sent it.

use http::{HeaderMap, header};
use landfall::hook::UploadToken;

use super::KeySecret;

/// Whether there is more than one `Authorization`.
pub(super) fn has_two(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .nth(1)
        .is_some()
}

/// The token in `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether the bearer token is one of Landfall's own.
pub(super) fn are_own(headers: &HeaderMap) -> bool {
    bearer(headers).is_some_and(|token| {
        token.starts_with(KeySecret::PREFIX) || token.starts_with(UploadToken::PREFIX)
    })
}
