use crate::{store::info::UploadInfo, upload::UploadId};

/// Checks that a decoded description is encoded to an equivalent one.
///
/// # Panics
/// If a property is violated.
pub fn info(id: &UploadId, json: &[u8]) {
    let Ok(read) = UploadInfo::decode(id, json) else {
        return;
    };
    let written = read.encode();
    let mut again =
        UploadInfo::decode(id, &written).expect("an encoded description can be decoded");
    assert_eq!(again.unverified_from, read.unverified_from);
    assert_eq!(again.damaged, read.damaged);
    assert_eq!(again.extensions, read.extensions);
    assert!(
        !again.upload.created_by_tusd,
        "a description encoded here is Landfall's"
    );
    again.upload.created_by_tusd = read.upload.created_by_tusd;
    assert_eq!(again.upload, read.upload);
    assert_eq!(again.encode(), written, "the encoding is canonical");
    assert_eq!(read.upload.id, *id, "the id is that of the file name");
    assert!(!written.contains(&b'\n'));
}
