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

mod chunk;
mod head;

use http::StatusCode;

use self::chunk::{Chunk, skip};
pub(super) use self::head::same_host;
use self::head::{Framing, TOO_LARGE, check, end_of_head};
use super::handover::Remainder;
use super::refusal::Refusal;

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

/// What [`Guard::scan`] lets pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    /// To be handed on first: what was kept of a head, or of trailers, that have come whole now.
    pub held: Vec<u8>,
    /// How many of the bytes just scanned to hand on; the others begin a head or trailers and are kept.
    pub whole: usize,
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

#[cfg(test)]
mod tests;
