//! Parsers of settings of S3 storage and leases. Errors are as in [`value`](super::value).

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use super::address::{has_host, http_url};
use super::hooks;
use super::types::{Database, LeaseKind, Secret};
use super::value::{
    Parsed, choice, duration_or_none, duration_within, is_plain, list, one_of, printable,
    size_within, valid,
};
use landfall::hook::MediaType;
use landfall::upload::{Upload, UploadId};
use landfall_net::redacted_url;
use landfall_s3::client::ObjectHeaders;

pub(super) fn bucket(text: &str) -> Parsed<String> {
    if let Some(rest) = text.strip_prefix("s3://") {
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        return Err(match prefix {
            "" => format!("{text:?} is a URL; write the bucket name only, {name}"),
            prefix => {
                format!("{text:?} is a URL; write --s3-bucket {name} --s3-object-prefix {prefix}")
            }
        });
    }
    let is_name = is_plain(text, "-._") && text.len() <= 255 && !text.starts_with('.');
    let expected = "a bucket name; write letters, digits, dots and dashes";
    valid(text, is_name, expected)
}

pub(super) fn object_prefix(text: &str) -> Parsed<String> {
    let mut prefix = printable(text, 512, "a key prefix")?;
    if prefix
        .split('/')
        .any(|segment| matches!(segment, "." | ".."))
    {
        return Err(format!(
            "{text:?} contains the segment . or .., which HTTP clients resolve; leave it out"
        ));
    }
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    Ok(prefix)
}

pub(super) fn key(text: &str) -> Parsed<String> {
    let template = printable(text, 512, "a key template")?;
    check_template(text)?;
    if !text.is_empty() && !text.contains('{') {
        return Err(format!(
            "{text:?} is the same for all uploads, which would replace each other; add {{id}}, such as \
             {}/{{id}}",
            text.trim_end_matches('/')
        ));
    }
    Ok(template)
}

/// A name that hides the file, or that the store refuses, would refuse all uploads.
pub(super) fn file_names(text: &str) -> Parsed<String> {
    let template = printable(text, 512, "a name template")?;
    let upload = Upload::new(UploadId::random(), None);
    let name = upload.fill(text, UNIX_EPOCH, usize::MAX, usize::MAX)?;
    if !text.contains('{') {
        return Err(format!("{text:?} is the same for all uploads; add {{id}}"));
    }
    let ends = [".info", ".lock", ".stop"];
    let is_bad = |name: &str| {
        name.is_empty() || name.starts_with('.') || ends.iter().any(|end| name.ends_with(end))
    };
    if name.split('/').any(is_bad) {
        return Err(format!(
            "{text:?} must consist of names that do not start with a dot and do not end with .info, .lock or .stop"
        ));
    }
    Ok(template)
}

fn check_template(template: &str) -> Parsed<()> {
    use landfall_s3::{Layout, S3Options};

    let mut options = S3Options::new("bucket");
    options.key_template = Some(template.to_owned());
    let id = UploadId::new("0123456789abcdef").map_err(|error| error.to_string())?;
    let upload = Upload::new(id, None);
    let object = Layout::new(&options).object_ref(&upload, std::time::UNIX_EPOCH);
    object.map(drop).map_err(|error| error.to_string())
}

pub(super) fn endpoint(text: &str) -> Parsed<String> {
    http_url(text, "service URL", "https://s3.example.com")
}

pub(super) fn origin(text: &str) -> Parsed<String> {
    match endpoint(text) {
        Ok(origin) if origin.matches('/').count() == 2 => Ok(origin),
        _ => Err(format!(
            "{:?} is not an origin; write scheme and host, such as https://example.com",
            redacted_url(text)
        )),
    }
}

pub(super) fn word(text: &str) -> Parsed<String> {
    let is_word = (1..=64).contains(&text.len()) && is_plain(text, "-_.");
    let expected = "a valid name; write letters, digits and dashes, such as eu-central-1";
    valid(text, is_word, expected)
}

