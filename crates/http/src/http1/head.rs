//! Heads of requests (RFC 9112 sections 2 to 6): where one ends, and what it says.
//!
//! A head that two parsers could read differently is rejected with a sentence about the error: `Content-Length`
//! with `Transfer-Encoding`, a repeated length or host, a bare LF, a folded line. httparse finds the parts of a head;
//! what it lets pass is checked here, and what it refuses is explained by a second look at the lines.
//!
//! Nothing here reads a socket or a clock.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use memchr::memchr;

use crate::rejection::HttpRejection;

const MAX_HEADERS: usize = 100;

/// What a head may be.
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
    /// So many bytes, at least one.
    Sized(u64),
    /// Chunks, perhaps with trailers.
    Chunked,
}

/// A head, and what it says about its connection.
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

const SHAPE: HttpRejection =
    HttpRejection::bad("the request line is not of the form METHOD TARGET HTTP/1.1");

/// Searches for the end of a head, whose bytes arrive in pieces.
#[derive(Debug, Default)]
pub struct HeadSearch {
    searched: usize,
}

impl HeadSearch {
    /// Returns the length of the head that `bytes` begin with, if it is complete. `bytes` are those of the call before
    /// and more.
    ///
    /// # Errors
    /// It is too long, or the bytes are not HTTP.
    pub fn end(&mut self, bytes: &[u8], max_head: usize) -> Result<Option<usize>, HttpRejection> {
        let mut at = self.searched;
        while let Some(found) = memchr(b'\n', &bytes[at..]) {
            at += found + 1;
            // A bare LF ends a line here, so that no head is missed; `parse` rejects it.
            let end = match bytes[at..] {
                [b'\n', ..] => at + 1,
                [b'\r', b'\n', ..] => at + 2,
                _ => continue,
            };
            self.searched = 0;
            return match end > max_head {
                true => Err(TOO_LARGE),
                false => Ok(Some(end)),
            };
        }
        if bytes.len() > max_head {
            return Err(TOO_LARGE);
        }
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Err(IS_TLS);
        }
        // An end may have begun.
        self.searched = bytes.len().saturating_sub(2);
        Ok(None)
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

/// Parses a complete head. Its fields are slices of `head`; `fields` is an empty map to fill.
///
/// # Errors
/// It is malformed, ambiguous, or asks for what this server does not do.
pub fn parse(
    head: &Bytes,
    fields: HeaderMap,
    rules: &HeadRules,
) -> Result<RequestHead, HttpRejection> {
    let mut found = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut found) {
        Ok(httparse::Status::Complete(end)) if end == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY),
        _ => return Err(explain(head)),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(SHAPE);
    };
    if method == "CONNECT" {
        return Err(HttpRejection {
            status: StatusCode::NOT_IMPLEMENTED,
            reason: "this server is no proxy: CONNECT is not supported",
        });
    }
    let is_old = parsed.version == Some(0);
    let base = head.as_ptr() as usize;
    let slice = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        (start, start + part.len())
    };

    let mut facts = Facts::new(is_old);
    // httparse lets a bare LF pass. Of all other bytes between the parts it has made sure.
    if slice(method.as_bytes()).0 != 0 {
        return Err(BARE_LF);
    }
    let (_, end_of_target) = slice(target.as_bytes());
    let mut line_end = end_of_target + b" HTTP/1.1".len();
    let mut map = fields;
    map.reserve(parsed.headers.len());
    for field in parsed.headers.iter() {
        let (name_start, _) = slice(field.name.as_bytes());
        if name_start != line_end + 2 {
            return Err(BARE_LF);
        }
        let (start, end) = slice(field.value);
        line_end = end
            + head[end..]
                .iter()
                .take_while(|b| matches!(b, b' ' | b'\t'))
                .count();
        facts.add(field.name.as_bytes(), field.value)?;
        let name = known_name(field.name)
            .or_else(|| HeaderName::from_bytes(field.name.as_bytes()).ok())
            .ok_or(HttpRejection::bad("a header's name is not a token"))?;
        let value = HeaderValue::from_maybe_shared(head.slice(start..end)).map_err(|_| CONTROL)?;
        map.try_append(name, value).map_err(|_| TOO_MANY)?;
    }
    if line_end + 4 != head.len() {
        return Err(BARE_LF);
    }
    facts.check_host(target.as_bytes())?;
    let framing = facts.framing(rules)?;
    if framing == Framing::Chunked && facts.length.is_some() {
        map.remove(CONTENT_LENGTH);
        facts.closes = true;
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes())
        .map_err(|_| HttpRejection::bad("the request method is not a token"))?;
    *request.uri_mut() = uri(head, slice(target.as_bytes()))?;
    *request.version_mut() = if is_old {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    *request.headers_mut() = map;
    Ok(RequestHead {
        request,
        framing,
        keep_alive: !facts.closes && (!is_old || facts.keeps_alive),
        expects_continue: facts.expects_continue,
    })
}

fn uri(head: &Bytes, (start, end): (usize, usize)) -> Result<Uri, HttpRejection> {
    let target = head.slice(start..end);
    // It would be cut off.
    if memchr(b'#', &target).is_some() {
        return Err(HttpRejection::bad(
            "the request target has a fragment (\"#\")",
        ));
    }
    Uri::from_maybe_shared(target)
        .map_err(|_| HttpRejection::bad("the request target is not a valid URI"))
}

const CONTROL: HttpRejection = HttpRejection::bad("a header's value contains a control character");

