//! What must hold for every `.info`, whatever is in it.

use crate::{store::info::UploadInfo, upload::UploadId};

/// What can be read can be written, and then says the same.
///
/// # Panics
/// If a property is broken.
pub fn info(id: &UploadId, json: &[u8]) {
    let Ok(read) = UploadInfo::decode(id, json) else {
        return;
    };
    let written = read.encode();
    let mut again = UploadInfo::decode(id, &written).expect("what was written can be read");
    assert_eq!(again.unverified_from, read.unverified_from);
    assert_eq!(again.damaged, read.damaged);
    assert_eq!(again.extensions, read.extensions);
    assert!(
        !again.upload.created_by_tusd,
        "what was written here is ours"
    );
    again.upload.created_by_tusd = read.upload.created_by_tusd;
    assert_eq!(again.upload, read.upload);
    assert_eq!(again.encode(), written, "one description has one form");
    assert_eq!(
        read.upload.id, *id,
        "the name of the file counts, not what is in it"
    );
    assert!(!written.contains(&b'\n'));
}
