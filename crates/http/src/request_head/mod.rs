//! Validates each HTTP/1 head before hyper parses it, against request smuggling.
//!
//! hyper is strict, but some ambiguous heads leave no trace in the parsed request: `Content-Length` with
//! `Transfer-Encoding`, a repeated `Content-Length`, lines that end with a bare LF. What hyper rejects
//! itself, it rejects without an explanation. So the bytes pass this validator first, and a rejected
//! head is answered with a sentence about the error.
//!
//! To find the next head of a connection, the validator follows the framing of bodies too: one
//! subtraction per read for a body of known length, a small state machine for chunks. If it and hyper
//! ever disagree about where a head starts, their counts of heads differ and the request is rejected
//! (see [`super::service`]). A bug here cannot let a smuggled request pass.

mod chunk;
mod head;

use http::HeaderValue;

use self::chunk::{Chunk, skip};
pub(super) use self::head::same_host;
use self::head::{Framing, HeadRules, TOO_LARGE, check, end_of_head};
use super::handover::Remainder;
use super::rejection::HttpRejection;

/// Validates the input of one connection, passed to [`scan`](Self::scan) in order.
///
/// Heads are forwarded only when complete, so hyper sees no byte of a rejected head and parses none
/// twice. The same holds for trailers, so that a connection can be replaced while its client stalls
/// among them. The buffer exceeds the limit by at most a few bytes and holds nothing else.
#[derive(Debug)]
pub struct RequestHeadValidator {
    state: State,
    /// The start of an incomplete head or trailers; otherwise without an allocation.
    partial: Vec<u8>,
    heads: u32,
    /// A head had both lengths.
    must_close: bool,
    /// The length of the last complete head, if it is large: its request holds it.
    held: usize,
    is_large: bool,
    rules: HeadRules,
}

#[derive(Debug)]
enum State {
    Head,
    Sized(u64),
    Chunked(Chunk),
    /// Malformed chunks or too large trailers: hyper ends the body with an error and closes.
    Broken,
    BrokenTrailer,
}

/// The bytes that [`RequestHeadValidator::scan`] forwards.
#[derive(Debug, PartialEq, Eq)]
pub struct ScannedHeads {
    /// Forward these first: the buffered start of a head or trailers that are complete now.
    pub buffered: Vec<u8>,
    /// Number of scanned bytes to forward; the rest starts a head or trailers and is buffered.
    pub forward_len: usize,
}

impl RequestHeadValidator {
    /// Creates the validator of a connection with a limit for heads, request line included.
    pub fn new(max_head: usize) -> Self {
        Self {
            state: State::Head,
            partial: Vec::new(),
            heads: 0,
            must_close: false,
            held: 0,
            is_large: false,
            rules: HeadRules {
                max_head,
                both_lengths: false,
            },
        }
    }

    /// Accepts `Content-Length` together with chunks, which then decide (RFC 9112 section 6.3).
    ///
    /// The connection must be closed after the response. Not for connections of proxies, which may have
    /// decided otherwise.
    #[must_use]
    pub fn accept_both_lengths(mut self, accepts: bool) -> Self {
        self.rules.both_lengths = accepts;
        self
    }

