//! Parsers of values. Every error has the value and the accepted syntax.

use std::{fs, time::Duration};

use landfall_client::{Algorithm, HeaderName, HeaderValue, Url};

/// Units of one letter are omitted: `M` is ambiguous.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
];
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Bytes, or a number with a unit, such as `1.5GiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let invalid = || {
        format!(
            "{text:?} is not a size; write bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB"
        )
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_uppercase();
    if unit.is_empty() {
        return number.parse().map_err(|_| invalid());
    }
    let (_, scale) = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(invalid)?;
    match number.parse::<u64>() {
        Ok(number) => number
            .checked_mul(*scale)
            .ok_or_else(|| format!("{text} is too large")),
        Err(_) => {
            let number: f64 = number.parse().map_err(|_| invalid())?;
            // Exact below 2^53 bytes, and large values are rounded, not wrapped.
            Ok((number * *scale as f64) as u64)
        }
    }
}

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
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| {
            format!("{text:?} is not a time; write it with a unit, such as 300ms, 10s or 1h30m")
        })
}

pub(crate) fn url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(format!(
            "{text:?} is not a URL; it begins with http:// or https://"
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
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("123", 123),
            ("64KiB", 65_536),
            ("1.5 mib", 1_572_864),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "1M",
            "-1KiB",
            "1.2.3KiB",
            "1.5",
            "99999999999TiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(rate("60MiB/s"), Ok(60 << 20));
        assert!(rate("0").is_err());
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