fn header_value(text: &str) -> Parsed<String> {
    let value = http::HeaderValue::from_str(text);
    let is_value = value.is_ok_and(|value| value.to_str().is_ok());
    let expected = "a valid header value; write ASCII without line breaks";
    valid(text, is_value, expected)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && is_plain(text, "!#$%&'*+-.^_`|~")
}

fn content_type(text: &str) -> Parsed<String> {
    match MediaType::parse(text) {
        Some(_) => header_value(text),
        None => Err(format!(
            "{text:?} is not a media type; write one such as application/octet-stream"
        )),
    }
}

fn content_disposition(text: &str) -> Parsed<String> {
    let kind = text.split(';').next().unwrap_or_default().trim();
    if !is_token(kind) {
        return Err(format!(
            "{text:?} is not a Content-Disposition; write one such as attachment, or \
             inline; filename=\"a.png\""
        ));
    }
    header_value(text)
}

fn cache_control(text: &str) -> Parsed<String> {
    let is_directive = |item: &str| {
        let (name, value) = item.split_once('=').unwrap_or((item, "0"));
        is_token(name) && (is_token(value) || value.starts_with('"'))
    };
    match list(text).find(|item| !is_directive(item)) {
        // A quoted string may contain commas.
        Some(item) if !text.contains('"') => Err(format!(
            "{item:?} is not a Cache-Control directive; write for example private, max-age=3600"
        )),
        _ => header_value(text),
    }
}

const ENCRYPTION: &[&str] = &["AES256", "aws:kms", "aws:kms:dsse"];

const ACLS: &[&str] = &[
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

fn kms_key(text: &str) -> Parsed<String> {
    let is_key = (1..=2048).contains(&text.len()) && is_plain(text, ":/_-.");
    let expected = "a KMS key; write its id, its ARN, or alias/NAME";
    valid(text, is_key, expected)
}

const MAX_PART_SIZE: u64 = 5 << 30;

pub(super) fn part_size(text: &str) -> Parsed<u64> {
    size_within(text, 1, MAX_PART_SIZE)
}

/// Amazon allows at most seven days.
pub(super) fn url_lifetime(text: &str) -> Parsed<Duration> {
    duration_within(text, "1s", "7d")
}

/// A header of objects: its name, its field, and the parser of its value.
type ObjectHeader = (
    &'static str,
    fn(&mut ObjectHeaders) -> &mut Option<String>,
    fn(&str) -> Parsed<String>,
);

const OBJECT_HEADERS: [ObjectHeader; 8] = [
    ("Content-Type", |h| &mut h.content_type, content_type),
    (
        "Content-Disposition",
        |h| &mut h.content_disposition,
        content_disposition,
    ),
    ("Cache-Control", |h| &mut h.cache_control, cache_control),
    ("x-amz-storage-class", |h| &mut h.storage_class, word),
    ("x-amz-tagging", |h| &mut h.tagging, tagging),
    ("x-amz-acl", |h| &mut h.acl, |text| named(text, ACLS)),
    (
        "x-amz-server-side-encryption",
        |h| &mut h.sse,
        |text| named(text, ENCRYPTION),
    ),
    (
        "x-amz-server-side-encryption-aws-kms-key-id",
        |h| &mut h.sse_kms_key_id,
        kms_key,
    ),
];

/// A comma-separated list of `NAME: VALUE`.
pub(super) fn object_headers(text: &str) -> Parsed<ObjectHeaders> {
    // It would hide the headers after it.
    if text.matches('"').count() % 2 == 1 {
        return Err("has a quotation mark without its counterpart".to_owned());
    }
    let mut headers = ObjectHeaders::default();
    for line in header_lines(text) {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("{line:?} is not a header; write NAME: VALUE"))?;
        let mut known = OBJECT_HEADERS.into_iter();
        let (name, field, parse) = known
            .find(|(known, ..)| known.eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let known = OBJECT_HEADERS.map(|(known, ..)| known);
                format!("unknown header {name:?}; write {}", one_of(&known))
            })?;
        let value = parse(value.trim()).map_err(|error| format!("{name}: {error}"))?;
        if field(&mut headers).replace(value).is_some() {
            return Err(format!("duplicate header {name}"));
        }
    }
    let has_kms = headers.sse.as_ref().is_some_and(|sse| sse != "AES256");
    match headers.sse_kms_key_id.is_some() && !has_kms {
        true => Err("a KMS key requires x-amz-server-side-encryption: aws:kms".to_owned()),
        false => Ok(headers),
    }
}

