//! Heads of requests (RFC 9112 sections 2 to 6): the end of one, and its meaning.
//!
//! A head that two parsers could read differently is rejected with a sentence about the error: `Content-Length`
//! with `Transfer-Encoding`, a repeated length or host, a bare LF, a folded line. The types of `http` check the bytes of
//! methods, targets, names and values.
//!
//! Nothing here reads a socket or a clock.

use std::ops::Range;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use landfall_protocol::headers;
use memchr::{memchr, memchr3};

use super::encode::connection_options;
use crate::rejection::HttpRejection;

/// Also of trailers.
const MAX_HEADERS: usize = 100;

/// Limits of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadRules {
    /// Maximum bytes of a head, request line included.
    pub max_head: usize,
    /// Accepts `Content-Length` together with chunks, which then decide (RFC 9112 section 6.3). The connection must be
    /// closed after the response. Not for connections of proxies, which may have decided otherwise.
    pub both_lengths: bool,
}

/// The framing of a request's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No content.
    None,
    /// A number of bytes, at least one.
    Sized(u64),
    /// Chunks, perhaps with trailers.
    Chunked,
}

/// A head, and its consequences for the connection.
#[derive(Debug)]
pub struct RequestHead {
    /// The request; its fields share one allocation with nothing else.
    pub request: Request<()>,
    /// Of its content.
    pub framing: Framing,
    /// The connection may be used again.
    pub keep_alive: bool,
    /// The client waits for 100 (Continue) before it sends the content.
    pub expects_continue: bool,
}

const TOO_LARGE: HttpRejection = HttpRejection {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    reason: "the request line and headers together are larger than this server allows",
};

const TOO_MANY: HttpRejection = HttpRejection {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    reason: "the request has more than 100 headers",
};

/// The first byte of a TLS connection (RFC 8446, section 5.1), which no head has.
const TLS_HANDSHAKE: u8 = 22;

/// Without it, the client would wait until the time for its head is over.
const IS_TLS: HttpRejection =
    HttpRejection::bad("this port does not use TLS; write http:// instead of https://");

const BARE_LF: HttpRejection =
    HttpRejection::bad("a line of the head ends with LF instead of CR LF");

const MALFORMED: HttpRejection = HttpRejection::bad("the head is malformed");

const SHAPE: HttpRejection =
    HttpRejection::bad("the request line is not of the form METHOD TARGET HTTP/1.1");

fn bad<T>(reason: &'static str) -> Result<T, HttpRejection> {
    Err(HttpRejection::bad(reason))
}

/// Lines whose ends are kept from the search of a head for its parser; of others, the parser searches the end again.
const KEPT_LINES: usize = 16;

/// Searches for the end of one head, whose bytes arrive in pieces.
#[derive(Debug, Default)]
pub struct HeadSearch {
    searched: usize,
    /// Of the first lines, behind their LF.
    line_ends: [u16; KEPT_LINES],
    lines: usize,
}

impl HeadSearch {
    /// Returns the length of the head that `bytes` begin with, if it is complete. `bytes` are those of the call before
    /// and more.
    ///
    /// # Errors
    /// It is too long, or the bytes are not HTTP.
    pub fn end(&mut self, bytes: &[u8], max_head: usize) -> Result<Option<usize>, HttpRejection> {
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Err(IS_TLS);
        }
        let mut at = self.searched;
        // The last line may be found again.
        let kept = &self.line_ends[..self.lines];
        self.lines -= kept
            .iter()
            .rev()
            .take_while(|end| usize::from(**end) > at)
            .count();
        while let Some(found) = memchr(b'\n', &bytes[at..]) {
            at += found + 1;
            self.keep_line(at);
            // A bare LF ends a line here, so that no head is missed; `parse` rejects it.
            let end = match bytes[at..] {
                [b'\n', ..] => at + 1,
                [b'\r', b'\n', ..] => at + 2,
                _ => continue,
            };
            self.keep_line(end);
            return match end > max_head {
                true => Err(TOO_LARGE),
                false => Ok(Some(end)),
            };
        }
        if bytes.len() > max_head {
            return Err(TOO_LARGE);
        }
        // An end may have begun.
        self.searched = bytes.len().saturating_sub(2);
        Ok(None)
    }

    fn keep_line(&mut self, end: usize) {
        if let (Some(kept), Ok(end)) = (self.line_ends.get_mut(self.lines), end.try_into()) {
            *kept = end;
            self.lines += 1;
        }
    }
}

