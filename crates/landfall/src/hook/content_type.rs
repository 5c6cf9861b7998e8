//! Parses the content types that clients state (RFC 9110, section 8.3.1), to compare them and to send them on.
//!
//! Clients send what browsers and recorders give them, such as `video/webm;codecs=vp9,opus`, which is not valid by the
//! letter. So a type goes into headers of requests and objects as it came ([`MediaType::header_value`]), and only the
//! essence is compared. What browsers could read as another type than the compared one is refused.

use std::fmt;

/// Maximum length of a type or subtype (RFC 6838, section 4.2).
const MAX_NAME_LEN: usize = 127;

/// A media type (RFC 9110, section 8.3.1): its essence, and the charset if it has one.
///
/// Other parameters are dropped. Its `Display` form is safe to send to a browser, which displays what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    essence: String,
    charset: Option<String>,
}

impl MediaType {
    /// Maximum length of a stated type, in bytes.
    pub const MAX_LEN: usize = 255;

    /// Parses a media type; `None` if it is not a type and a subtype, or no [`header_value`](Self::header_value).
    #[must_use]
    pub fn parse(stated: &str) -> Option<Self> {
        let stated = Self::header_value(stated)?;
        let mut parts = stated.splitn(2, ';');
        let essence = parts.next()?.trim_end_matches([' ', '\t']);
        let (kind, subtype) = essence.split_once('/')?;
        if !is_name(kind) || !is_name(subtype) {
            return None;
        }
        Some(Self {
            essence: essence.to_ascii_lowercase(),
            charset: parts.next().and_then(charset),
        })
    }

    /// Returns the type as a client stated it, if it can be the value of one `Content-Type`; `None` otherwise.
    ///
    /// That is 1 to [`MAX_LEN`](Self::MAX_LEN) printable ASCII characters, not a list of types: browsers use the last one
    /// of a list. Spelling and parameters are kept, white space around them is not. It need not be a valid media type.
    #[must_use]
    pub fn header_value(stated: &str) -> Option<&str> {
        let stated = stated.trim_matches([' ', '\t']);
        let is_printable = |b| matches!(b, b'\t' | b' '..=b'~');
        let is_value =
            (1..=Self::MAX_LEN).contains(&stated.len()) && stated.bytes().all(is_printable);
        (is_value && !is_list(stated)).then_some(stated)
    }

    /// Returns whether two stated types are the same one, whatever their parameters.
    #[must_use]
    pub fn is_same(one: &str, other: &str) -> bool {
        match (Self::parse(one), Self::parse(other)) {
            (Some(one), Some(other)) => one.essence == other.essence,
            _ => one.trim().eq_ignore_ascii_case(other.trim()),
        }
    }

    /// Returns the type and subtype in lower case, without parameters.
    #[must_use]
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// Returns whether `stated` is a media type that `pattern` [matches](Self::matches).
    #[must_use]
    pub fn is_match(stated: &str, pattern: &str) -> bool {
        Self::parse(stated).is_some_and(|stated| stated.matches(pattern))
    }

    /// Returns whether `pattern` matches: `image/png`, `image/*` or `*/*`, case-insensitive.
    ///
    /// Parameters of the pattern are ignored.
    #[must_use]
    pub fn matches(&self, pattern: &str) -> bool {
        let pattern = pattern.split(';').next().unwrap_or_default().trim();
        match pattern.strip_suffix("/*") {
            Some("*") => true,
            Some(family) => self
                .essence
                .split_once('/')
                .is_some_and(|(kind, _)| kind.eq_ignore_ascii_case(family)),
            None => self.essence.eq_ignore_ascii_case(pattern),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.essence)?;
        match &self.charset {
            Some(charset) => write!(f, ";charset={charset}"),
            None => Ok(()),
        }
    }
}

/// A registrable name (RFC 6838) is narrower than a token.
fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_LEN
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
}

/// Returns whether a second type may follow a comma. Only the value of a parameter is a quoted string.
fn is_list(stated: &str) -> bool {
    let mut after_comma = false;
    let mut rest = stated;
    while let Some(c) = rest.chars().next() {
        rest = match rest.strip_prefix("=\"").and_then(after_quoted) {
            Some(after) => after,
            None => &rest[c.len_utf8()..],
        };
        match c {
            ',' => after_comma = true,
            '/' if after_comma => return true,
            _ => {}
        }
    }
    false
}

/// Skips the rest of a quoted string; `None` if it does not end.
fn after_quoted(text: &str) -> Option<&str> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some(&text[at + 1..]),
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    None
}

fn charset(mut parameters: &str) -> Option<String> {
    loop {
        let (name, value) = parameters.split_once('=')?;
        let name = name.rsplit(';').next()?.trim();
        let (value, after) = match value.strip_prefix('"').and_then(after_quoted) {
            Some(after) => (&value[..value.len() - after.len()], after),
            None => value.split_at(value.find(';').unwrap_or(value.len())),
        };
        if name.eq_ignore_ascii_case("charset") {
            let value = value.trim().trim_matches('"');
            return is_name(value).then(|| value.to_owned());
        }
        parameters = after;
    }
}

