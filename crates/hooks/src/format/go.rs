//! JSON as Go's encoder writes it.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// Without whitespace.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Go);
    // Serializing these types into memory does not fail.
    if let Err(error) = value.serialize(&mut serializer) {
        tracing::error!(%error, "failed to serialize a message");
    }
    out
}

/// Escapes the same additional characters as Go: `<`, `>`, `&`, U+2028, U+2029 and U+FFFD.
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

/// Returns its position, its length and its escape sequence.
fn next_escape(text: &str) -> Option<(usize, usize, &'static [u8])> {
    // Non-ASCII characters to escape begin with one of two bytes.
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
