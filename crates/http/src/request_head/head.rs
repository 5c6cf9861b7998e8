//! One head: finds its end and rejects it if two parsers could read it differently.

use http::StatusCode;
use memchr::memchr;

use super::super::rejection::HttpRejection;

const MAX_HEADERS: usize = 100;

#[derive(Debug)]
pub(super) struct HeadRules {
    pub(super) max_head: usize,
    /// Chunks decide about a request with a length, too; the service closes the connection after it.
    pub(super) both_lengths: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Sized(u64),
    Chunked { with_length: bool },
}

pub(super) const TOO_LARGE: HttpRejection = HttpRejection {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    reason: "the request line and headers together are larger than this server allows",
};

/// A bare LF ends a line here, so that the validator never sees fewer heads than hyper; [`check`]
/// rejects it.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr(b'\n', &bytes[at..])? + 1;
        match bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

pub(super) fn check(bytes: &[u8], end: usize, rules: &HeadRules) -> Result<Framing, HttpRejection> {
    if end > rules.max_head {
        return Err(TOO_LARGE);
    }
    let mut lines = HeaderLines {
        rest: &bytes[..end],
    };
    let request_line = lines.next_line()?;
    let request = RequestLine::parse(request_line)?;

    let (mut host, mut length, mut chunked) = (None, None, false);
    let mut count = 0;
    loop {
        let line = lines.next_line()?;
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > MAX_HEADERS {
            return Err(HttpRejection {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                reason: "the request has more than 100 headers",
            });
        }
        let (name, value) = split_header(line)?;
        // Compare the length first, since most headers are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") && host.replace(value).is_some() => {
                return Err(HttpRejection::bad(
                    "the request has more than one Host header",
                ));
            }
            6 if name.eq_ignore_ascii_case(b"expect")
                && !request.old
                && !value.eq_ignore_ascii_case(b"100-continue") =>
            {
                return Err(HttpRejection {
                    status: StatusCode::EXPECTATION_FAILED,
                    reason: "the only supported expectation is 100-continue",
                });
            }
            14 if name.eq_ignore_ascii_case(b"content-length")
                && length.replace(decimal(value)?).is_some() =>
            {
                return Err(HttpRejection::bad(
                    "the request has more than one Content-Length header",
                ));
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HttpRejection::bad(
                        "the only Transfer-Encoding understood is a single \"chunked\"",
                    ));
                }
                chunked = true;
            }
            _ => {}
        }
    }
    request.check_host(host)?;
    match (chunked, length) {
        (true, Some(_)) if !rules.both_lengths => Err(HttpRejection::bad(
            "the request has both Transfer-Encoding and Content-Length",
        )),
        (true, _) if request.old => Err(HttpRejection::bad("HTTP/1.0 has no Transfer-Encoding")),
        (true, length) => Ok(Framing::Chunked {
            with_length: length.is_some(),
        }),
        (false, Some(length)) => Ok(Framing::Sized(length)),
        (false, None) => Ok(Framing::None),
    }
}

struct HeaderLines<'a> {
    rest: &'a [u8],
}

impl<'a> HeaderLines<'a> {
    /// An empty line at the end.
    fn next_line(&mut self) -> Result<&'a [u8], HttpRejection> {
        let Some(lf) = memchr(b'\n', self.rest) else {
            return Ok(&[]);
        };
        let (line, rest) = self.rest.split_at(lf + 1);
        self.rest = rest;
        line.strip_suffix(b"\r\n").ok_or(HttpRejection::bad(
            "a line of the head ends with LF instead of CR LF",
        ))
    }
}

struct RequestLine<'a> {
    target: &'a [u8],
    old: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, HttpRejection> {
        const SHAPE: HttpRejection =
            HttpRejection::bad("the request line is not of the form METHOD TARGET HTTP/1.1");
        let mut parts = line.splitn(3, |b| *b == b' ');
        let (Some(method), Some(target), Some(version)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(SHAPE);
        };
        if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
            return Err(HttpRejection::bad("the request method is not a token"));
        }
        if target.is_empty() {
            return Err(SHAPE);
        }
        if !target.iter().all(|b| is_plain_target(*b)) {
            if target.iter().any(|b| *b <= b' ' || *b == 0x7f) {
                return Err(SHAPE);
            }
            if target.contains(&b'#') {
                return Err(HttpRejection::bad(
                    "the request target has a fragment (\"#\")",
                ));
            }
            // hyper would reject it without an explanation.
            if http::Uri::try_from(target).is_err() {
                return Err(HttpRejection::bad("the request target is not a valid URI"));
            }
        }
        let old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(HttpRejection {
                    status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    reason: "this version of HTTP is not spoken here; use HTTP/1.1",
                });
            }
            _ => return Err(SHAPE),
        };
        if method == b"CONNECT" {
            return Err(HttpRejection {
                status: StatusCode::NOT_IMPLEMENTED,
                reason: "this server is no proxy: CONNECT is not supported",
            });
        }
        Ok(Self { target, old })
    }

    /// HTTP/1.1 requires one `Host`, which must agree with an absolute target (RFC 9112, 3.2, 3.2.2).
    fn check_host(&self, host: Option<&[u8]>) -> Result<(), HttpRejection> {
        match host {
            None if !self.old => return Err(HttpRejection::bad("the request has no Host header")),
            Some(host) if !host.iter().all(|b| is_host(*b)) => {
                return Err(HttpRejection::bad(
                    "the Host header is not a host name with optional port",
                ));
            }
            _ => {}
        }
        if self.target.starts_with(b"/") || self.target == b"*" {
            return Ok(());
        }
        let after = |scheme: &[u8]| {
            let (start, rest) = self.target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        };
        let rest = after(b"http://")
            .or_else(|| after(b"https://"))
            .ok_or(HttpRejection::bad(
                "the request target is neither a path nor an http URL",
            ))?;
        let mut parts = rest.split(|b| matches!(b, b'/' | b'?' | b'#'));
        let authority = parts.next().unwrap_or_default();
        match host {
            Some(host) if !same_host(authority, host) => Err(HttpRejection::bad(
                "the Host header and the host of the request target differ",
            )),
            _ => Ok(()),
        }
    }
}

/// Port 80 equals no port.
pub(in super::super) fn same_host(a: &[u8], b: &[u8]) -> bool {
    let bare = |h| <[u8]>::strip_suffix(h, b":80").unwrap_or(h);
    bare(a).eq_ignore_ascii_case(bare(b))
}

fn split_header(line: &[u8]) -> Result<(&[u8], &[u8]), HttpRejection> {
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
    // Without an early exit, so that it is compiled to vector instructions.
    let is_control = |b: u8| (b < b' ' && b != b'\t') || b == 0x7f;
    if value.iter().fold(false, |any, b| any | is_control(*b)) {
        return Err(HttpRejection::bad(
            "a header's value contains a control character",
        ));
    }
    Ok((name, trim(value)))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
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

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    static TOKEN: [bool; 256] = alphanumeric_or(b"!#$%&'*+-.^_`|~");
    TOKEN[usize::from(byte)]
}

/// RFC 3986 section 3.3, as every parser accepts it.
fn is_plain_target(byte: u8) -> bool {
    static TARGET: [bool; 256] = alphanumeric_or(b"-._~!$&'()*+,;=:@/?%[]");
    TARGET[usize::from(byte)]
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
