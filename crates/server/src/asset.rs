//! Static files compiled into the program.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read as _};
use std::path::Path;

use http::{HeaderMap, HeaderValue, StatusCode, header};

pub(crate) const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
pub(crate) const CSS: &str = "text/css; charset=utf-8";
pub(crate) const SVG: &str = "image/svg+xml";
pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// The largest image that is read, in bytes.
const MAX_IMAGE: u64 = 1024 * 1024;

/// Returns the media type of an image by the extension of its file.
pub(crate) fn image_type(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "svg" => SVG,
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        _ => return None,
    })
}

/// A static file.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

impl Asset {
    /// Reads an image, for the life of the process.
    pub(crate) fn read_image(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_IMAGE + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_IMAGE {
            return Err(io::Error::other("is larger than 1 MiB"));
        }
        Ok(Self {
            content_type: image_type(path).unwrap_or_default(),
            bytes: bytes.leak(),
        })
    }

    /// Returns the `ETag` of the content, including quotes.
    pub fn etag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.bytes);
        format!("\"{:016x}\"", hasher.finish())
    }

    pub(crate) fn respond(
        &self,
        request_headers: &HeaderMap,
    ) -> (StatusCode, HeaderMap, &'static [u8]) {
        let known = request_headers.get(header::IF_NONE_MATCH);
        let etag = self.etag();
        let is_current = known.is_some_and(|known| known.as_bytes() == etag.as_bytes());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::CONTENT_TYPE, self.content_type),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CACHE_CONTROL, "no-cache"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            headers.insert(header::ETAG, etag);
        }
        match is_current {
            true => (StatusCode::NOT_MODIFIED, headers, b""),
            false => (StatusCode::OK, headers, self.bytes),
        }
    }
}

/// Embeds files of a directory of this crate: `assets! { "DIR": "NAME": CONTENT_TYPE, … }`.
macro_rules! assets {
    ($folder:literal: $($name:literal: $content_type:expr),* $(,)?) => {
        &[$(($name, $crate::asset::Asset {
            content_type: $content_type,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $folder, "/", $name)),
        })),*]
    };
}
pub(crate) use assets;

pub(crate) fn fill<'a>(template: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut html = String::with_capacity(template.len() + 256);
    let mut rest = template;
    while let Some((before, opened)) = rest.split_once("{{") {
        html.push_str(before);
        let known = opened.split_once("}}");
        let known = known.and_then(|(name, after)| Some((value(name)?, after)));
        rest = match known {
            Some((value, after)) => {
                escape(value, &mut html);
                after
            }
            None => {
                html.push_str("{{");
                opened
            }
        };
    }
    html.push_str(rest);
    html
}

fn escape(value: &str, html: &mut String) {
    for character in value.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_or_unclosed_placeholders_stay() {
        let filled = fill("{{a}} {{b}} {{a", |name| (name == "a").then_some("1"));
        assert_eq!(filled, "1 {{b}} {{a");
    }

    #[test]
    fn etags_are_quoted_and_follow_the_content() {
        let etag = |bytes: &'static [u8]| {
            let content_type = CSS;
            Asset {
                content_type,
                bytes,
            }
            .etag()
        };
        assert!(etag(b"").len() == 18 && etag(b"").starts_with('"') && etag(b"").ends_with('"'));
        assert_eq!(etag(b"foobar"), etag(b"foobar"));
        assert_ne!(etag(b"foobar"), etag(b"foobaz"));
    }

    #[test]
    fn a_matching_etag_is_answered_with_304() {
        let asset = Asset {
            content_type: CSS,
            bytes: b"a",
        };
        let mut request_headers = HeaderMap::new();
        let (status, headers, bytes) = asset.respond(&request_headers);
        assert_eq!((status, bytes), (StatusCode::OK, &b"a"[..]));
        request_headers.insert(header::IF_NONE_MATCH, headers[header::ETAG].clone());
        let (status, headers, bytes) = asset.respond(&request_headers);
        assert_eq!((status, bytes), (StatusCode::NOT_MODIFIED, &b""[..]));
        assert_eq!(headers[header::ETAG], asset.etag());
    }
}
