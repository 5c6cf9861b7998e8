//! What stands for an upload.

use std::path::{Component, Path};

use http::uri::PathAndQuery;
use landfall::{service, store::file, upload::UploadId};

use crate::head::{headers, text};

/// An id never points outside a directory, never at a file beside another upload's data, and stands
/// for itself in a URL.
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
    // What follows a plus is the name of a multipart upload, and no part of a file's name.
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

/// The description of an upload beside its bytes, in tusd's form: what is read can be written again.
pub fn info(data: &[u8]) {
    let id = UploadId::new("24e533e02ec3bc40c387f1a0e460e216").expect("an id");
    file::fuzzing::info(&id, data);
}

/// The URL told for an upload leads back to it, whatever proxies say. The first byte chooses
/// settings, the first line is the id, headers follow.
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

/// A URL in a list of parts. The first byte chooses settings, the first line is the URL, headers
/// follow.
pub fn part_url(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let line = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
    // Header values are visible ASCII by the time a URL is taken out of one.
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
