//! Bodies in parts, `multipart/related` and `multipart/mixed`. A body that is not one is an error, never a guess.

use bytes::Bytes;
use http::HeaderMap;
use memchr::{memchr, memmem};

/// Headers of a part, and its content.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) headers: HeaderMap,
    pub(super) content: Bytes,
}

/// Splits a body by the boundary of its content type; `None` if it is malformed.
pub(super) fn split(content_type: &str, kind: &str, body: &Bytes) -> Option<Vec<Part>> {
    let (found, parameters) = content_type.split_once(';')?;
    if !found.trim().eq_ignore_ascii_case(kind) {
        return None;
    }
    let boundary = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty()).then_some(value)
    })?;
    let delimiter = format!("--{boundary}");
    let mut at = memmem::find(body, delimiter.as_bytes())? + delimiter.len();
    let mut parts = Vec::new();
    while !body[at..].starts_with(b"--") {
        // Before the line break, which a delimiter at the start of an empty part shares.
        let start = at + line_break(&body[at..])?;
        let delimiter = format!("\n--{boundary}");
        let end = start - 1 + memmem::find(&body[start - 1..], delimiter.as_bytes())?;
        at = end + delimiter.len();
        let end = end.max(start);
        let has_return = end > start && body[end - 1] == b'\r';
        parts.push(part(&body.slice(start..end - usize::from(has_return)))?);
    }
    (!parts.is_empty()).then_some(parts)
}

/// Reads headers up to an empty line; the rest is the content.
pub(super) fn part(bytes: &Bytes) -> Option<Part> {
    let mut headers = HeaderMap::new();
    let mut at = 0;
    loop {
        // The end of the part may be that of the last header.
        if at == bytes.len() {
            let content = Bytes::new();
            return Some(Part { headers, content });
        }
        if let Some(length) = line_break(&bytes[at..]) {
            let content = bytes.slice(at + length..);
            return Some(Part { headers, content });
        }
        let end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |length| at + length);
        let line = std::str::from_utf8(&bytes[at..end]).ok()?;
        let (name, value) = line.split_once(':')?;
        let name = http::HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        headers.append(name, value.trim().parse().ok()?);
        at = (end + 1).min(bytes.len());
    }
}

/// Returns the length of the line break at the start: the service accepts both kinds.
fn line_break(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}
