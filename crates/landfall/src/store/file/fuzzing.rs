//! What must hold for every `.info`, whatever is in it.

use crate::{store::info::Info, upload::UploadId};

/// What can be read can be written, and then says the same.
///
/// # Panics
/// If a property is broken.
pub fn info(id: &UploadId, json: &[u8]) {
    let Ok(read) = Info::decode(id, json) else {
        return;
    };
    let written = read.encode();
    let mut again = Info::decode(id, &written).expect("what was written can be read");
    assert_eq!(again.unverified_from, read.unverified_from);
    assert_eq!(again.damaged, read.damaged);
    assert_eq!(again.notes, read.notes);
    assert!(!again.upload.foreign, "what was written here is ours");
    again.upload.foreign = read.upload.foreign;
    assert_eq!(again.upload, read.upload);
    assert_eq!(again.encode(), written, "one description has one form");
    assert_eq!(
        read.upload.id, *id,
        "the name of the file counts, not what is in it"
    );
    assert!(!written.contains(&b'\n'));
}
