//! Parsers of settings of S3 storage and leases. Errors are as in [`value`](super::value).

use std::time::Duration;

use super::address::{has_host, http_url};
use super::hooks;
use super::types::{Database, Encryption, LeaseKind, Secret};
use super::value::{
    Parsed, choice, duration_or_none, duration_within, is_plain, list, printable, size_within,
    valid,
};
use landfall_net::redacted_url;

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

fn check_template(template: &str) -> Parsed<()> {
    use landfall::upload::{Upload, UploadId};
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

pub(super) fn header_value(text: &str) -> Parsed<String> {
    let value = http::HeaderValue::from_str(text);
    let is_value = value.is_ok_and(|value| value.to_str().is_ok());
    let expected = "a valid header value; write ASCII without line breaks";
    valid(text, is_value, expected)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && is_plain(text, "!#$%&'*+-.^_`|~")
}

pub(super) fn content_type(text: &str) -> Parsed<String> {
    let essence = text.split(';').next().unwrap_or_default().trim();
    match essence.split_once('/') {
        Some((kind, sub)) if is_token(kind) && is_token(sub) && !essence.contains('*') => {
            header_value(text)
        }
        _ => Err(format!(
            "{text:?} is not a media type; write one such as application/octet-stream"
        )),
    }
}

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

pub(super) fn cache_control(text: &str) -> Parsed<String> {
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

const ENCRYPTION: &[(&str, &str)] = &[
    ("AES256", "AES256"),
    ("aws:kms", "aws:kms"),
    ("aws:kms:dsse", "aws:kms:dsse"),
];

pub(super) fn encryption(text: &str) -> Parsed<Encryption> {
    let (name, key) = match text.split_once('=') {
        None => (text, None),
        Some(("AES256", _)) => return Err("AES256 has no KMS keys; write aws:kms=KEY".into()),
        Some((name, key)) => (name, Some(kms_key(key)?)),
    };
    Ok(Encryption {
        algorithm: choice(name, ENCRYPTION)?,
        kms_key: key,
    })
}

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

/// A comma-separated list of `KEY=VALUE`.
pub(super) fn tags(text: &str) -> Parsed<Vec<(String, String)>> {
    let mut tags: Vec<(String, String)> = Vec::new();
    for item in list(text) {
        let pair = item.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| format!("{item:?} is not a tag; write KEY=VALUE"))?;
        if key.chars().count() > 128 || value.chars().count() > 256 {
            return Err(format!(
                "the tag {key:?} is too long; the maximum is 128 characters for keys, 256 for values"
            ));
        }
        if tags.iter().any(|(known, _)| known == key) {
            return Err(format!("duplicate tag {key:?}"));
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    if tags.len() > 10 {
        return Err(format!("{} tags exceed the maximum of 10", tags.len()));
    }
    Ok(tags)
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
            Err("is not a Redis URL; write one such as redis://user:password@host:6379/0".into())
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
            "postgres://",
        ] {
            lease(text).unwrap_err();
        }
        let error = lease("redis://:secret@ho st/").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn object_headers_are_valid_http() {
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
        for (text, algorithm, kms_key) in [
            ("AES256", "AES256", None),
            ("aws:kms", "aws:kms", None),
            (
                "aws:kms:dsse=arn:aws:kms:eu-west-1:1:key/2",
                "aws:kms:dsse",
                Some("arn:aws:kms:eu-west-1:1:key/2".to_owned()),
            ),
        ] {
            let wanted = Encryption { algorithm, kms_key };
            assert_eq!(encryption(text), Ok(wanted));
        }
        for text in ["aws", "AES256=k", "aws:kms=", "aws:kms=my key", "k=aws:kms"] {
            encryption(text).unwrap_err();
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
