//! Chunked bodies (RFC 9112 section 7.1), byte by byte.

#[derive(Clone, Copy, Debug)]
pub(super) enum Chunk {
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

impl Chunk {
    pub(super) fn is_among_trailers(self) -> bool {
        matches!(
            self,
            Self::Line | Self::Trailer | Self::TrailerLf | Self::TrailerEnd
        )
    }

    pub(super) fn is_trailer(self) -> bool {
        matches!(self, Self::Line | Self::Trailer)
    }

    /// Returns the bytes that bring a chunk parser to this state, and the bytes of data in them. Within the
    /// trailers, this is their start.
    pub(super) fn beginning(self) -> (String, usize) {
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

    /// Consumes at least one byte; `None` if the body is malformed.
    pub(super) fn step(self, bytes: &[u8]) -> Option<(Self, &[u8])> {
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
                let next = match left - n {
                    0 => Self::DataCr,
                    left => Self::Data { left },
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

pub(super) fn skip(bytes: &[u8], n: u64) -> &[u8] {
    &bytes[usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len())..]
}
