//! What is known of an upload from its `.info`.

use std::sync::Arc;

use crate::{store::info::UploadInfo, upload::Upload};

/// What an `.info` says, and where the bytes are.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) upload: Arc<Upload>,
    /// See [`Info::unverified_from`].
    pub(super) unverified_from: Option<u64>,
    /// Why the bytes can't be trusted any more: they could not be put on the disk.
    pub(super) damaged: Option<String>,
    /// See [`Info::joined_unsaid`].
    pub(super) joined_unsaid: bool,
    /// Where the data file is, relative to the directory.
    pub(super) place: String,
}

impl Record {
    /// The `.info` that says this.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut info = UploadInfo::new(Upload::clone(&self.upload));
        info.unverified_from = self.unverified_from;
        info.damaged.clone_from(&self.damaged);
        info.encode()
    }
}
