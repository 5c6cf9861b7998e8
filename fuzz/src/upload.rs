//! Upload ids, URLs and descriptions.

use std::{
    path::{Component, Path},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Request, Uri, Version, request::Parts, uri::PathAndQuery};
use landfall::{
    Composer, Config, LocationStyle,
    service::{
        Forwarded, Peer,
        fuzzing::{self, Precondition, RangeRequest, UploadUrls},
    },
    store::{MemoryStore, info::UploadInfo},
    upload::UploadId,
};

use crate::head::{headers, text};

/// An id never refers to a path outside the directory or to another upload's files, and needs no
/// escaping in URLs.
pub fn upload_id(data: &[u8]) {
    let Some(sent) = text(data) else { return };
    let Ok(id) = UploadId::new(sent) else { return };
    assert_eq!(id.as_str(), sent);
    assert_eq!(id.to_string(), sent);

    let base = Path::new("/srv/uploads");
    let place = base.join(id.as_str());
    let below = place.strip_prefix(base).expect("stays below");
    assert!(
        below
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    );
    assert_eq!(below.components().count(), sent.split('/').count());
    assert_eq!(below.to_str(), Some(sent));
    // The text after a plus is a multipart upload id, and not part of the file name.
    let named = match sent.rsplit_once('+') {
        Some((object, multipart)) if !multipart.contains('/') => object,
        _ => sent,
    };
    let mut names = named.split('/');
    assert!(names.all(|name| name.len() <= 255 - ".info".len()));

    for suffix in [".info", ".part", ".lock", ".stop"] {
        assert!(!sent.split('/').any(|name| name.ends_with(suffix)));
        assert!(UploadId::new(&format!("{sent}{suffix}")).is_err());
    }

    let url = format!("/files/{id}");
    let parsed: PathAndQuery = url.parse().expect("a path");
    assert_eq!(parsed.path(), url);
    assert_eq!(parsed.query(), None);
}

/// The description of an upload in tusd's format: a decoded one is encoded to an equivalent one.
pub fn info(data: &[u8]) {
    let id = UploadId::new("24e533e02ec3bc40c387f1a0e460e216").expect("an id");
    let Ok(read) = UploadInfo::decode(&id, data) else {
        return;
    };
    let written = read.encode();
    let mut again =
        UploadInfo::decode(&id, &written).expect("an encoded description can be decoded");
    assert_eq!(again.unverified_from, read.unverified_from);
    assert_eq!(again.damaged, read.damaged);
    assert_eq!(again.extensions, read.extensions);
    assert!(
        !again.upload.created_by_tusd,
        "a description encoded here is Landfall's"
    );
    std::sync::Arc::make_mut(&mut again.upload).created_by_tusd = read.upload.created_by_tusd;
    assert_eq!(again.upload, read.upload);
    assert_eq!(again.encode(), written, "the encoding is canonical");
    assert_eq!(read.upload.id, id, "the id is that of the file name");
    assert!(!written.contains(&b'\n'));
}

/// The URL of an upload resolves to it, for all forwarded headers. The first byte selects settings, the
/// first line is the id, headers follow.
pub fn location(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let line = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
    let Some(Ok(id)) = text(&rest[..line]).map(UploadId::new) else {
        return;
    };
    check_location(choice, &headers(&rest[line..]), &id);
}

/// A URL in `Upload-Concat`. The first byte selects settings, the first line is the URL, headers follow.
pub fn part_url(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let line = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
    // Header values have been checked to be visible ASCII.
    let Some(url) = text(&rest[..line]).filter(|url| url.bytes().all(|b| b.is_ascii_graphic()))
    else {
        return;
    };
    check_part_url(choice, &headers(&rest[line..]), url);
}

/// `Range` and the conditions around it. The first eight bytes are the length.
pub fn range(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else {
        return;
    };
    check_range(&headers(rest), u64::from_le_bytes(*length) >> 1);
}

fn upload_urls(choice: u8) -> UploadUrls {
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

/// `Location` is a valid header and URL, and resolves to the upload.
fn check_location(choice: u8, headers: &HeaderMap, id: &UploadId) {
    let urls = upload_urls(choice);
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

/// A part of a final upload resolves to a valid id or is rejected.
fn check_part_url(choice: u8, headers: &HeaderMap, url: &str) {
    let urls = upload_urls(choice);
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
    if let Some(below) = fuzzing::below(&urls.base(&request.extensions), url) {
        assert!(!below.starts_with('/') && !below.ends_with('/'));
        if let Ok(id) = UploadUrls::id(below) {
            assert_eq!(UploadId::new(id.as_str()), Ok(id));
        }
    }
}

/// A range is within the resource, and conditions are evaluated.
fn check_range(headers: &HeaderMap, length: u64) {
    let value = headers.get("range").and_then(|value| value.to_str().ok());
    match RangeRequest::parse(value, length) {
        RangeRequest::Full => {}
        RangeRequest::Partial(part) => {
            assert!(
                part.start < part.end && part.end <= length,
                "{part:?} of {length}"
            );
            let same = format!("bytes={}-{}", part.start, part.end - 1);
            assert_eq!(
                RangeRequest::parse(Some(&same), length),
                RangeRequest::Partial(part)
            );
        }
        RangeRequest::Unsatisfiable => {
            let value = value.expect("a range was requested");
            assert!(value.contains('-') && !value.contains(','), "{value:?}");
        }
    }
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let decision = Precondition::evaluate(headers, "\"e\"", modified);
    let has = |names: [&str; 2]| names.iter().any(|name| headers.contains_key(*name));
    match decision {
        Precondition::Failed => assert!(has(["if-match", "if-unmodified-since"])),
        Precondition::NotModified => assert!(has(["if-none-match", "if-modified-since"])),
        Precondition::Proceed { range } => assert!(range || headers.contains_key("if-range")),
    }
}
