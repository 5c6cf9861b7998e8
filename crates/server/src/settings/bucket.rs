//! Reads the texts of settings about S3 storage and leases. Errors are as in
//! [`value`](super::value).

use std::time::Duration;

use super::hooks;
use super::types::{Database, LeaseKind, Secret, redacted_url};
use super::value::{Parsed, duration_or_none, list, size_within, some_duration};

/// Where a text may be empty: `None` then.
pub(super) fn or_none<T>(text: &str, read: impl FnOnce(&str) -> Parsed<T>) -> Parsed<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    read(text).map(Some)
}

/// A bucket's name: wider than Amazon's rules, which other services don't share.
pub(super) fn bucket(text: &str) -> Parsed<String> {
    if let Some(rest) = text.strip_prefix("s3://") {
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        return Err(match prefix {
            "" => format!("{text:?} is a URL; write its name alone, {name}"),
            prefix => {
                format!("{text:?} is a URL; write --s3-bucket {name} --s3-object-prefix {prefix}")
            }
        });
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !text.bytes().all(plain) || text.len() > 255 || text.starts_with('.') {
        return Err(format!(
            "{text:?} can't be the name of a bucket: those are of letters, digits, dots and dashes"
        ));
    }
    Ok(text.to_owned())
}

/// What keys begin with; a slash is added at the end if there is none.
pub(super) fn object_prefix(text: &str) -> Parsed<String> {
    if text.len() > 512 || text.contains(char::is_control) {
        return Err(
            "can't be what keys begin with: at most 512 bytes without control characters"
                .to_owned(),
        );
    }
    Ok(match text {
        "" => String::new(),
        text if text.ends_with('/') => text.to_owned(),
        text => format!("{text}/"),
    })
}

/// The template of keys, which the store reads.
pub(super) fn key(text: &str) -> Parsed<String> {
    if text.len() > 512 || text.contains(char::is_control) {
        return Err(
            "can't be a template of keys: at most 512 bytes without control characters".to_owned(),
        );
    }
    #[cfg(feature = "s3")]
    check_template(text)?;
    if !text.is_empty() && !text.contains('{') {
        return Err(format!(
            "{text:?} is the same for all uploads, so that each replaces the one before; write {{id}} \
             into it, such as {}/{{id}}",
            text.trim_end_matches('/')
        ));
    }
    Ok(text.to_owned())
}

/// Tries a template of keys.
#[cfg(feature = "s3")]
fn check_template(template: &str) -> Parsed<()> {
    use landfall::upload::{Upload, UploadId};
    use landfall_s3::{Layout, S3Options};

    let mut options = S3Options::new("bucket");
    options.key_template = Some(template.to_owned());
    let id = UploadId::new("0123456789abcdef").map_err(|error| error.to_string())?;
    Layout::new(&options)
        .object_ref(&Upload::new(id, None), std::time::UNIX_EPOCH)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The URL of a service. What is wrong with it is told without its password.
pub(super) fn endpoint(text: &str) -> Parsed<String> {
    const EXAMPLE: &str = "https://s3.example.com";
    let shown = redacted_url(text);
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!(
            "{shown:?} has no scheme; write https://{shown}, or http://{shown} if it has no TLS"
        ));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(format!("{shown:?} is neither http:// nor https://"));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let valid = text
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    if !valid || rest.contains(['?', '#']) || authority.contains('@') {
        return Err(format!(
            "{shown:?} is not the URL of a service; write one such as {EXAMPLE}"
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The origin of a web page.
pub(super) fn origin(text: &str) -> Parsed<String> {
    match endpoint(text) {
        Ok(origin) if origin.matches('/').count() == 2 => Ok(origin),
        _ => Err(format!(
            "{:?} is not an origin; write scheme and host, such as https://example.com",
            redacted_url(text)
        )),
    }
}

/// A region, or something else of one word.
pub(super) fn word(text: &str) -> Parsed<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err(format!(
            "{text:?} is not a name of letters, digits and dashes, such as eu-central-1"
        ));
    }
    Ok(text.to_owned())
}

/// A value that goes into a header as it is.
pub(super) fn header_value(text: &str) -> Parsed<String> {
    match http::HeaderValue::from_str(text) {
        Ok(value) if value.to_str().is_ok() => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} can't go into a header; write it without line breaks, in ASCII"
        )),
    }
}

/// Whether a text is a token of HTTP.
fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

/// The type of objects.
pub(super) fn content_type(text: &str) -> Parsed<String> {
    let essence = text.split(';').next().unwrap_or_default().trim();
    match essence.split_once('/') {
        Some((kind, sub)) if is_token(kind) && is_token(sub) && !essence.contains('*') => {
            header_value(text)
        }
        _ => Err(format!(
            "{text:?} is not a type; write one such as application/octet-stream"
        )),
    }
}

