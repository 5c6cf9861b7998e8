//! The content of a request (RFC 9112 sections 6 and 7): data without its framing, and trailers.
//!
//! Nothing here reads a socket or a clock. Data is not copied.

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;

use super::head::{self, Framing};

/// Maximum bytes of the extensions of all chunks, which are ignored.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// Removes the framing of one content.
#[derive(Debug)]
pub struct ContentDecoder {
    state: State,
    /// The start of incomplete trailers.
    trailers: Vec<u8>,
    max_trailers: usize,
    extensions: usize,
}

/// A piece of a content.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// At least one byte.
    Data(Bytes),
    /// The end of chunks that have trailers.
    Trailers(HeaderMap),
    /// The end.
    End,
}

/// The framing is not that of HTTP. Where the next request begins is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

#[derive(Clone, Copy, Debug)]
enum State {
    Sized(u64),
    Size {
        size: u64,
        digits: bool,
    },
    /// White space after the size.
    Space {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Line,
    Trailer,
    TrailerLf,
    TrailersEnd,
    End,
    Broken(&'static str),
}

impl ContentDecoder {
    /// Creates a decoder; trailers have at most `max_trailers` bytes.
    #[must_use]
    pub fn new(framing: Framing, max_trailers: usize) -> Self {
        Self {
            state: match framing {
                Framing::None => State::End,
                Framing::Sized(length) => State::Sized(length),
                Framing::Chunked => State::SIZE,
            },
            trailers: Vec::new(),
            max_trailers,
            extensions: 0,
        }
    }

    /// Returns whether everything has been decoded.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Returns the bytes of content that are left, if that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Sized(left) => Some(left),
            State::End => Some(0),
            _ => None,
        }
    }

    /// Returns the memory of incomplete trailers.
    pub(super) fn trailer_memory(&self) -> usize {
        self.trailers.capacity()
    }

    /// Fails from now on.
    pub(super) fn refuse(&mut self, reason: &'static str) {
        self.state = State::Broken(reason);
        self.trailers = Vec::new();
    }

    /// Takes the next piece from `input`, or all of it, if that contains none: then more input is needed.
    ///
    /// # Errors
    /// The framing is malformed; so is every further call.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Decoded>, Malformed> {
        loop {
            let take = match &mut self.state {
                State::End => return Ok(Some(Decoded::End)),
                State::Broken(reason) => return Err(Malformed(reason)),
                _ if input.is_empty() => return Ok(None),
                State::Sized(left) | State::Data { left } => {
                    let n = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    *left -= n as u64;
                    n
                }
                _ => {
                    if let Some(end) = self.skip_framing(input)? {
                        return Ok(Some(end));
                    }
                    continue;
                }
            };
            match self.state {
                State::Sized(0) => self.state = State::End,
                State::Data { left: 0 } => self.state = State::DataCr,
                _ => {}
            }
            return Ok(Some(Decoded::Data(input.split_to(take).freeze())));
        }
    }

    /// Up to the next data, or the end.
    fn skip_framing(&mut self, input: &mut BytesMut) -> Result<Option<Decoded>, Malformed> {
        let mut used = 0;
        for byte in input.iter() {
            used += 1;
            let was_in_trailers = self.state.is_in_trailers();
            self.state = self.state.after(*byte);
            match self.state {
                State::Space { .. } | State::Extension { .. } => self.extensions += 1,
                State::Data { .. } | State::Broken(_) | State::End => break,
                _ if was_in_trailers => self.trailers.push(*byte),
                _ => {}
            }
            if self.extensions > MAX_EXTENSIONS {
                self.state = State::Broken("the extensions of chunks are too long");
                break;
            }
            if self.trailers.len() > self.max_trailers {
                self.state = State::Broken("the trailers are too long");
                break;
            }
        }
        input.advance(used);
        match self.state {
            State::End if self.trailers.len() > 1 => {
                // The last LF is not among them.
                self.trailers.push(b'\n');
                let trailers = Bytes::from(std::mem::take(&mut self.trailers));
                let fields = head::parse_trailers(&trailers).map_err(|rejection| {
                    self.state = State::Broken(rejection.reason);
                    Malformed(rejection.reason)
                })?;
                Ok(Some(Decoded::Trailers(fields)))
            }
            State::Broken(reason) => {
                self.trailers = Vec::new();
                Err(Malformed(reason))
            }
            State::End => Ok(Some(Decoded::End)),
            _ => Ok(None),
        }
    }
}

impl State {
    const SIZE: Self = Self::Size {
        size: 0,
        digits: false,
    };

    fn is_in_trailers(self) -> bool {
        matches!(
            self,
            Self::Line | Self::Trailer | Self::TrailerLf | Self::TrailersEnd
        )
    }

    /// The state after a byte of framing.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size { size, .. }, digit) if digit.is_ascii_hexdigit() => {
                let value = char::from(digit).to_digit(16).unwrap_or_default();
                let size = size
                    .checked_mul(16)
                    .and_then(|size| size.checked_add(value.into()));
                match size {
                    Some(size) => Self::Size { size, digits: true },
                    None => Self::Broken("the size of a chunk is too large"),
                }
            }
            (Self::Size { digits: true, size } | Self::Space { size }, b' ' | b'\t') => {
                Self::Space { size }
            }
            (Self::Size { digits: true, size } | Self::Space { size }, b';') => {
                Self::Extension { size }
            }
            (
                Self::Size { digits: true, size } | Self::Space { size } | Self::Extension { size },
                b'\r',
            ) => Self::SizeEnd { size },
            (Self::Size { digits: false, .. }, _) | (Self::Space { .. }, 0x21..) => {
                Self::Broken("the size of a chunk is not a hexadecimal number")
            }
            (Self::Extension { size }, b) if b != b'\n' => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Line,
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::SIZE,
            (Self::Line, b'\r') => Self::TrailersEnd,
            (Self::Line | Self::Trailer, b'\n') => {
                Self::Broken("a trailer line ends with LF instead of CRLF")
            }
            (Self::Line | Self::Trailer, _) if byte != b'\r' => Self::Trailer,
            (Self::Trailer, _) => Self::TrailerLf,
            (Self::TrailerLf, b'\n') => Self::Line,
            (Self::TrailersEnd, b'\n') => Self::End,
            (Self::DataCr | Self::DataLf, _) => Self::Broken("a chunk is longer than its size"),
            (Self::TrailerLf | Self::TrailersEnd, _) => {
                Self::Broken("a trailer contains a control character")
            }
            _ => Self::Broken("the line with the size of a chunk does not end with CRLF"),
        }
    }
}
