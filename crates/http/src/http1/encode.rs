//! Heads of responses and chunks (RFC 9112 sections 4 to 7), as bytes.
//!
//! Nothing here writes to a socket.

use std::io::Write as _;
use std::time::SystemTime;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Response, StatusCode, Version};
use landfall::service::FieldLines;
use landfall_protocol::with_date;

/// The end of a response's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// A number of bytes.
    Sized(u64),
    /// Chunks.
    Chunked,
    /// The end of the connection: HTTP/1.0 has no chunks.
    UntilClose,
}

/// The request and the connection of a response.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseContext {
    /// Of the request.
    pub version: Version,
    /// The request is HEAD.
    pub is_head: bool,
    /// The connection may be used again, and the client wants that.
    pub keep_alive: bool,
}

/// Appends the head of a response whose content has `length` bytes, if known. It has the fields of the map and those of
/// `lines`.
///
/// Returns the framing of its content, and whether the connection may be used again.
pub fn response_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    lines: Option<&FieldLines>,
    fields: &HeaderMap,
    length: Option<u64>,
    context: ResponseContext,
) -> (ResponseFraming, bool) {
    let is_old = context.version == Version::HTTP_10;
    status_line(out, context.version, status);
    let has_content = !matches!(status.as_u16(), 100..200 | 204 | 304);
    let (mut has_date, mut keep_alive) = (false, context.keep_alive);
    let mut stated = lines.and_then(FieldLines::content_length);
    if let Some(lines) = lines {
        out.extend_from_slice(lines.as_bytes());
    }
    if let Some(length) = stated {
        content_length(out, length);
    }
    for (name, value) in fields {
        match *name {
            // One that the service has set counts, also for HEAD and 304 (RFC 9110 section 8.6).
            CONTENT_LENGTH if stated.is_none() && (has_content || status.as_u16() == 304) => {
                stated = value.to_str().ok().and_then(|value| value.parse().ok());
                if stated.is_none() {
                    continue;
                }
            }
            CONNECTION => {
                keep_alive &= !connection_options(value.as_bytes()).0;
                continue;
            }
            CONTENT_LENGTH | TRANSFER_ENCODING | UPGRADE => continue,
            DATE => has_date = true,
            _ => {}
        }
        field(out, name, value.as_bytes());
    }
    let framing = match (stated, length) {
        _ if context.is_head || !has_content => {
            if let (true, None, Some(length @ 1..)) = (has_content, stated, length) {
                content_length(out, length);
            }
            ResponseFraming::Sized(0)
        }
        (Some(length), _) => ResponseFraming::Sized(length),
        (None, Some(length)) => {
            content_length(out, length);
            ResponseFraming::Sized(length)
        }
        (None, None) if is_old => {
            keep_alive = false;
            ResponseFraming::UntilClose
        }
        (None, None) => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            ResponseFraming::Chunked
        }
    };
    if !keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if is_old {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    if !has_date {
        out.extend_from_slice(b"Date: ");
        with_date(SystemTime::now(), |date| {
            out.extend_from_slice(date.as_bytes())
        });
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    (framing, keep_alive)
}

/// Appends an interim response (RFC 9110 section 15.2).
pub(super) fn interim_response(out: &mut Vec<u8>, response: &Response<()>) {
    status_line(out, Version::HTTP_11, response.status());
    fields(out, response.headers());
}

/// Appends fields and the empty line.
fn fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        field(out, name, value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends what precedes the data of a chunk; [`CHUNK_END`] follows it.
pub(super) fn chunk_size(out: &mut Vec<u8>, length: usize) {
    // Writing to memory does not fail.
    let _ = write!(out, "{length:X}\r\n");
}

pub(super) const CHUNK_END: &[u8] = b"\r\n";

/// The end of chunks.
pub(super) const FINAL_CHUNK: &[u8] = b"0\r\n\r\n";

fn status_line(out: &mut Vec<u8>, version: Version, status: StatusCode) {
    let common: &[u8] = match status.as_u16() {
        _ if version == Version::HTTP_10 => b"",
        200 => b"HTTP/1.1 200 OK\r\n",
        201 => b"HTTP/1.1 201 Created\r\n",
        204 => b"HTTP/1.1 204 No Content\r\n",
        _ => b"",
    };
    if !common.is_empty() {
        return out.extend_from_slice(common);
    }
    let minor = u8::from(version != Version::HTTP_10);
    // Those of tus and the IETF draft are in no registry.
    let reason = match status.as_u16() {
        104 => "Upload Resumption Supported",
        460 => "Checksum Mismatch",
        _ => status.canonical_reason().unwrap_or("<none>"),
    };
    // Writing to memory does not fail.
    let _ = write!(out, "HTTP/1.{minor} {} {reason}\r\n", status.as_str());
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Names are in title case: scripts compare them so.
fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(name.as_str().as_bytes());
    let mut is_first = true;
    for byte in &mut out[start..] {
        if is_first {
            byte.make_ascii_uppercase();
        }
        is_first = *byte == b'-';
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Returns whether `close` and `keep-alive` are among the options of `Connection`.
pub(super) fn connection_options(value: &[u8]) -> (bool, bool) {
    let has = |name: &str| {
        let mut options = value.split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    };
    (has("close"), has("keep-alive"))
}
