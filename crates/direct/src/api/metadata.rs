//! Metadata in requests: its size, and the tokens in it.

use std::collections::BTreeMap;

use landfall::hook::UploadToken;
use landfall_api::Problem;
use landfall_queue::is_secret;

use super::problem;

const MAX_ENTRIES: usize = 64;
const MAX_METADATA_BYTES: usize = 16 * 1024;

/// With this entry, `token` is an upload token.
const REQUEST_ID: &str = "upload_request_id";
pub(super) const UPLOAD_TOKEN: &str = "upload_token";
const TOKEN: &str = "token";

#[derive(Clone, PartialEq, Eq)]
pub(super) struct ExplicitToken {
    pub(super) token: String,
    pub(super) request_id: Option<String>,
}

pub(super) fn check_size(metadata: &BTreeMap<String, String>) -> Result<(), Problem> {
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    match metadata.len() <= MAX_ENTRIES && bytes <= MAX_METADATA_BYTES {
        true => Ok(()),
        false => Err(problem::field(
            "metadata",
            format!(
                "the metadata must have at most {MAX_ENTRIES} entries and {MAX_METADATA_BYTES} bytes"
            ),
        )),
    }
}

pub(super) fn is_token_name(name: &str) -> bool {
    matches!(name, UPLOAD_TOKEN | TOKEN)
}

/// Removes all other secrets, too. `token` often belongs to the application, as with tus.
pub(super) fn extract_token(
    metadata: &mut BTreeMap<String, String>,
    outer: Option<String>,
) -> Option<ExplicitToken> {
    let request_id = metadata.get(REQUEST_ID).cloned();
    let own = metadata.remove(UPLOAD_TOKEN);
    let is_ours = |text: &String| request_id.is_some() || text.starts_with(UploadToken::PREFIX);
    let other = match metadata.get(TOKEN).is_some_and(is_ours) {
        true => metadata.remove(TOKEN),
        false => None,
    };
    metadata.retain(|_, value| !is_secret(value));
    let token = outer.or(own).or(other)?;
    Some(ExplicitToken { token, request_id })
}
