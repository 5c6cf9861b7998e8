//! Parsers of values. Every error has the value and the accepted syntax.

use std::{fs, time::Duration};

use landfall_client::{Algorithm, HeaderName, HeaderValue, Url};
use landfall_protocol::units;
pub(crate) use landfall_protocol::units::size;

const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A size of at least one byte, which may end in `/s`.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    match size(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err("a rate is at least 1; leave the flag out for no limit".to_owned()),
        rate => Ok(rate),
    }
}

/// A size of at least one byte.
pub(crate) fn positive_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("must be at least 1".to_owned()),
        size => Ok(size),
    }
}

/// A number from 1 to 1000.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1000) => Ok(count),
        _ => Err(format!("{text:?} is not a number from 1 to 1000")),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        Duration::ZERO => Err("must be greater than 0".to_owned()),
        duration => Ok(duration),
    }
}

pub(crate) fn url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ if is_without_scheme(text) => Err(format!(
            "{text:?} has no scheme; write https://{text}, or http://{text} without TLS"
        )),
        _ => Err(format!(
            "{text:?} is not a URL; it begins with http:// or https://"
        )),
    }
}

/// `localhost:8080/files/` and `example.com/files/`, but not `folder/file.txt`.
fn is_without_scheme(text: &str) -> bool {
    let host = text.split(['/', '#']).next().unwrap_or_default();
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    !text.contains("://")
        && (has_port || host != text && host.contains('.') && !host.starts_with('.'))
}

/// A URL of uploads whose proxies are checked. A slash at its end is kept: proxies may redirect without it.
pub(crate) fn public_url(text: &str) -> Result<Url, String> {
    let url = url(text)?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    match !has_user && url.query().is_none() && url.fragment().is_none() {
        true => Ok(url),
        false => Err(format!(
            "{text:?} is not a public URL; write one such as https://example.com/files/"
        )),
    }
}

pub(crate) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let invalid = || format!("{text:?} is not a header; write 'Name: value'");
    let (name, value) = text.split_once(':').ok_or_else(invalid)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| invalid())?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| invalid())?;
    Ok((name, value))
}

/// The key of metadata has no space, no comma, and is not empty.
pub(crate) fn metadata(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !key.contains([' ', ',']) && key.is_ascii() => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!(
            "{text:?} is not metadata; write key=value, the key in ASCII without spaces and commas"
        )),
    }
}

pub(crate) fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::by_name(text).ok_or_else(|| {
        format!(
            "{text:?} is not one of {}",
            Algorithm::LIST.replace(',', ", ")
        )
    })
}

/// A secret, or the content of the file after `@`, so that it is not visible in the list of processes.
pub(crate) fn secret(text: &str) -> Result<String, String> {
    let Some(path) = text.strip_prefix('@') else {
        return Ok(text.to_owned());
    };
    let length = fs::metadata(path).map(|metadata| metadata.len());
    if matches!(length, Ok(length) if length > MAX_SECRET_BYTES) {
        return Err(format!("{path:?} has more than {MAX_SECRET_BYTES} bytes"));
    }
    match fs::read_to_string(path) {
        Ok(secret) if !secret.trim().is_empty() => Ok(secret.trim().to_owned()),
        Ok(_) => Err(format!("{path:?} is empty")),
        Err(error) => Err(format!("failed to read {path:?}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_durations_are_positive() {
        assert_eq!(rate("60MiB/s"), Ok(60 << 20));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for text in ["0", "0s"] {
            assert!(rate(text).is_err(), "{text}");
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metadata_and_headers_have_two_parts() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(metadata("album=a=b"), pair("album", "a=b"));
        assert_eq!(metadata("empty="), pair("empty", ""));
        for text in ["album", "=x", "a b=x", "a,b=x", "ä=x"] {
            assert!(metadata(text).is_err(), "{text}");
        }
        let (name, value) = header("X-Api-Key:  secret ").unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("x-api-key", &b"secret"[..])
        );
        for text in ["X-Api-Key", "a b: c", ": c", "a: b\nc"] {
            assert!(header(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_are_absolute() {
        assert!(url("http://localhost:8080/files/").is_ok());
        for text in ["localhost:8080", "/files/", "ftp://localhost/", "video.mp4"] {
            assert!(url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn public_urls_keep_their_slash_and_have_no_password() {
        let parsed = public_url("https://example.com/files/").unwrap();
        assert_eq!(parsed.as_str(), "https://example.com/files/");
        for text in [
            "example.com/files",
            "ftp://example.com/",
            "https://a:b@example.com/",
            "https://:b@example.com/",
            "https://example.com/?a",
        ] {
            assert!(public_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_read_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "abc\n").unwrap();
        assert_eq!(
            secret(&format!("@{}", path.display())),
            Ok("abc".to_owned())
        );
        assert_eq!(secret("abc"), Ok("abc".to_owned()));
        assert!(secret("@/nonexistent").is_err());
    }
}