/// What the fields say about their message.
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
    fn new(is_old: bool) -> Self {
        Self {
            is_old,
            host: None,
            length: None,
            is_chunked: false,
            expects_continue: false,
            closes: false,
            keeps_alive: false,
        }
    }

    fn add(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), HttpRejection> {
        // Compare the length first, since most headers are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.replace(value).is_some() {
                    return Err(HttpRejection::bad(
                        "the request has more than one Host header",
                    ));
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") && !self.is_old => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(HttpRejection {
                        status: StatusCode::EXPECTATION_FAILED,
                        reason: "the only supported expectation is 100-continue",
                    });
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|b| *b == b',') {
                    let option = option.trim_ascii();
                    self.closes |= option.eq_ignore_ascii_case(b"close");
                    self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.replace(decimal(value)?).is_some() {
                    return Err(HttpRejection::bad(
                        "the request has more than one Content-Length header",
                    ));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HttpRejection::bad(
                        "the only Transfer-Encoding understood is a single \"chunked\"",
                    ));
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, rules: &HeadRules) -> Result<Framing, HttpRejection> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) if !rules.both_lengths => Err(HttpRejection::bad(
                "the request has both Transfer-Encoding and Content-Length",
            )),
            (true, _) if self.is_old => {
                Err(HttpRejection::bad("HTTP/1.0 has no Transfer-Encoding"))
            }
            (true, _) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Sized(length)),
        }
    }

    /// HTTP/1.1 requires one `Host`, which must agree with an absolute target (RFC 9112, 3.2, 3.2.2).
    fn check_host(&self, target: &[u8]) -> Result<(), HttpRejection> {
        match self.host {
            None if !self.is_old => {
                return Err(HttpRejection::bad("the request has no Host header"));
            }
            Some(host) if !host.iter().all(|b| is_host(*b)) => {
                return Err(HttpRejection::bad(
                    "the Host header is not a host name with optional port",
                ));
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
            Some(host) if !same_host(authority, host) => Err(HttpRejection::bad(
                "the Host header and the host of the request target differ",
            )),
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

/// Returns what is wrong with a head that httparse has refused.
#[cold]
fn explain(head: &[u8]) -> HttpRejection {
    let mut lines = head.split_inclusive(|b| *b == b'\n');
    let mut next_line = || match lines.next().unwrap_or_default() {
        b"" => Ok(&[][..]),
        line => line.strip_suffix(b"\r\n").ok_or(BARE_LF),
    };
    let explained = next_line().and_then(explain_request_line);
    if let Err(rejection) = explained {
        return rejection;
    }
    loop {
        match next_line() {
            Ok([]) => return HttpRejection::bad("the head is malformed"),
            Ok(line) => {
                if let Err(rejection) = explain_field(line) {
                    return rejection;
                }
            }
            Err(rejection) => return rejection,
        }
    }
}

fn explain_request_line(line: &[u8]) -> Result<(), HttpRejection> {
    let mut parts = line.splitn(3, |b| *b == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(SHAPE);
    };
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return Err(HttpRejection::bad("the request method is not a token"));
    }
    if target.is_empty() || target.iter().any(|b| *b <= b' ' || *b == 0x7f) {
        return Err(SHAPE);
    }
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(HttpRejection {
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                reason: "this version of HTTP is not spoken here; use HTTP/1.1",
            });
        }
        _ => return Err(SHAPE),
    }
    // A part of the target that httparse does not let pass.
    match Uri::try_from(target) {
        Err(_) => Err(HttpRejection::bad("the request target is not a valid URI")),
        Ok(_) => Ok(()),
    }
}

fn explain_field(line: &[u8]) -> Result<(), HttpRejection> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(HttpRejection::bad(
            "a header is folded over several lines, which is obsolete",
        ));
    }
    let colon = memchr(b':', line).ok_or(HttpRejection::bad("a header line has no colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(HttpRejection::bad(
            "there is white space between a header's name and its colon",
        ));
    }
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return Err(HttpRejection::bad("a header's name is not a token"));
    }
    let is_control = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f;
    match value.iter().any(is_control) {
        true => Err(CONTROL),
        false => Ok(()),
    }
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

/// The names of the protocols of uploads, which cost no allocation this way.
fn known_name(name: &str) -> Option<HeaderName> {
    static NAMES: [HeaderName; 10] = [
        HeaderName::from_static("tus-resumable"),
        HeaderName::from_static("upload-length"),
        HeaderName::from_static("upload-offset"),
        HeaderName::from_static("upload-metadata"),
        HeaderName::from_static("upload-checksum"),
        HeaderName::from_static("upload-concat"),
        HeaderName::from_static("upload-complete"),
        HeaderName::from_static("upload-defer-length"),
        HeaderName::from_static("upload-draft-interop-version"),
        HeaderName::from_static("x-forwarded-proto"),
    ];
    if !matches!(
        name.as_bytes().first(),
        Some(b'T' | b't' | b'U' | b'u' | b'X' | b'x')
    ) {
        return None;
    }
    let is_name = |known: &&HeaderName| {
        known.as_str().len() == name.len() && known.as_str().eq_ignore_ascii_case(name)
    };
    NAMES.iter().find(is_name).cloned()
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `uri-host [ ":" port ]`, RFC 3986 section 3.2.2.
fn is_host(byte: u8) -> bool {
    static HOST: [bool; 256] = alphanumeric_or(b"-._~!$&'()*+,;=:[]%");
    HOST[usize::from(byte)]
}

const fn alphanumeric_or(others: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < set.len() {
        set[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        set[others[at] as usize] = true;
        at += 1;
    }
    set
}
