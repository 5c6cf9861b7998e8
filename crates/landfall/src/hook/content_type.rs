//! Parses the content types that clients state (RFC 9110, section 8.3.1), to compare them and to send them on.
//!
//! A malformed type is `None`, never a guess. Parameters other than the charset are dropped: browsers could read
//! another type out of them.

use std::fmt;

/// Maximum length of a type or subtype (RFC 6838, section 4.2).
const MAX_NAME_LEN: usize = 127;

/// A media type (RFC 9110, section 8.3.1): its essence, and the charset if it has one.
///
/// Other parameters are checked and dropped. Its `Display` form is safe to send to a browser: browsers
/// use the last type of a comma-separated list, so no other part of the client's text may reach them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    essence: String,
    charset: Option<String>,
}

impl MediaType {
    /// Parses a media type; `None` if any part of it is malformed.
    #[must_use]
    pub fn parse(stated: &str) -> Option<Self> {
        let stated = stated.trim_matches([' ', '\t']);
        let end = stated.find(';').unwrap_or(stated.len());
        let (essence, mut rest) = stated.split_at(end);
        let essence = essence.trim_end_matches([' ', '\t']);
        let (kind, subtype) = essence.split_once('/')?;
        if !is_name(kind) || !is_name(subtype) {
            return None;
        }
        let mut charset = None;
        while let Some(parameter) = rest.strip_prefix(';') {
            let parameter = parameter.trim_start_matches([' ', '\t']);
            // An empty parameter is allowed: `text/plain;`.
            if parameter.is_empty() || parameter.starts_with(';') {
                rest = parameter;
                continue;
            }
            let (name, value) = parameter.split_once('=')?;
            if !is_token(name) {
                return None;
            }
            let length = value_length(value)?;
            if name.eq_ignore_ascii_case("charset") && charset.is_none() {
                let value = value[..length].trim_matches('"');
                charset = is_name(value).then(|| value.to_owned());
            }
            rest = value[length..].trim_start_matches([' ', '\t']);
        }
        rest.is_empty().then(|| Self {
            essence: essence.to_ascii_lowercase(),
            charset,
        })
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
    #[must_use]
    pub fn matches(&self, pattern: &str) -> bool {
        let pattern = pattern.trim();
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

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Measures the token or quoted string at the start; `None` if there is neither.
fn value_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        let length = bytes.iter().take_while(|b| is_token_byte(**b)).count();
        return (length > 0).then_some(length);
    }
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if matches!(bytes.get(at + 1)?, b'\t' | b' '..=b'~') => at += 2,
            b'\\' => return None,
            b'\t' | b' '..=b'~' => at += 1,
            _ => return None,
        }
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
            "text/plain; a",
            "text/plain; a=",
            "text/plain; a=\"b",
            "text/plain; a=\"b\" c",
            "text/plain; a b=c",
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
