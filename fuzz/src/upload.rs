//! What stands for an upload.

use std::path::{Component, Path};

use http::uri::PathAndQuery;
use landfall::upload::UploadId;

use crate::head::text;

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
    assert!(
        below
            .components()
            .all(|part| part.as_os_str().len() <= 255 - ".info".len())
    );

    for suffix in [".info", ".part", ".lock", ".stop"] {
        assert!(!sent.ends_with(suffix));
        assert!(UploadId::new(&format!("{sent}{suffix}")).is_err());
    }

    let url = format!("/files/{id}");
    let parsed: PathAndQuery = url.parse().expect("a path");
    assert_eq!(parsed.path(), url);
    assert_eq!(parsed.query(), None);
}