/// Returns the headers of a comma-separated list. An item that begins with no name continues the value before it.
fn header_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_quoted = false;
    let items = text.split(|c| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    for item in items.map(str::trim).filter(|item| !item.is_empty()) {
        let is_named = item.split_once(':').is_some_and(|(name, _)| is_token(name));
        match lines.last_mut() {
            Some(line) if !is_named => line.extend([", ", item]),
            _ => lines.push(item.to_owned()),
        }
    }
    lines
}

/// Tags in the syntax of S3, that of a query.
fn tagging(text: &str) -> Parsed<String> {
    let pairs = text.split('&').map(|pair| pair.split_once('='));
    let keys: Vec<_> = pairs.map(|pair| pair.map(|(key, _)| key)).collect();
    let unique: HashSet<_> = keys
        .iter()
        .flatten()
        .filter(|key| !key.is_empty())
        .collect();
    let is_valid = is_plain(text, "-_.~+%=&") && unique.len() == keys.len() && keys.len() <= 10;
    let expected = "tags; write at most 10, such as team=video&env=prod, percent-encoded";
    valid(text, is_valid, expected)
}

fn named(text: &str, known: &[&str]) -> Parsed<String> {
    let known: Vec<_> = known.iter().map(|name| (*name, *name)).collect();
    choice(text, &known).map(str::to_owned)
}

pub(super) fn lease(text: &str) -> Parsed<LeaseKind> {
    let is_redis = || Ok(LeaseKind::Redis(Secret::new(text)));
    match (text, text.split_once("://").map(|(scheme, _)| scheme)) {
        ("auto", _) => Ok(LeaseKind::Auto),
        ("memory", _) => Ok(LeaseKind::Memory),
        ("store", _) => Ok(LeaseKind::Store),
        (_, None) => Err(format!(
            "unknown value {:?}; write auto, memory, store, or the URL of a Redis or PostgreSQL \
             server such as redis://localhost:6379 or postgres://landfall@localhost/landfall",
            redacted_url(text)
        )),
        (_, Some("redis+unix")) => is_redis(),
        (_, Some("redis" | "rediss")) if has_host(text) => is_redis(),
        (_, Some("redis" | "rediss")) => {
            let example = "redis://user:password@host:6379/0";
            Err(format!(
                "is not the URL of one Redis server; write one such as {example}"
            ))
        }
        (_, Some("postgres" | "postgresql")) => match hooks::database(text) {
            Ok(Some(Database::Postgres(url))) => Ok(LeaseKind::Postgres(Secret::new(url))),
            _ => Err("has no server; write a URL such as \
                      postgres://landfall@localhost/landfall"
                .into()),
        },
        (_, Some(scheme)) => Err(format!(
            "unknown scheme {scheme}://; write redis://, rediss:// for Redis over TLS, \
             redis+unix:// or postgres://"
        )),
    }
}

