//! Reads each HTTP/1 head before hyper does, and refuses what two parsers could read in two ways.
//!
//! hyper is strict, but some shapes that request smuggling is made of leave no trace in the request
//! it hands on: `Content-Length` beside `Transfer-Encoding`, a repeated `Content-Length`, lines
//! ended by a bare LF. What it refuses by itself it refuses without a word. So the bytes pass here
//! first, and a refused head is answered with a sentence that says what is wrong.
//!
//! To find the next head in a connection with several requests, the guard follows the framing of
//! bodies too: one subtraction per read for a body of known length, a small machine for chunks. If
//! guard and hyper should ever disagree on where a head begins, the counts of heads differ, and the
//! request is refused (see [`super::edge`]): a mistake here can't let a request slip by.

use http::StatusCode;
use memchr::memchr;

use super::handover::Remainder;
use super::refusal::Refusal;

/// hyper's own limit; past it hyper would refuse without a word.
const MAX_HEADERS: usize = 100;

/// Follows one connection's input. Give it every byte, in order, by [`scan`](Self::scan).
///
/// Heads are handed on whole: hyper sees no byte of a head the guard refuses, and parses none twice.
/// So are trailers, so that a connection can be replaced while its client stalls among them. Of a head
/// or trailers that have not come whole it keeps at most a few bytes more than the limit; of anything
/// else it keeps nothing.
#[derive(Debug)]
pub struct Guard {
    state: State,
    /// The beginning of a head or of trailers that have not come whole. Empty otherwise, and without
    /// memory.
    partial: Vec<u8>,
    heads: u32,
    max_head: usize,
}

#[derive(Debug)]
enum State {
    Head,
    /// In a body of known length, with so many bytes to come.
    Sized(u64),
    Chunked(Chunk),
    /// The chunks make no sense, or the trailers are too large: hyper ends the body with an error, and then the connection.
    Broken,
    /// A trailer line ends with LF alone, which hyper would take for a part of the line.
    BrokenTrailer,
}

#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size { size: u64, digits: bool },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Line,
    Trailer,
    TrailerLf,
    TrailerEnd,
    End,
}

/// What [`Guard::scan`] lets pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    /// To be handed on first: what was kept of a head, or of trailers, that have come whole now.
    pub held: Vec<u8>,
    /// How many of the bytes just scanned to hand on; the others begin a head or trailers and are kept.
    pub whole: usize,
}

/// How the body after a head is delimited.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    None,
    Sized(u64),
    Chunked,
}

impl Guard {
    /// For a connection whose heads may have so many bytes each, request line included.
    #[must_use]
    pub fn new(max_head: usize) -> Self {
        Self {
            state: State::Head,
            partial: Vec::new(),
            heads: 0,
            max_head,
        }
    }

    /// How many heads have been seen whole, wrapping.
    #[must_use]
    pub fn heads(&self) -> u32 {
        self.heads
    }

