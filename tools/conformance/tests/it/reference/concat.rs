//! Final uploads of the reference server.

use std::collections::HashMap;

use super::{MAX_SIZE, Mutant, State, Upload};

/// Returns the ids of the parts, or the status of a rejection.
pub(super) fn parts(
    state: &State,
    uploads: &HashMap<String, Upload>,
    list: &str,
    host: &str,
) -> Result<Vec<String>, u16> {
    let mut parts = Vec::new();
    for url in list.split_ascii_whitespace() {
        let path = match url.strip_prefix("http://") {
            Some(rest) => rest.strip_prefix(host).ok_or(400_u16)?,
            None => url,
        };
        let id = path.strip_prefix("/files/").ok_or(400_u16)?;
        let part = uploads.get(id).ok_or(404_u16)?;
        if part.concat.as_deref() != Some("partial") {
            return Err(400);
        }
        parts.push(id.to_owned());
    }
    if state.is(Mutant::PartsAreSorted) {
        parts.sort();
    }
    let lengths = parts.iter().filter_map(|id| uploads[id].length);
    match lengths.sum::<u64>() {
        _ if parts.is_empty() => Err(400),
        sum if sum > MAX_SIZE => Err(413),
        _ => Ok(parts),
    }
}

/// Concatenates a final upload if its parts are complete, and sets its length if it is known.
pub(super) fn advance(uploads: &mut HashMap<String, Upload>, id: &str) {
    let Some(parts) = uploads.get(id).and_then(|upload| upload.parts.clone()) else {
        return;
    };
    if uploads[id].is_complete() {
        return;
    }
    let found: Option<Vec<_>> = parts.iter().map(|part| uploads.get(part)).collect();
    let Some(found) = found else {
        return;
    };
    let length = found.iter().map(|part| part.length).sum::<Option<u64>>();
    let is_complete = found.iter().all(|part| part.is_complete());
    let data = is_complete.then(|| found.iter().flat_map(|part| part.data.clone()).collect());
    if let Some(upload) = uploads.get_mut(id) {
        upload.length = length;
        upload.data = data.unwrap_or_default();
    }
}
