use std::sync::Arc;

use crate::{store::info::UploadInfo, upload::Upload};

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) upload: Arc<Upload>,
    /// See [`UploadInfo::unverified_from`].
    pub(super) unverified_from: Option<u64>,
    /// A sync failed, so the bytes are not reliable.
    pub(super) damaged: Option<String>,
    /// See [`UploadInfo::concatenated_unknown`].
    pub(super) concatenated_unknown: bool,
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