    /// Returns the number of complete heads, wrapping.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    pub(super) fn must_close(&self) -> bool {
        self.must_close
    }

    /// Returns the memory of an incomplete head, and of a large one whose request may be running.
    pub(super) fn memory(&self) -> usize {
        self.partial.capacity() + self.held
    }

    /// Returns whether the head that was scanned last, and is not forwarded yet, is large.
    pub(super) fn take_large(&mut self) -> bool {
        std::mem::take(&mut self.is_large)
    }

    /// Returns whether the method of the head that is rejected is HEAD, and its `Origin`, given the `bytes`
    /// that were scanned last.
    pub(super) fn rejected_request(&self, bytes: &[u8]) -> (bool, Option<HeaderValue>) {
        let head = match self.partial.is_empty() {
            true => bytes,
            false => &self.partial,
        };
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

    pub(super) fn clear(&mut self) {
        self.held = 0;
        self.partial = Vec::new();
    }

    /// Allocates no more memory than the limit requires.
    fn keep(&mut self, bytes: &[u8]) {
        let (len, needed) = (self.partial.len(), self.partial.len() + bytes.len());
        if needed > self.partial.capacity() {
            let doubled = needed.next_power_of_two().min(self.rules.max_head + 4);
            self.partial.reserve_exact(doubled.max(needed) - len);
        }
        self.partial.extend_from_slice(bytes);
    }

    pub(super) fn has_broken_trailer(&self) -> bool {
        matches!(self.state, State::BrokenTrailer)
    }

    pub(super) fn is_resumable(&self) -> bool {
        match &self.state {
            State::Sized(_) | State::Chunked(_) => true,
            State::Head | State::Broken | State::BrokenTrailer => false,
        }
    }

    /// The bytes left of a body of known length.
    pub(super) fn bytes_left(&self) -> Option<u64> {
        match &self.state {
            State::Sized(left) => Some(*left),
            _ => None,
        }
    }

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

    /// Scans the next bytes of the connection and returns which to forward now.
    ///
    /// # Errors
    /// A head was rejected. The validator must not be used afterwards.
    pub fn scan(&mut self, all: &[u8]) -> Result<ScannedHeads, HttpRejection> {
        let mut buffered = Vec::new();
        let forward_len = self.scan_into(all, &mut buffered)?;
        Ok(ScannedHeads {
            buffered,
            forward_len,
        })
    }

    fn scan_into(&mut self, all: &[u8], buffered: &mut Vec<u8>) -> Result<usize, HttpRejection> {
        let mut bytes = all;
        // Start of the incomplete trailers.
        let mut trailers = 0;
        while !bytes.is_empty() {
            match &mut self.state {
                State::Head => match self.scan_head(bytes, buffered)? {
                    Some(rest) => bytes = rest,
                    None => return Ok(all.len() - bytes.len()),
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
                        self.state = if length > self.rules.max_head {
                            State::Broken
                        } else {
                            State::Head
                        };
                        self.release(buffered);
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
                        self.release(buffered);
                    }
                },
                State::Broken => break,
                // None of them is forwarded.
                State::BrokenTrailer => {
                    self.partial = Vec::new();
                    return Ok(trailers);
                }
            }
        }
        if let State::Chunked(chunk) = &self.state
            && chunk.is_among_trailers()
        {
            let begun = &all[trailers..];
            if self.partial.len() + begun.len() > self.rules.max_head {
                // hyper has the same limit and ends the body with an error.
                self.state = State::Broken;
                self.release(buffered);
                return Ok(all.len());
            }
            self.partial.extend_from_slice(begun);
            return Ok(trailers);
        }
        Ok(all.len())
    }

    fn release(&mut self, buffered: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            *buffered = std::mem::take(&mut self.partial);
        }
    }

    fn scan_head<'a>(
        &mut self,
        bytes: &'a [u8],
        buffered: &mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, HttpRejection> {
        let mut bytes = bytes;
        self.held = 0;
        if self.partial == b"\r" && bytes.starts_with(b"\n") {
            self.partial = Vec::new();
            bytes = &bytes[1..];
        }
        let had = self.partial.len();
        let (framing, rest) = if had == 0 {
            // Empty lines before a request line are ignored (RFC 9112 section 2.2).
            while let Some(rest) = bytes.strip_prefix(b"\r\n") {
                bytes = rest;
            }
            match end_of_head(bytes, 0) {
                Some(end) => {
                    self.held = large(end);
                    (check(bytes, end, &self.rules)?, &bytes[end..])
                }
                None if bytes.len() > self.rules.max_head => return Err(TOO_LARGE),
                None if bytes.starts_with(TLS_HANDSHAKE) => return Err(IS_TLS),
                None => {
                    self.keep(bytes);
                    self.is_large = self.partial.len() > LARGE_HEAD;
                    return Ok(None);
                }
            }
        } else {
            // A few bytes above the limit suffice to detect that it is exceeded.
            let remaining = self.rules.max_head.saturating_sub(had) + 4;
            self.keep(&bytes[..bytes.len().min(remaining)]);
            match end_of_head(&self.partial, had.saturating_sub(3)) {
                Some(end) => {
                    let framing = check(&self.partial, end, &self.rules)?;
                    self.partial.truncate(had);
                    self.held = large(end);
                    self.is_large = self.held > 0;
                    *buffered = std::mem::take(&mut self.partial);
                    (framing, &bytes[end - had..])
                }
                None if self.partial.len() > self.rules.max_head => return Err(TOO_LARGE),
                None => {
                    self.is_large = self.partial.len() > LARGE_HEAD;
                    return Ok(None);
                }
            }
        };
        self.heads = self.heads.wrapping_add(1);
        self.state = match framing {
            Framing::None | Framing::Sized(0) => State::Head,
            Framing::Sized(length) => State::Sized(length),
            Framing::Chunked { with_length } => {
                self.must_close |= with_length;
                State::Chunked(Chunk::Size {
                    size: 0,
                    digits: false,
                })
            }
        };
        Ok(Some(rest))
    }
}

/// The buffer of every connection can hold smaller ones.
pub(super) const LARGE_HEAD: usize = 64 * 1024;

fn large(length: usize) -> usize {
    if length > LARGE_HEAD { length } else { 0 }
}

/// The first byte of a TLS connection (RFC 8446, section 5.1), which no head has.
const TLS_HANDSHAKE: &[u8] = &[22];

/// Without it, the client would wait until the time for its head is over.
const IS_TLS: HttpRejection =
    HttpRejection::bad("this port does not use TLS; write http:// instead of https://");

/// Rejects a large head when unfinished heads use all memory allowed for them.
pub(super) const TOO_MANY_LARGE_HEADS: HttpRejection = HttpRejection::busy(
    "too many clients are sending large request headers; try again in a moment",
);

#[cfg(test)]
mod tests;