    /// The memory that the beginning of a head takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.partial.capacity()
    }

    /// Frees that memory, after a rejection.
    pub(super) fn clear(&mut self) {
        self.partial = Vec::new();
    }

    /// Keeps the beginning of a head, in no more memory than the limit of heads requires.
    fn keep(&mut self, bytes: &[u8]) {
        let (len, needed) = (self.partial.len(), self.partial.len() + bytes.len());
        if needed > self.partial.capacity() {
            let doubled = needed.next_power_of_two().min(self.max_head + 4);
            self.partial.reserve_exact(doubled.max(needed) - len);
        }
        self.partial.extend_from_slice(bytes);
    }

    /// Whether the present body must end with an error because of its trailers.
    pub(super) fn has_broken_trailer(&self) -> bool {
        matches!(self.state, State::BrokenTrailer)
    }

    /// Whether [`remainder`](Self::remainder) has something to give.
    pub(super) fn is_divisible(&self) -> bool {
        match &self.state {
            State::Sized(_) | State::Chunked(_) => true,
            State::Head | State::Broken | State::BrokenTrailer => false,
        }
    }

    /// What is left of the present body, so that a new head can stand for it.
    pub(super) fn remainder(&self) -> Option<Remainder> {
        match &self.state {
            State::Sized(left) => Some(Remainder {
                head: format!("content-length: {left}\r\n\r\n"),
                skip: 0,
            }),
            State::Chunked(chunk) => {
                let (begun, skip) = chunk.beginning();
                Some(Remainder {
                    head: format!("transfer-encoding: chunked\r\n\r\n{begun}"),
                    skip,
                })
            }
            State::Head | State::Broken | State::BrokenTrailer => None,
        }
    }

    /// Looks at the next bytes of the connection, and says what to hand on now.
    ///
    /// # Errors
    /// A head must not be acted on. The guard is of no further use then.
    pub fn scan(&mut self, all: &[u8]) -> Result<Passed, Refusal> {
        let mut bytes = all;
        let mut held = Vec::new();
        // Where the trailers begin that have not come whole.
        let mut trailers = 0;
        while !bytes.is_empty() {
            match &mut self.state {
                State::Head => match self.scan_head(bytes, &mut held)? {
                    Some(rest) => bytes = rest,
                    None => {
                        return Ok(Passed {
                            held,
                            whole: all.len() - bytes.len(),
                        });
                    }
                },
                State::Sized(left) => {
                    let n = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
                    bytes = skip(bytes, n);
                    *left -= n;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                }
                State::Chunked(chunk) => match chunk.step(bytes) {
                    Some((Chunk::End, rest)) => {
                        let length = self.partial.len() + (all.len() - rest.len() - trailers);
                        self.state = if length > self.max_head {
                            State::Broken
                        } else {
                            State::Head
                        };
                        if !self.partial.is_empty() {
                            held = std::mem::take(&mut self.partial);
                        }
                        bytes = rest;
                    }
                    Some((next, rest)) => {
                        if !chunk.is_among_trailers() {
                            trailers = all.len() - rest.len();
                        }
                        *chunk = next;
                        bytes = rest;
                    }
                    None if chunk.is_trailer() && bytes.starts_with(b"\n") => {
                        self.state = State::BrokenTrailer;
                    }
                    None => {
                        self.state = State::Broken;
                        if !self.partial.is_empty() {
                            held = std::mem::take(&mut self.partial);
                        }
                    }
                },
                State::Broken => break,
                // None of them is handed on.
                State::BrokenTrailer => {
                    self.partial = Vec::new();
                    return Ok(Passed {
                        held,
                        whole: trailers,
                    });
                }
            }
        }
        if let State::Chunked(chunk) = &self.state
            && chunk.is_among_trailers()
        {
            let begun = &all[trailers..];
            if self.partial.len() + begun.len() > self.max_head {
                // hyper has the same limit, and ends the body with an error.
                self.state = State::Broken;
                if !self.partial.is_empty() {
                    held = std::mem::take(&mut self.partial);
                }
                return Ok(Passed {
                    held,
                    whole: all.len(),
                });
            }
            self.partial.extend_from_slice(begun);
            return Ok(Passed {
                held,
                whole: trailers,
            });
        }
        Ok(Passed {
            held,
            whole: all.len(),
        })
    }

    /// Takes bytes of a head; gives back what follows it, or nothing if it has not come whole.
    fn scan_head<'a>(
        &mut self,
        bytes: &'a [u8],
        held: &mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, Refusal> {
        let mut bytes = bytes;
        if self.partial == b"\r" && bytes.starts_with(b"\n") {
            self.partial = Vec::new();
            bytes = &bytes[1..];
        }
        let had = self.partial.len();
        let (framing, rest) = if had == 0 {
            // Empty lines before a request line are to be ignored (RFC 9112 section 2.2).
            while let Some(rest) = bytes.strip_prefix(b"\r\n") {
                bytes = rest;
            }
            match end_of_head(bytes, 0) {
                Some(end) => (check(bytes, end, self.max_head)?, &bytes[end..]),
                None if bytes.len() > self.max_head => return Err(TOO_LARGE),
                None => {
                    self.keep(bytes);
                    return Ok(None);
                }
            }
        } else {
            // A little more than the limit is enough to see that it is exceeded.
            let room = self.max_head.saturating_sub(had) + 4;
            self.keep(&bytes[..bytes.len().min(room)]);
            match end_of_head(&self.partial, had.saturating_sub(3)) {
                Some(end) => {
                    let framing = check(&self.partial, end, self.max_head)?;
                    self.partial.truncate(had);
                    *held = std::mem::take(&mut self.partial);
                    (framing, &bytes[end - had..])
                }
                None if self.partial.len() > self.max_head => return Err(TOO_LARGE),
                None => return Ok(None),
            }
        };
        self.heads = self.heads.wrapping_add(1);
        self.state = match framing {
            Framing::None | Framing::Sized(0) => State::Head,
            Framing::Sized(length) => State::Sized(length),
            Framing::Chunked => State::Chunked(Chunk::Size {
                size: 0,
                digits: false,
            }),
        };
        Ok(Some(rest))
    }
}

/// The answer to a large head while unfinished ones take all the memory there is for them.
pub(super) const TOO_MANY_LARGE_HEADS: Refusal = Refusal {
    status: StatusCode::SERVICE_UNAVAILABLE,
    reason: "too many clients are sending large request headers; try again in a moment",
};

