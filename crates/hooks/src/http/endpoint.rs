//! The endpoint.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use url::Url;

use super::HttpSettingsError;

/// The endpoint, with the credentials removed from its URL.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: Url,
    pub(super) uri: Uri,
    pub(super) authorization: Option<HeaderValue>,
}

impl Endpoint {
    pub(super) fn new(text: &str) -> Result<Self, HttpSettingsError> {
        let invalid = |reason: &str| HttpSettingsError::Url(reason.to_owned());
        let mut url = Url::parse(text.trim()).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("it must begin with http:// or https://"));
        }
        let authorization = basic(&url);
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        url.set_fragment(None);
        let uri = cleared.ok().and_then(|()| uri_of(&url));
        Ok(Self {
            uri: uri.ok_or_else(|| invalid("it is not an HTTP URL"))?,
            url,
            authorization,
        })
    }
}

/// Converts a URL to the HTTP library's type.
pub(super) fn uri_of(url: &Url) -> Option<Uri> {
    url.as_str().parse().ok()
}

fn basic(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let encoded = BASE64_STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_move_from_the_url_to_a_header() {
        let endpoint = Endpoint::new(" http://us%40er:p%3Aw@host:1/hook?a=b#c ").unwrap();
        assert_eq!(endpoint.uri, "http://host:1/hook?a=b");
        assert_eq!(
            endpoint.authorization.as_ref().unwrap(),
            "Basic dXNAZXI6cDp3"
        );
        let shown = format!("{endpoint:?}");
        assert!(
            !shown.contains("er:p") && !shown.contains("dXNA"),
            "{shown}"
        );
        let plain = Endpoint::new("https://host").unwrap();
        assert_eq!(
            (plain.uri.to_string().as_str(), plain.authorization),
            ("https://host/", None)
        );
    }

    #[test]
    fn rejects_invalid_urls() {
        for url in [
            "",
            "localhost:8000/hook",
            "ftp://host/",
            "http://",
            "/hook",
            "http://a b/",
        ] {
            let error = Endpoint::new(url).unwrap_err().to_string();
            assert!(error.starts_with("invalid URL of HTTP hooks: "), "{error}");
        }
    }
}
