//! JSON as Go's encoder writes it.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// A value as JSON without blanks.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Go);
    // Strings, numbers and maps with text as keys go into memory: nothing of that can fail.
    if let Err(error) = value.serialize(&mut serializer) {
        tracing::error!(%error, "a message could not be written as JSON");
    }
    out
}

/// Escapes what Go escapes besides: what HTML or JavaScript could take for its own, and the character
/// that stands for bytes that are no UTF-8.
struct Go;

impl Formatter for Go {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, length, escape)) = next_escape(rest) {
            writer.write_all(&rest.as_bytes()[..at])?;
            writer.write_all(escape)?;
            rest = &rest[at + length..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// The first character to escape: where it is, how many bytes it has, and what is written instead.
fn next_escape(text: &str) -> Option<(usize, usize, &'static [u8])> {
    // Of the characters beyond ASCII those to escape begin with one of two bytes.
    let candidates = text
        .bytes()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'<' | b'>' | b'&' | 0xE2 | 0xEF));
    for (at, byte) in candidates {
        let found: (usize, &[u8]) = match byte {
            b'<' => (1, br"\u003c"),
            b'>' => (1, br"\u003e"),
            b'&' => (1, br"\u0026"),
            _ => match text.as_bytes().get(at + 1..at + 3) {
                Some([0x80, 0xA8]) if byte == 0xE2 => (3, br"\u2028"),
                Some([0x80, 0xA9]) if byte == 0xE2 => (3, br"\u2029"),
                Some([0xBF, 0xBD]) if byte == 0xEF => (3, br"\ufffd"),
                _ => continue,
            },
        };
        return Some((at, found.0, found.1));
    }
    None
}