pub(super) fn lease_ttl(text: &str) -> Parsed<Option<Duration>> {
    let ttl = duration_or_none(text)?;
    ttl.map(|_| duration_within(text, "1s", "10m")).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_reject_urls() {
        for name in ["a", "my-bucket.2", "Old_Bucket"] {
            assert_eq!(bucket(name).as_deref(), Ok(name));
        }
        assert!(bucket("s3://b").unwrap_err().ends_with("only, b"));
        let error = bucket("s3://b/x/y").unwrap_err();
        assert!(
            error.ends_with("--s3-bucket b --s3-object-prefix x/y"),
            "{error}"
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
        assert_eq!(object_prefix("/a//b").as_deref(), Ok("/a//b/"));
        for prefix in ["a\nb", "..", "a/../b", "./a"] {
            object_prefix(prefix).unwrap_err();
        }
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
        for text in ["team=video&kept=", "a%20b=c+d"] {
            assert_eq!(tagging(text).as_deref(), Ok(text));
        }
        for text in ["", "team", "=x", "a=1&a=2", "a=1, b=2", "a=ä"] {
            tagging(text).unwrap_err();
        }
        let eleven: Vec<String> = (0..11).map(|n| format!("k{n}=v")).collect();
        tagging(&eleven.join("&")).unwrap_err();
    }

    #[test]
    fn object_headers_are_those_of_s3() {
        let headers = object_headers(
            "cache-control: private, max-age=60,Content-Disposition: inline; filename=\"a, b: c.txt\", \
             X-Amz-Server-Side-Encryption: aws:kms, x-amz-acl:private",
        );
        let wanted = ObjectHeaders {
            cache_control: Some("private, max-age=60".into()),
            content_disposition: Some("inline; filename=\"a, b: c.txt\"".into()),
            sse: Some("aws:kms".into()),
            acl: Some("private".into()),
            ..ObjectHeaders::default()
        };
        assert_eq!(headers, Ok(wanted));
        for (text, error) in [
            (
                "no-store",
                "\"no-store\" is not a header; write NAME: VALUE",
            ),
            (
                "Cache-Control: private, x-amz-sse: AES256",
                "unknown header \"x-amz-sse\"",
            ),
            (
                "x-amz-acl: private, X-Amz-Acl: private",
                "duplicate header x-amz-acl",
            ),
            ("x-amz-acl: everyone", "x-amz-acl: unknown value"),
            ("x-amz-storage-class:", "x-amz-storage-class: "),
            (
                "Content-Disposition: inline; filename=\"a, x-amz-acl: private",
                "has a quotation mark",
            ),
        ] {
            let found = object_headers(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
        let key = "x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:eu-west-1:1:key/2";
        for (sse, is_valid) in [("aws:kms:dsse", true), ("AES256", false), ("aws", false)] {
            let text = format!("{key}, x-amz-server-side-encryption: {sse}");
            assert_eq!(object_headers(&text).is_ok(), is_valid, "{text}");
        }
        object_headers(key).unwrap_err();
    }

    #[test]
    fn leases_are_names_or_urls() {
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
            "redis://a,b",
            "redis://a:6379,b:6379/0",
            "postgres://",
        ] {
            lease(text).unwrap_err();
        }
        let error = lease("redis://:secret@ho st/").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn values_of_object_headers_are_valid_http() {
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
        for text in ["", "my key", "*"] {
            kms_key(text).unwrap_err();
        }
    }

    #[test]
    fn keys_differ_between_uploads() {
        for text in ["{id}", "{date}/x", "in/{filename}"] {
            key(text).unwrap();
        }
        let error = key("uploads/").unwrap_err();
        assert!(error.contains("uploads/"), "{error}");
        assert!(key("video").unwrap_err().ends_with("such as video/{id}"));
    }

    #[test]
    fn headers_and_lifetimes_have_bounds() {
        header_value("inline; filename=\"a.png\"").unwrap();
        header_value("a\r\nb").unwrap_err();
        header_value("ä").unwrap_err();
        url_lifetime("8d").unwrap_err();
        url_lifetime("500ms").unwrap_err();
        lease_ttl("500ms").unwrap_err();
        part_size("6GiB").unwrap_err();
    }
}