const TOO_LARGE: Refusal = Refusal {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    reason: "the request line and headers together are larger than this server allows",
};

/// Where the head ends: behind the first empty line. A bare LF counts as a line's end here, so that
/// the guard never sees fewer heads than hyper; [`check`] refuses it.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
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

/// Whether a complete head is one that every parser reads alike, and how its body is framed.
fn check(bytes: &[u8], end: usize, max_head: usize) -> Result<Framing, Refusal> {
    if end > max_head {
        return Err(TOO_LARGE);
    }
    let mut lines = Lines {
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
            return Err(Refusal {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                reason: "the request has more than 100 headers",
            });
        }
        let (name, value) = split_header(line)?;
        // Told apart by length first: most headers are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") && host.replace(value).is_some() => {
                return Err(Refusal::bad("the request has more than one Host header"));
            }
            6 if name.eq_ignore_ascii_case(b"expect")
                && !request.old
                && !value.eq_ignore_ascii_case(b"100-continue") =>
            {
                return Err(Refusal {
                    status: StatusCode::EXPECTATION_FAILED,
                    reason: "the only expectation this server can meet is 100-continue",
                });
            }
            14 if name.eq_ignore_ascii_case(b"content-length")
                && length.replace(decimal(value)?).is_some() =>
            {
                return Err(Refusal::bad(
                    "the request has more than one Content-Length header",
                ));
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::bad(
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
        (true, Some(_)) => Err(Refusal::bad(
            "the request has both Transfer-Encoding and Content-Length",
        )),
        (true, None) if request.old => Err(Refusal::bad("HTTP/1.0 has no Transfer-Encoding")),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(length)) => Ok(Framing::Sized(length)),
        (false, None) => Ok(Framing::None),
    }
}

struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The next line without its CRLF; an empty one if there is none.
    fn next_line(&mut self) -> Result<&'a [u8], Refusal> {
        let Some(lf) = memchr(b'\n', self.rest) else {
            return Ok(&[]);
        };
        let (line, rest) = self.rest.split_at(lf + 1);
        self.rest = rest;
        line.strip_suffix(b"\r\n").ok_or(Refusal::bad(
            "a line of the head ends with LF instead of CR LF",
        ))
    }
}

struct RequestLine<'a> {
    target: &'a [u8],
    /// HTTP/1.0.
    old: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
        const SHAPE: Refusal =
            Refusal::bad("the request line is not of the form METHOD TARGET HTTP/1.1");
        let mut words = line.splitn(3, |b| *b == b' ');
        let (Some(method), Some(target), Some(version)) =
            (words.next(), words.next(), words.next())
        else {
            return Err(SHAPE);
        };
        if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
            return Err(Refusal::bad("the request method is not a token"));
        }
        if target.is_empty() || target.iter().any(|b| *b <= b' ' || *b == 0x7f) {
            return Err(SHAPE);
        }
        if !target.iter().all(|b| is_plain_target(*b)) {
            if target.contains(&b'#') {
                return Err(Refusal::bad("the request target has a fragment (\"#\")"));
            }
            // hyper would refuse it without a word.
            if http::Uri::try_from(target).is_err() {
                return Err(Refusal::bad("the request target is not a valid URI"));
            }
        }
        let old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal {
                    status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    reason: "this version of HTTP is not spoken here; use HTTP/1.1",
                });
            }
            _ => return Err(SHAPE),
        };
        if method == b"CONNECT" {
            return Err(Refusal {
                status: StatusCode::NOT_IMPLEMENTED,
                reason: "this server is no proxy: CONNECT is not supported",
            });
        }
        Ok(Self { target, old })
    }

    /// RFC 9112 sections 3.2 and 3.2.2: exactly one Host in HTTP/1.1, and no second opinion beside
    /// an absolute target.
    fn check_host(&self, host: Option<&[u8]>) -> Result<(), Refusal> {
        match host {
            None if !self.old => return Err(Refusal::bad("the request has no Host header")),
            Some(host) if !host.iter().all(|b| is_host(*b)) => {
                return Err(Refusal::bad(
                    "the Host header is not a host name with optional port",
                ));
            }
            _ => {}
        }
        if self.target.starts_with(b"/") || self.target == b"*" {
            return Ok(());
        }
        let authority = self
            .target
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case(b"http://"))
            .map(|_| &self.target[7..])
            .or_else(|| {
                let scheme = self.target.get(..8)?;
                scheme
                    .eq_ignore_ascii_case(b"https://")
                    .then(|| &self.target[8..])
            })
            .ok_or(Refusal::bad(
                "the request target is neither a path nor an http URL",
            ))?;
        let end = authority
            .iter()
            .position(|b| matches!(b, b'/' | b'?' | b'#'));
        let authority = &authority[..end.unwrap_or(authority.len())];
        match host {
            Some(host) if !same_host(authority, host) => Err(Refusal::bad(
                "the Host header and the host of the request target differ",
            )),
            _ => Ok(()),
        }
    }
}