/// Whether objects are shown or saved.
pub(super) fn content_disposition(text: &str) -> Parsed<String> {
    let kind = text.split(';').next().unwrap_or_default().trim();
    if !is_token(kind) {
        return Err(format!(
            "{text:?} is not a Content-Disposition; write one such as attachment, or \
             inline; filename=\"a.png\""
        ));
    }
    header_value(text)
}

/// How long objects may be cached.
pub(super) fn cache_control(text: &str) -> Parsed<String> {
    let is_directive = |item: &str| {
        let (name, value) = item.split_once('=').unwrap_or((item, "0"));
        is_token(name) && (is_token(value) || value.starts_with('"'))
    };
    match list(text).find(|item| !is_directive(item)) {
        // What stands in quotes may have commas in it.
        Some(item) if !text.contains('"') => Err(format!(
            "{item:?} is not a directive of Cache-Control; write such as private, max-age=3600"
        )),
        _ => header_value(text),
    }
}

/// The id, the alias or the ARN of a key.
pub(super) fn kms_key(text: &str) -> Parsed<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-.".contains(&byte);
    if text.len() > 2048 || !text.bytes().all(plain) {
        return Err(format!(
            "{text:?} is not a key; write its id, its ARN, or alias/NAME"
        ));
    }
    Ok(text.to_owned())
}

/// Amazon's largest part.
const LARGEST_PART: u64 = 5 << 30;

/// The size of a part.
pub(super) fn part_size(text: &str) -> Parsed<u64> {
    size_within(text, 1, LARGEST_PART)
}

/// How long a presigned URL works: Amazon's longest are seven days.
pub(super) fn redirect_lifetime(text: &str) -> Parsed<Duration> {
    let span = some_duration(text)?;
    if span < Duration::from_secs(1) || span > Duration::from_secs(7 * 86_400) {
        return Err(format!(
            "{text} can't be the lifetime of a URL; write one from 1s to 7d"
        ));
    }
    Ok(span)
}