/// Empty lines before a request line are ignored (RFC 9112 section 2.2). Returns their length.
pub fn empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Parses a complete head. Its fields are slices of `head`; `fields` is an empty map to fill. `search` found its end, or
/// is new.
///
/// # Errors
/// It is malformed, ambiguous, or asks for what this server does not do.
pub fn parse(
    head: &Bytes,
    search: &HeadSearch,
    mut fields: HeaderMap,
    rules: &HeadRules,
) -> Result<RequestHead, HttpRejection> {
    let mut lines = Lines {
        bytes: head,
        at: 0,
        ends: &search.line_ends[..search.lines],
    };
    let (method, target, version) = request_line(lines.next_line()?)?;
    let is_old = version == Version::HTTP_10;
    let mut facts = Facts {
        is_old,
        ..Facts::default()
    };
    lines.read_fields(&mut fields, |name, value| facts.add(name, value))?;
    facts.check_host(target)?;
    let framing = facts.framing(rules)?;
    if framing == Framing::Chunked && facts.length.is_some() {
        fields.remove(CONTENT_LENGTH);
        facts.closes = true;
    }
    let mut request = Request::new(());
    let start = method.as_str().len() + 1;
    *request.method_mut() = method;
    *request.uri_mut() = uri(head, start..start + target.len())?;
    *request.version_mut() = version;
    *request.headers_mut() = fields;
    Ok(RequestHead {
        request,
        framing,
        keep_alive: !facts.closes && (!is_old || facts.keeps_alive),
        expects_continue: facts.expects_continue,
    })
}

struct Lines<'a> {
    bytes: &'a Bytes,
    at: usize,
    /// Of the next lines, if they are known.
    ends: &'a [u16],
}

impl<'a> Lines<'a> {
    fn next_line(&mut self) -> Result<&'a [u8], HttpRejection> {
        let start = self.at;
        self.at = match self.ends.split_off_first() {
            Some(end) => usize::from(*end),
            None => start + memchr(b'\n', &self.bytes[start..]).ok_or(MALFORMED)? + 1,
        };
        let line = self.bytes.get(start..self.at).ok_or(MALFORMED)?;
        let line = line.strip_suffix(b"\n").ok_or(MALFORMED)?;
        line.strip_suffix(b"\r").ok_or(BARE_LF)
    }

    /// Up to the empty line, which is the last one.
    fn read_fields(
        &mut self,
        fields: &mut HeaderMap,
        mut see: impl FnMut(&HeaderName, &'a [u8]) -> Result<(), HttpRejection>,
    ) -> Result<(), HttpRejection> {
        loop {
            let start = self.at;
            let line = self.next_line()?;
            if line.is_empty() {
                return if self.at == self.bytes.len() {
                    Ok(())
                } else {
                    Err(MALFORMED)
                };
            }
            if fields.len() == MAX_HEADERS {
                return Err(TOO_MANY);
            }
            let (name, value) = field(line)?;
            let text = &line[value.clone()];
            let value = match text {
                // Usual ones, which are known to be valid.
                b"1.0.0" => HeaderValue::from_static("1.0.0"),
                b"application/offset+octet-stream" => {
                    HeaderValue::from_static(headers::OFFSET_OCTET_STREAM)
                }
                _ => {
                    let shared = self.bytes.slice(start + value.start..start + value.end);
                    HeaderValue::from_maybe_shared(shared).map_err(|_| CONTROL)?
                }
            };
            see(&name, text)?;
            fields.try_append(name, value).map_err(|_| TOO_MANY)?;
        }
    }
}

/// Parses complete trailers, the empty line included.
pub(super) fn parse_trailers(trailers: &Bytes) -> Result<HeaderMap, HttpRejection> {
    let mut fields = HeaderMap::new();
    let mut lines = Lines {
        bytes: trailers,
        at: 0,
        ends: &[],
    };
    lines.read_fields(&mut fields, |_, _| Ok(()))?;
    Ok(fields)
}

