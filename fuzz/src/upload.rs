//! Upload ids, URLs and descriptions.

use std::path::{Component, Path};

use http::uri::PathAndQuery;
use landfall::{service, store::file, upload::UploadId};

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

/// The description of an upload in tusd's format: it survives a round trip.
pub fn info(data: &[u8]) {
    let id = UploadId::new("24e533e02ec3bc40c387f1a0e460e216").expect("an id");
    file::fuzzing::info(&id, data);
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
    service::fuzzing::location(choice, &headers(&rest[line..]), &id);
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
    service::fuzzing::resolve(choice, &headers(&rest[line..]), url);
}

/// `Range` and the conditions around it. The first eight bytes are the length.
pub fn range(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else {
        return;
    };
    service::fuzzing::range(&headers(rest), u64::from_le_bytes(*length) >> 1);
}
