//! Sorts an application's HTTP responses: JSON, nothing, or not understood.
//!
//! Hooks and forward auth read responses of any framework, by one rule. A response that may be a denial
//! which does not parse, such as one that is cut, compressed or preceded by a warning, must never count as
//! consent.

use http::{HeaderMap, StatusCode, header};

/// A response that is neither JSON nor plain text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownResponse {
    /// The content is encoded, although no encoding was requested.
    #[error("it has the Content-Encoding {0}, which was not requested")]
    Encoded(String),
    /// An HTML page, binary data, or JSON after other text.
    #[error("it is neither a JSON object nor plain text")]
    NotText,
}

/// Rejects a response whose content is encoded: no request accepts an encoding.
///
/// # Errors
/// It has a `Content-Encoding` other than `identity`.
pub fn require_identity(headers: &HeaderMap) -> Result<(), UnknownResponse> {
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let coding = String::from_utf8_lossy(value.as_bytes());
        if !matches!(coding.trim(), "") && !coding.trim().eq_ignore_ascii_case("identity") {
            return Err(UnknownResponse::Encoded(coding.into_owned()));
        }
    }
    Ok(())
}

/// Returns the text that has to be JSON, or `None` for an empty response or plain text.
///
/// It is JSON by its `Content-Type` or its first character, after a byte order mark and white space. The text may be invalid: the caller parses it. A framework may give its type to an empty response,
/// too, which then states its length: one without may have lost its JSON.
///
/// # Errors
/// It is neither.
pub fn response_json<'a>(
    status: StatusCode,
    headers: &HeaderMap,
    body: &'a [u8],
) -> Result<Option<&'a [u8]>, UnknownResponse> {
    require_identity(headers)?;
    let text = without_mark(body.trim_ascii_start()).trim_ascii();
    let is_empty = matches!(status.as_u16(), 204 | 205)
        || body.is_empty()
            && headers
                .get(header::CONTENT_LENGTH)
                .is_some_and(|length| length == "0");
    if !is_empty && is_json(headers) || matches!(text.first(), Some(b'{' | b'[')) {
        return Ok(Some(text));
    }
    match is_plain_text(text) {
        true => Ok(None),
        false => Err(UnknownResponse::NotText),
    }
}

/// Skips a byte order mark in UTF-8.
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Returns the media type of a body in lower case, without parameters; empty if there is none.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = media_type(headers);
    matches!(&*kind, "application/json" | "text/json") || kind.ends_with("+json")
}

/// Returns whether a response is an HTML page or an XML document, which servers and proxies send by themselves.
///
/// PHP gives the type of HTML to plain text, too, so the content decides, unless it is encoded.
#[cfg(feature = "http")]
pub(crate) fn is_page(headers: &HeaderMap, body: &[u8]) -> bool {
    match require_identity(headers) {
        Ok(()) => is_markup(without_mark(body.trim_ascii_start()).trim_ascii_start()),
        Err(_) => matches!(&*media_type(headers), "text/html" | "application/xhtml+xml"),
    }
}

fn is_markup(text: &[u8]) -> bool {
    text.first() == Some(&b'<')
}

/// Pages, compressed data, UTF-16 and JSON after a warning are not plain text.
fn is_plain_text(text: &[u8]) -> bool {
    let is_excluded =
        |byte: &u8| *byte == b'{' || byte.is_ascii_control() && !byte.is_ascii_whitespace();
    !is_markup(text) && !text.iter().any(is_excluded)
}