/// Tags of objects: `KEY=VALUE` with commas between them.
pub(super) fn tags(text: &str) -> Parsed<Vec<(String, String)>> {
    let mut tags: Vec<(String, String)> = Vec::new();
    for item in list(text) {
        let (key, value) = item
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("{item:?} is not a tag; write KEY=VALUE"))?;
        if key.chars().count() > 128 || value.chars().count() > 256 {
            return Err(format!(
                "the tag {key:?} is too long: keys end at 128 characters, values at 256"
            ));
        }
        if tags.iter().any(|(known, _)| known == key) {
            return Err(format!("the tag {key:?} is there twice"));
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    if tags.len() > 10 {
        return Err(format!(
            "there are {} tags; an object has 10 at most",
            tags.len()
        ));
    }
    Ok(tags)
}

/// Where leases are kept. A URL isn't cited: it may hold a password.
pub(super) fn lease(text: &str) -> Parsed<LeaseKind> {
    match text {
        "auto" => Ok(LeaseKind::Auto),
        "memory" => Ok(LeaseKind::Memory),
        "store" => Ok(LeaseKind::Store),
        _ => {
            let Some((scheme, _)) = text.split_once("://") else {
                return Err(format!(
                    "{:?} is not known; write auto, memory, store, or the URL of a Redis or \
                     PostgreSQL such as redis://localhost:6379 or \
                     postgres://landfall@localhost/landfall",
                    redacted_url(text)
                ));
            };
            if scheme == "redis+unix" {
                return Ok(LeaseKind::Redis(Secret::new(text)));
            }
            if matches!(scheme, "postgres" | "postgresql") {
                return match hooks::database(text) {
                    Ok(Some(Database::Postgres(url))) => Ok(LeaseKind::Postgres(url)),
                    _ => Err("names no server; write a URL such as \
                              postgres://landfall@localhost/landfall"
                        .to_owned()),
                };
            }
            if !matches!(scheme, "redis" | "rediss") {
                return Err(format!(
                    "{scheme}:// is not known; write redis://, rediss:// for Redis over TLS, \
                     redis+unix:// or postgres://"
                ));
            }
            let valid = text
                .parse::<http::Uri>()
                .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
            if !valid {
                return Err(
                    "is not the URL of a Redis; write one such as redis://user:password@host:6379/0"
                        .to_owned(),
                );
            }
            Ok(LeaseKind::Redis(Secret::new(text)))
        }
    }
}

/// How long leases outlive their holder; 0 leaves it open.
pub(super) fn lease_ttl(text: &str) -> Parsed<Option<Duration>> {
    let Some(span) = duration_or_none(text)? else {
        return Ok(None);
    };
    if span < Duration::from_secs(1) || span > Duration::from_secs(600) {
        return Err(format!(
            "{text} is no good lifetime; write one from 1s to 10m"
        ));
    }
    Ok(Some(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_names_not_urls() {
        for name in ["a", "my-bucket.2", "Old_Bucket"] {
            assert_eq!(bucket(name).as_deref(), Ok(name));
        }
        assert!(bucket("s3://b").unwrap_err().ends_with("alone, b"));
        let told = bucket("s3://b/x/y").unwrap_err();
        assert!(
            told.ends_with("-s3-bucket b --s3-object-prefix x/y"),
            "{told}"
        );
        for name in ["a/b", "..", "a b", "ä", "https://x"] {
            bucket(name).unwrap_err();
        }
    }

    #[test]
    fn prefixes_end_with_a_slash() {
        assert_eq!(object_prefix("").as_deref(), Ok(""));
        assert_eq!(object_prefix("a/b").as_deref(), Ok("a/b/"));
        assert_eq!(object_prefix("a/").as_deref(), Ok("a/"));
        object_prefix("a\nb").unwrap_err();
    }

    #[test]
    fn endpoints_are_urls() {
        assert_eq!(
            endpoint("http://127.0.0.1:3900/").as_deref(),
            Ok("http://127.0.0.1:3900")
        );
        assert_eq!(
            endpoint("https://x.example/s3").as_deref(),
            Ok("https://x.example/s3")
        );
        assert!(
            endpoint("localhost:3900")
                .unwrap_err()
                .contains("http://localhost:3900")
        );
        for url in [
            "s3://b",
            "http://",
            "http://u:p@x/",
            "http://x/?a",
            "http://x y",
        ] {
            endpoint(url).unwrap_err();
        }
    }

    #[test]
    fn tags_are_pairs() {
        let both = [("team", "video"), ("kept", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(tags("team=video, kept="), Ok(both.to_vec()));
        assert_eq!(tags(""), Ok(Vec::new()));
        for text in ["team", "=x", "a=1,a=2"] {
            tags(text).unwrap_err();
        }
        let eleven: Vec<String> = (0..11).map(|n| format!("k{n}=v")).collect();
        tags(&eleven.join(",")).unwrap_err();
    }

    #[test]
    fn leases_are_words_or_urls() {
        assert_eq!(lease("store"), Ok(LeaseKind::Store));
        let url = "rediss://:secret@redis.example:6380/2";
        assert_eq!(lease(url), Ok(LeaseKind::Redis(Secret::new(url))));
        assert!(!format!("{:?}", lease(url)).contains("secret"));
        let url = "postgres://landfall:secret@db.example/landfall";
        assert_eq!(lease(url), Ok(LeaseKind::Postgres(Secret::new(url))));
        assert!(!format!("{:?}", lease(url)).contains("secret"));
        for text in [
            "",
            "disk",
            "redis:6379",
            "http://x",
            "redis://",
            "postgres://",
        ] {
            lease(text).unwrap_err();
        }
        let told = lease("redis://:secret@ho st/").unwrap_err();
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn headers_of_objects_are_what_http_has() {
        for text in [
            "image/png",
            "text/html; charset=utf-8",
            "application/vnd.x+json",
        ] {
            content_type(text).unwrap();
        }
        for text in ["png", "x y", "image/*", "/png", "image/"] {
            content_type(text).unwrap_err();
        }
        for text in ["attachment", "inline; filename=\"a, b.txt\""] {
            content_disposition(text).unwrap();
        }
        for text in ["x y", "; a", "a/b"] {
            content_disposition(text).unwrap_err();
        }
        for text in [
            "no-store",
            "private, max-age=60",
            "private=\"a, b\", no-cache",
        ] {
            cache_control(text).unwrap();
        }
        for text in ["max age 60", "max-age: 60"] {
            cache_control(text).unwrap_err();
        }
        kms_key("arn:aws:kms:eu-west-1:1:key/2").unwrap();
        kms_key("my key").unwrap_err();
    }

    #[test]
    fn keys_differ_between_uploads() {
        for text in ["{id}", "{date}/x", "in/{filename}"] {
            key(text).unwrap();
        }
        let told = key("uploads/").unwrap_err();
        assert!(told.contains("uploads/"), "{told}");
        assert!(key("video").unwrap_err().ends_with("such as video/{id}"));
    }

    #[test]
    fn headers_and_lifetimes_have_bounds() {
        header_value("inline; filename=\"a.png\"").unwrap();
        header_value("a\r\nb").unwrap_err();
        header_value("ä").unwrap_err();
        redirect_lifetime("8d").unwrap_err();
        redirect_lifetime("500ms").unwrap_err();
        lease_ttl("500ms").unwrap_err();
        part_size("6GiB").unwrap_err();
    }
}