fn request_line(line: &[u8]) -> Result<(Method, &[u8], Version), HttpRejection> {
    let (rest, version) = match line.split_last_chunk() {
        Some((rest, b" HTTP/1.1")) => (rest, Version::HTTP_11),
        Some((rest, b" HTTP/1.0")) => (rest, Version::HTTP_10),
        _ => return Err(another_version(line)),
    };
    let space = rest.iter().position(|byte| *byte == b' ').ok_or(SHAPE)?;
    let (method, target) = (&rest[..space], &rest[space + 1..]);
    let method = Method::from_bytes(method)
        .map_err(|_| HttpRejection::bad("the request method is not a token"))?;
    // `Uri` would cut off the one, and accept another.
    match memchr3(b'#', 0x7f, b' ', target).map(|at| target[at]) {
        None if !target.is_empty() => {}
        Some(b'#') => {
            return bad("the request target has a fragment (\"#\")");
        }
        _ => return Err(SHAPE),
    }
    if method == Method::CONNECT {
        return Err(HttpRejection {
            status: StatusCode::NOT_IMPLEMENTED,
            reason: "this server is no proxy: CONNECT is not supported",
        });
    }
    Ok((method, target, version))
}

#[cold]
fn another_version(line: &[u8]) -> HttpRejection {
    match line {
        [
            ..,
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'0'..=b'9',
            b'.',
            b'0'..=b'9',
        ] => HttpRejection {
            status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            reason: "this version of HTTP is not spoken here; use HTTP/1.1",
        },
        _ => SHAPE,
    }
}

fn uri(head: &Bytes, range: Range<usize>) -> Result<Uri, HttpRejection> {
    let target = head.slice(range.clone());
    Uri::from_maybe_shared(target).map_err(|_| match head[range].iter().any(|b| *b < b' ') {
        true => SHAPE,
        false => HttpRejection::bad("the request target is not a valid URI"),
    })
}

/// Returns the name of a field, and where in its line the value is.
fn field(line: &[u8]) -> Result<(HeaderName, Range<usize>), HttpRejection> {
    if is_space(line.first()) {
        return bad("a header is folded over several lines, which is obsolete");
    }
    let colon = memchr(b':', line).ok_or(HttpRejection::bad("a header line has no colon"))?;
    let name = &line[..colon];
    if is_space(name.last()) {
        return bad("there is white space between a header's name and its colon");
    }
    // Usual ones, as clients write them: shorter, and those of uploads cost no allocation.
    let name = match name {
        b"Host" | b"host" => HOST,
        b"Content-Length" | b"content-length" => CONTENT_LENGTH,
        b"Content-Type" | b"content-type" => CONTENT_TYPE,
        b"Tus-Resumable" | b"tus-resumable" => headers::TUS_RESUMABLE,
        b"Upload-Length" | b"upload-length" => headers::UPLOAD_LENGTH,
        b"Upload-Offset" | b"upload-offset" => headers::UPLOAD_OFFSET,
        b"Upload-Metadata" | b"upload-metadata" => headers::UPLOAD_METADATA,
        b"Upload-Checksum" | b"upload-checksum" => headers::UPLOAD_CHECKSUM,
        b"Upload-Concat" | b"upload-concat" => headers::UPLOAD_CONCAT,
        b"Upload-Complete" | b"upload-complete" => headers::UPLOAD_COMPLETE,
        b"Upload-Defer-Length" | b"upload-defer-length" => headers::UPLOAD_DEFER_LENGTH,
        b"Upload-Draft-Interop-Version" | b"upload-draft-interop-version" => {
            headers::INTEROP_VERSION
        }
        _ => HeaderName::from_bytes(name)
            .map_err(|_| HttpRejection::bad("a header's name is not a token"))?,
    };
    let (mut start, mut end) = (colon + 1, line.len());
    while start < end && is_space(line.get(start)) {
        start += 1;
    }
    while start < end && is_space(line.get(end - 1)) {
        end -= 1;
    }
    Ok((name, start..end))
}

fn is_space(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b' ' | b'\t'))
}

const CONTROL: HttpRejection = HttpRejection::bad("a header's value contains a control character");