#[cfg(test)]
mod tests {
    use super::MediaType;

    #[test]
    fn only_the_essence_and_the_charset_are_printed() {
        for (stated, printed) in [
            ("image/png", "image/png"),
            (" Image/PNG ; q=1;", "image/png"),
            ("Text/Plain;charset=\"UTF-8\"", "text/plain;charset=UTF-8"),
            (
                "text/plain; charset=utf-8; charset=x",
                "text/plain;charset=utf-8",
            ),
            ("text/plain; charset=\"a,b\"", "text/plain"),
            ("video/webm; codecs=\"vp8, \\\"opus\"", "video/webm"),
            ("application/vnd.api+json", "application/vnd.api+json"),
        ] {
            let parsed = MediaType::parse(stated).map(|it| it.to_string());
            assert_eq!(parsed.as_deref(), Some(printed), "{stated}");
        }
    }

    #[test]
    fn what_clients_send_is_kept_and_compared_by_its_essence() {
        for stated in [
            "video/webm;codecs=vp9,opus",
            "video/webm; codecs=vp9,opus",
            "video/x-matroska;codecs=avc1,opus",
            "audio/ogg; codecs=opus",
            "Video/MP4; codecs=\"avc1.42E01E, mp4a.40.2\"",
            "text/plain;charset=utf-8",
            "text/plain; a",
            "text/plain; a=",
            "text/plain; a=\"b",
            "text/plain; a=\"b\" c",
            "text/plain; a b=c",
            "text/plain; a=\"x, text/html\"",
        ] {
            assert_eq!(MediaType::header_value(stated), Some(stated));
            let essence = stated.split(';').next().unwrap().to_ascii_lowercase();
            let parsed = MediaType::parse(stated).unwrap();
            assert_eq!(parsed.essence(), essence, "{stated}");
            assert!(MediaType::is_same(stated, &essence), "{stated}");
            assert!(MediaType::is_match(stated, "*/*"), "{stated}");
        }
        // No media types, but clients send them.
        for stated in ["image", "png", "image/", "image/*", "image/../html"] {
            assert_eq!(
                MediaType::header_value(&format!(" {stated}\t")),
                Some(stated)
            );
            assert_eq!(MediaType::parse(stated), None, "{stated}");
            assert!(MediaType::is_same(stated, stated) && !MediaType::is_match(stated, "*/*"));
        }
        assert!(!MediaType::is_same("image/png", "image/gif"));
        assert!(!MediaType::is_same("image", "image/gif"));
    }

    #[test]
    fn what_is_no_single_header_value_is_refused() {
        for stated in [
            "",
            " ",
            "image/png,text/html",
            "image/png;,text/html",
            "image/png;a=b, text/html",
            "image/png;a=b\"c,text/html;d=\"e",
            "image/png;a=\"b,text/html",
            "image/png;a=\"b\\\",text/html",
            "text/html\r\nX: y",
            "text/plain; a=\"\r\n\"",
            "text/plain; a=\"é\"",
            "a\0/b",
        ] {
            assert_eq!(MediaType::header_value(stated), None, "{stated:?}");
            assert_eq!(MediaType::parse(stated), None, "{stated:?}");
        }
        let long = |length| format!("a/{}", "x".repeat(length - 2));
        assert!(MediaType::header_value(&long(MediaType::MAX_LEN)).is_some());
        assert!(MediaType::header_value(&long(MediaType::MAX_LEN + 1)).is_none());
    }

    #[test]
    fn ambiguous_media_types_are_rejected() {
        for stated in [
            "",
            "image",
            "image/",
            "/png",
            "image/*",
            "image/../html",
            "image/..",
            "image/png,text/html",
            "image/png;,text/html",
            "text/plain;,text/html",
            "text/plain; a=b, text/html",
            "text /plain",
            "text/html\r\nX: y",
            "text/plain; a=\"\r\n\"",
            "text/plain; a=\"é\"",
        ] {
            assert_eq!(MediaType::parse(stated), None, "{stated:?}");
        }
        let long = format!("image/{}", "x".repeat(128));
        assert_eq!(MediaType::parse(&long), None);
    }

    #[test]
    fn patterns_name_types() {
        for (stated, pattern) in [
            ("image/png", "image/png"),
            ("IMAGE/PNG; q=1", " image/png "),
            ("image/png", "Image/*"),
            ("any/thing", "*/*"),
            ("video/webm;codecs=vp9,opus", "video/webm"),
            ("video/webm;codecs=vp9,opus", "video/*"),
            ("text/plain", "text/plain; charset=utf-8"),
        ] {
            assert!(MediaType::is_match(stated, pattern), "{stated} {pattern}");
        }
        for (stated, pattern) in [
            ("image/png", "image/gif"),
            ("imagex/png", "image/*"),
            ("image", "image/*"),
            ("image/", "image/*"),
            ("image/png;,text/html", "image/*"),
            ("image/*", "image/png"),
            ("nonsense", "*/*"),
            ("", "image/png"),
        ] {
            assert!(!MediaType::is_match(stated, pattern), "{stated} {pattern}");
        }
    }
}
