//! The name of an upload.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The longest id, in bytes.
pub const MAX_ID_LEN: usize = 1024;

/// The longest segment (between slashes) of an id, in bytes: with `.info` it is still a file name.
///
/// What follows a `+` in the last segment doesn't count: S3 stores put the name of a multipart
/// upload there, as tusd does, which is longer than that on some services.
pub const MAX_SEGMENT_LEN: usize = 250;

/// Endings of names that stores keep for themselves.
const RESERVED: [&str; 4] = [".info", ".part", ".lock", ".stop"];

/// The id of an upload: the part of its URL below the base path.
///
/// Made at random by [`UploadId::random`], or given by a hook. An id holds only characters that
/// stand for themselves in a URL path; it may have several segments (`2026/11/report.pdf`), none of
/// them empty, `.`, `..` or starting with a dot, so it can never point outside a directory. No
/// segment is longer than [`MAX_SEGMENT_LEN`] or has a name that stores keep for themselves
/// (`….info`, `….part`, `….lock`, `….stop`).
///
/// Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(Arc<str>);

/// Why a text is not an [`UploadId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// No characters at all.
    #[error("an upload id can't be empty")]
    Empty,
    /// More than [`MAX_ID_LEN`] bytes, or a segment of more than [`MAX_SEGMENT_LEN`].
    #[error("an upload id can't be this long")]
    TooLong,
    /// A character outside `A-Z a-z 0-9 - . _ ~ % ! $ ' ( ) * + , ; = / : @`.
    #[error("an upload id can't hold the character {0:?}")]
    Character(char),
    /// A leading, trailing or doubled slash, or a segment that starts with a dot.
    #[error("each segment of an upload id must be a plain name that doesn't start with a dot")]
    Segment,
    /// A segment is a name that stores use beside an upload's data.
    #[error("no segment of an upload id can end with .info, .part, .lock or .stop")]
    Reserved,
}

impl UploadId {
    /// A new id of 128 random bits as 32 lower-case hexadecimal digits, as tusd makes them. The id
    /// is unguessable, so it may serve as the only key to its upload.
    #[must_use]
    pub fn random() -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let bytes: [u8; 16] = rand::random();
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(std::str::from_utf8(&text).unwrap_or_default().into())
    }

    /// Checks and takes an id.
    ///
    /// # Errors
    /// [`InvalidId`] says which rule it breaks.
    pub fn new(id: &str) -> Result<Self, InvalidId> {
        if id.is_empty() {
            return Err(InvalidId::Empty);
        }
        if id.len() > MAX_ID_LEN {
            return Err(InvalidId::TooLong);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~%!$'()*+,;=/:@".contains(c);
        if let Some(c) = id.chars().find(|&c| !allowed(c)) {
            return Err(InvalidId::Character(c));
        }
        for segment in id.split('/') {
            if segment.is_empty() || segment.starts_with('.') {
                return Err(InvalidId::Segment);
            }
            // A directory with such a name would be in the way of another upload's file.
            if RESERVED.iter().any(|suffix| segment.ends_with(suffix)) {
                return Err(InvalidId::Reserved);
            }
        }
        let named = id.rsplit_once('+').filter(|(_, rest)| !rest.contains('/'));
        let named = named.map_or(id, |(object, _)| object);
        if named
            .split('/')
            .any(|segment| segment.len() > MAX_SEGMENT_LEN)
        {
            return Err(InvalidId::TooLong);
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadId({})", self.0)
    }
}

impl Borrow<str> for UploadId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for UploadId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_32_hex_digits_and_differ() {
        let (a, b) = (UploadId::random(), UploadId::random());
        assert_eq!(a.as_str().len(), 32);
        assert!(
            a.as_str()
                .bytes()
                .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
        );
        assert_ne!(a, b);
        assert_eq!(UploadId::new(a.as_str()), Ok(a));
    }

    #[test]
    fn nothing_that_leaves_a_directory_is_an_id() {
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "./a",
            "a/.b",
            ".landfall/x",
        ] {
            assert!(UploadId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(UploadId::new("a b"), Err(InvalidId::Character(' ')));
        assert_eq!(UploadId::new("a\0b"), Err(InvalidId::Character('\0')));
        assert_eq!(UploadId::new("x.info"), Err(InvalidId::Reserved));
        assert_eq!(UploadId::new(&"a".repeat(1025)), Err(InvalidId::TooLong));
        assert_eq!(UploadId::new("a.info/b"), Err(InvalidId::Reserved));
        assert_eq!(UploadId::new("a/b.lock/c"), Err(InvalidId::Reserved));
        assert!(UploadId::new("2026/11/report (1).pdf").is_err());
        assert!(UploadId::new("2026/11/report_(1).pdf").is_ok());
    }

    #[test]
    fn a_description_beside_each_id_is_a_possible_file_name() {
        let (fits, too_long) = ("a".repeat(250), "a".repeat(251));
        for id in [
            fits.clone(),
            format!("{fits}/b"),
            format!("b/{fits}/{fits}"),
            format!("{fits}+{too_long}"), // object and multipart upload
        ] {
            assert!(UploadId::new(&id).is_ok(), "{id}");
        }
        for id in [
            too_long.clone(),
            format!("{too_long}/b"),
            format!("b/{too_long}/c"),
            format!("{too_long}+b"),
            format!("a+{too_long}/b"),
        ] {
            assert_eq!(UploadId::new(&id), Err(InvalidId::TooLong), "{id}");
        }
    }
}