/// Whether two authorities are the same, port 80 being the same as none.
pub(super) fn same_host(a: &[u8], b: &[u8]) -> bool {
    let bare = |h| <[u8]>::strip_suffix(h, b":80").unwrap_or(h);
    bare(a).eq_ignore_ascii_case(bare(b))
}

fn split_header(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Refusal::bad(
            "a header is folded over several lines, which is obsolete",
        ));
    }
    let colon = memchr(b':', line).ok_or(Refusal::bad("a header line has no colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Refusal::bad(
            "there is white space between a header's name and its colon",
        ));
    }
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return Err(Refusal::bad("a header's name is not a token"));
    }
    if value
        .iter()
        .any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f)
    {
        return Err(Refusal::bad(
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

fn decimal(value: &[u8]) -> Result<u64, Refusal> {
    const INVALID: Refusal = Refusal::bad("Content-Length is not a decimal number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    // The two highest values have a meaning of their own inside hyper.
    let digits = str::from_utf8(value).map_err(|_| INVALID)?;
    digits
        .parse()
        .ok()
        .filter(|length| *length < u64::MAX - 1)
        .ok_or(Refusal::bad("Content-Length is too large a number"))
}

impl Chunk {
    /// Whether the last chunk has ended, and the trailers have not.
    fn is_among_trailers(self) -> bool {
        matches!(
            self,
            Self::Line | Self::Trailer | Self::TrailerLf | Self::TrailerEnd
        )
    }

    fn is_trailer(self) -> bool {
        matches!(self, Self::Line | Self::Trailer)
    }

    /// What brings a parser of chunks to this place, or to the beginning of the trailers, and how many
    /// bytes of data are in it.
    fn beginning(self) -> (String, usize) {
        match self {
            Self::Size { digits: false, .. } => (String::new(), 0),
            Self::Size { size, .. } => (format!("{size:x}"), 0),
            Self::Extension { size } => (format!("{size:x};"), 0),
            Self::SizeEnd { size } => (format!("{size:x}\r"), 0),
            Self::Data { left } => (format!("{left:x}\r\n"), 0),
            // A chunk cannot be empty without being the last.
            Self::DataCr => ("1\r\n.".to_owned(), 1),
            Self::DataLf => ("1\r\n.\r".to_owned(), 1),
            Self::Line | Self::Trailer | Self::TrailerLf | Self::TrailerEnd | Self::End => {
                ("0\r\n".to_owned(), 0)
            }
        }
    }

    /// Takes at least one byte of a chunked body. `None` if it is not one.
    fn step(self, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (byte, rest) = bytes.split_first()?;
        let next = match (self, byte) {
            (Self::Size { size, .. }, digit) if digit.is_ascii_hexdigit() => {
                let value = char::from(*digit).to_digit(16)?;
                let size = size.checked_mul(16)?.checked_add(value.into())?;
                Self::Size { size, digits: true }
            }
            (Self::Size { digits: false, .. }, _) => return None,
            (Self::Size { size, .. }, b';' | b' ' | b'\t') => Self::Extension { size },
            (Self::Size { size, .. } | Self::Extension { size }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size }, b) if *b != b'\n' => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Line,
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::Data { left }, _) => {
                let n = u64::try_from(bytes.len()).ok()?.min(left);
                let next = if n == left {
                    Self::DataCr
                } else {
                    Self::Data { left: left - n }
                };
                return Some((next, skip(bytes, n)));
            }
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size {
                size: 0,
                digits: false,
            },
            (Self::Line, b'\r') => Self::TrailerEnd,
            (Self::Line | Self::Trailer, b'\n') => return None,
            (Self::Line, _) => Self::Trailer,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::TrailerLf, b'\n') => Self::Line,
            (Self::Trailer, _) => Self::Trailer,
            (Self::TrailerEnd, b'\n') => Self::End,
            _ => return None,
        };
        Some((next, rest))
    }
}

fn skip(bytes: &[u8], n: u64) -> &[u8] {
    &bytes[usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len())..]
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// What every parser takes in a request target (RFC 3986 section 3.3).
fn is_plain_target(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(&byte)
}

/// What can stand in `uri-host [ ":" port ]` (RFC 3986 section 3.2.2).
fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&byte)
}

#[cfg(test)]
mod tests;