/// The meaning of fields for their message.
#[derive(Default)]
struct Facts<'a> {
    is_old: bool,
    host: Option<&'a [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    expects_continue: bool,
    closes: bool,
    keeps_alive: bool,
}

impl<'a> Facts<'a> {
    fn add(&mut self, name: &HeaderName, value: &'a [u8]) -> Result<(), HttpRejection> {
        match *name {
            HOST if self.host.replace(value).is_some() => {
                return bad("the request has more than one Host header");
            }
            EXPECT if !self.is_old => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(HttpRejection {
                        status: StatusCode::EXPECTATION_FAILED,
                        reason: "the only supported expectation is 100-continue",
                    });
                }
                self.expects_continue = true;
            }
            CONNECTION => {
                let (closes, keeps_alive) = connection_options(value);
                self.closes |= closes;
                self.keeps_alive |= keeps_alive;
            }
            CONTENT_LENGTH if self.length.replace(decimal(value)?).is_some() => {
                return bad("the request has more than one Content-Length header");
            }
            TRANSFER_ENCODING => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return bad("the only Transfer-Encoding understood is a single \"chunked\"");
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, rules: &HeadRules) -> Result<Framing, HttpRejection> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) if !rules.both_lengths => {
                bad("the request has both Transfer-Encoding and Content-Length")
            }
            (true, _) if self.is_old => bad("HTTP/1.0 has no Transfer-Encoding"),
            (true, _) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Sized(length)),
        }
    }

    /// HTTP/1.1 requires one `Host`, which must agree with an absolute target (RFC 9112, 3.2, 3.2.2).
    fn check_host(&self, target: &[u8]) -> Result<(), HttpRejection> {
        match self.host {
            None if !self.is_old => {
                return bad("the request has no Host header");
            }
            Some(host) if !host.iter().all(|b| is_host(*b)) => {
                return bad("the Host header is not a host name with optional port");
            }
            _ => {}
        }
        if target.starts_with(b"/") || target == b"*" {
            return Ok(());
        }
        let after = |scheme: &[u8]| {
            let (start, rest) = target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        };
        let rest = after(b"http://")
            .or_else(|| after(b"https://"))
            .ok_or(HttpRejection::bad(
                "the request target is neither a path nor an http URL",
            ))?;
        let mut parts = rest.split(|b| matches!(b, b'/' | b'?' | b'#'));
        let authority = parts.next().unwrap_or_default();
        match self.host {
            Some(host) if !same_host(authority, host) => {
                bad("the Host header and the host of the request target differ")
            }
            _ => Ok(()),
        }
    }
}

/// Port 80 equals no port.
pub(crate) fn same_host(a: &[u8], b: &[u8]) -> bool {
    let bare = |h| <[u8]>::strip_suffix(h, b":80").unwrap_or(h);
    bare(a).eq_ignore_ascii_case(bare(b))
}

fn decimal(value: &[u8]) -> Result<u64, HttpRejection> {
    const INVALID: HttpRejection = HttpRejection::bad("Content-Length is not a decimal number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    let digits = str::from_utf8(value).map_err(|_| INVALID)?;
    let length = digits.parse().ok().filter(|length| *length < u64::MAX - 1);
    length.ok_or(HttpRejection::bad("Content-Length is too large a number"))
}

/// Returns whether the method of a rejected head is HEAD, and its `Origin`.
pub(super) fn rejected_request(head: &[u8]) -> (bool, Option<HeaderValue>) {
    const NAME: &[u8] = b"origin:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let origin = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        let value = name
            .eq_ignore_ascii_case(NAME)
            .then(|| value.trim_ascii())?;
        HeaderValue::from_bytes(value).ok()
    });
    (head.starts_with(b"HEAD "), origin)
}

/// `uri-host [ ":" port ]`, RFC 3986 section 3.2.2.
fn is_host(byte: u8) -> bool {
    static HOST: [bool; 128] = {
        let (mut set, mut n) = ([false; 128], 0);
        while n < set.len() {
            set[n] = matches!(n as u8, b'!' | b'$'..=b'.' | b'0'..=b';' | b'=' | b'A'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~');
            n += 1;
        }
        set
    };
    HOST.get(usize::from(byte)) == Some(&true)
}
