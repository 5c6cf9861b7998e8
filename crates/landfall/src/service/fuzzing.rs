//! Properties of URLs and ranges for fuzzing.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Request, Uri, Version, request::Parts};

use super::{
    forwarded::{Forwarded, Peer},
    range::{self, Precondition, RangeRequest},
    urls::{self, UploadUrls},
};
use crate::{Composer, Config, LocationStyle, store::MemoryStore, upload::UploadId};

fn urls(choice: u8) -> UploadUrls {
    let mut config = Config::new(Composer::join(MemoryStore::new()));
    config.base_path =
        ["/files/", "/", "/a/b", "https://up.example/x/"][usize::from(choice & 3)].into();
    config.location = match choice >> 2 & 3 {
        0 => LocationStyle::Relative,
        1 => LocationStyle::Prefix("https://cdn.example/u/".into()),
        _ => LocationStyle::Absolute,
    };
    if choice & 16 != 0 {
        config.forwarded = Forwarded::Trust;
    }
    UploadUrls::new(&config).expect("a valid configuration")
}

fn request(headers: &HeaderMap, version: Version) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.headers, parts.version) = (headers.clone(), version);
    parts
}

/// Checks that `Location` is a valid header and URL, and resolves to the upload.
///
/// # Panics
/// If a property does not hold.
pub fn location(choice: u8, headers: &HeaderMap, id: &UploadId) {
    let urls = urls(choice);
    let version = if choice & 32 != 0 {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    };
    let mut request = request(headers, version);
    request.extensions.insert(Peer {
        address: None,
        tls: choice & 64 != 0,
    });
    let location = urls.location(&request, id);
    HeaderValue::from_str(&location).expect("a header");
    if let Ok(uri) = location.parse::<Uri>() {
        assert_eq!(uri.query(), None, "{location}");
    }
    assert!(
        !location.contains(['?', '#', '"', '<', '>', ' ']),
        "{location}"
    );
    let found = urls.resolve(&request, &location);
    assert_eq!(found.as_ref(), Ok(id), "{location}");
}

/// Checks that a part of a final upload resolves to a valid id or is rejected.
///
/// # Panics
/// If a property does not hold.
pub fn resolve(choice: u8, headers: &HeaderMap, url: &str) {
    let urls = urls(choice);
    let version = if choice & 32 != 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    let request = request(headers, version);
    match urls.resolve(&request, url) {
        Ok(id) => assert_eq!(UploadId::new(id.as_str()), Ok(id)),
        Err(problem) => {
            assert!([400, 404].contains(&problem.status()), "{problem}");
            let body = problem.to_string();
            assert!(
                !body.trim_end_matches('\n').contains(char::is_control),
                "{body:?}"
            );
        }
    }
    if let Some(below) = urls::below(&urls.base(&request.extensions), url) {
        assert!(!below.starts_with('/') && !below.ends_with('/'));
        if let Ok(id) = UploadUrls::id(below) {
            assert_eq!(UploadId::new(id.as_str()), Ok(id));
        }
    }
}

/// Checks that a range is within the resource, and that conditions are evaluated.
///
/// # Panics
/// If a property does not hold.
pub fn range(headers: &HeaderMap, length: u64) {
    let value = headers.get("range").and_then(|value| value.to_str().ok());
    match range::parse(value, length) {
        RangeRequest::Full => {}
        RangeRequest::Partial(part) => {
            assert!(
                part.start < part.end && part.end <= length,
                "{part:?} of {length}"
            );
            let same = format!("bytes={}-{}", part.start, part.end - 1);
            assert_eq!(
                range::parse(Some(&same), length),
                RangeRequest::Partial(part)
            );
        }
        RangeRequest::Unsatisfiable => {
            let value = value.expect("a range was requested");
            assert!(value.contains('-') && !value.contains(','), "{value:?}");
        }
    }
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let decision = range::condition(headers, "\"e\"", modified);
    let has = |names: [&str; 2]| names.iter().any(|name| headers.contains_key(*name));
    match decision {
        Precondition::Failed => assert!(has(["if-match", "if-unmodified-since"])),
        Precondition::NotModified => assert!(has(["if-none-match", "if-modified-since"])),
        Precondition::Proceed { range } => assert!(range || headers.contains_key("if-range")),
    }
}
