//! JSON as Go's encoder writes it: one line, and text without characters that have a meaning in HTML or
//! JavaScript.

use std::{collections::BTreeMap, io::Write as _};

use crate::upload::Storage;

/// The members of an object, which are written in the order of the calls.
pub(super) struct JsonObject<'a>(&'a mut Vec<u8>);

/// A value of a member.
pub(super) trait JsonValue {
    fn write(&self, out: &mut Vec<u8>);
}

impl<'a> JsonObject<'a> {
    pub(super) fn write(out: &'a mut Vec<u8>, members: impl FnOnce(&mut JsonObject<'_>)) {
        out.push(b'{');
        members(&mut JsonObject(out));
        out.push(b'}');
    }

    /// Writes a name that has no characters to escape, and returns the place of its value.
    fn name(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.separate();
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.0
    }

    fn separate(&mut self) {
        if !self.0.ends_with(b"{") {
            self.0.push(b',');
        }
    }

    pub(super) fn member(&mut self, name: &'static str, value: impl JsonValue) {
        value.write(self.name(name));
    }

    pub(super) fn optional(&mut self, name: &'static str, value: Option<impl JsonValue>) {
        if let Some(value) = value {
            self.member(name, value);
        }
    }

    pub(super) fn object(&mut self, name: &'static str, members: impl FnOnce(&mut JsonObject<'_>)) {
        JsonObject::write(self.name(name), members);
    }

    /// Adds a member whose name is any text.
    pub(super) fn pair(&mut self, name: &str, value: &str) {
        self.separate();
        name.write(self.0);
        self.0.push(b':');
        value.write(self.0);
    }
}

impl<T: JsonValue + ?Sized> JsonValue for &T {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl JsonValue for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl JsonValue for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
    }
}

impl JsonValue for u64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
    }
}

impl<T: JsonValue> JsonValue for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl JsonValue for String {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

impl<T: JsonValue, const N: usize> JsonValue for [T; N] {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_slice().write(out);
    }
}

impl<T: JsonValue> JsonValue for [T] {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, value) in self.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            value.write(out);
        }
        out.push(b']');
    }
}

impl JsonValue for BTreeMap<String, String> {
    fn write(&self, out: &mut Vec<u8>) {
        JsonObject::write(out, |json| {
            self.iter().for_each(|(name, value)| json.pair(name, value))
        });
    }
}

impl JsonValue for Storage {
    fn write(&self, out: &mut Vec<u8>) {
        match self.files() {
            None => (**self).write(out),
            Some(files) => JsonObject::write(out, |json| {
                let write = |(name, value)| json.member(name, Concatenated(value));
                files.pairs().into_iter().for_each(write);
            }),
        }
    }
}

impl JsonValue for str {
    fn write(&self, out: &mut Vec<u8>) {
        Concatenated([self]).write(out);
    }
}

/// The parts of a text.
struct Concatenated<'a, const N: usize>([&'a str; N]);

impl<const N: usize> JsonValue for Concatenated<'_, N> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        for part in self.0 {
            let mut rest = part.as_bytes();
            // Nearly all text is plain, which is found out faster without stopping at the first special byte.
            if rest.iter().fold(false, |any, byte| any | is_special(*byte)) {
                while let Some(at) = rest.iter().position(|byte| is_special(*byte)) {
                    let (plain, special) = rest.split_at(at);
                    out.extend_from_slice(plain);
                    rest = write_special(special, out);
                }
            }
            out.extend_from_slice(rest);
        }
        out.push(b'"');
    }
}

/// Returns whether a byte is escaped, or may begin a character that is.
const fn is_special(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte: u8 = 0;
        while byte < u8::MAX {
            table[byte as usize] = matches!(
                byte,
                ..0x20 | b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2 | 0xef
            );
            byte += 1;
        }
        table
    };
    TABLE[byte as usize]
}

/// Writes the first character of `text`, and returns the rest.
fn write_special<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    const ESCAPED: [(&[u8], &[u8]); 10] = [
        (b"\"", b"\\\""),
        (b"\\", b"\\\\"),
        (b"\n", b"\\n"),
        (b"\r", b"\\r"),
        (b"\t", b"\\t"),
        (b"\x08", b"\\b"),
        (b"\x0c", b"\\f"),
        ("\u{2028}".as_bytes(), b"\\u2028"),
        ("\u{2029}".as_bytes(), b"\\u2029"),
        ("\u{fffd}".as_bytes(), b"\\ufffd"),
    ];
    for (character, escaped) in ESCAPED {
        if let Some(rest) = text.strip_prefix(character) {
            out.extend_from_slice(escaped);
            return rest;
        }
    }
    match text {
        [byte, rest @ ..] if byte.is_ascii() => {
            let _ = write!(out, "\\u{byte:04x}");
            rest
        }
        // Another character with such a first byte.
        [byte, rest @ ..] => {
            out.push(*byte);
            rest
        }
        [] => text,
    }
}
