//! The parsed description of an upload.

use std::sync::Arc;

use crate::{store::info::UploadInfo, upload::Upload};

/// The content of an `.info`, and the path of the data file.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) upload: Arc<Upload>,
    /// See [`UploadInfo::unverified_from`].
    pub(super) unverified_from: Option<u64>,
    /// A reason why the bytes are not reliable: a sync failed.
    pub(super) damaged: Option<String>,
    /// See [`UploadInfo::concatenated_unknown`].
    pub(super) concatenated_unknown: bool,
    /// The path of the data file, relative to the directory.
    pub(super) data_path: String,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut info = UploadInfo::new(Upload::clone(&self.upload));
        info.unverified_from = self.unverified_from;
        info.damaged.clone_from(&self.damaged);
        info.encode()
    }
}
