//! Uploads whose request ended before their progress was emitted.

use std::sync::Arc;

use super::LiveUpload;
use crate::{
    hook::RequestInfo,
    upload::{UploadId, UploadMap},
};

const MAX_ENDED: usize = 4096;
/// Maximum memory per shard, in bytes: clients choose the size of metadata and headers.
const MAX_BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Ended {
    uploads: UploadMap<(Arc<LiveUpload>, usize)>,
    bytes: usize,
}

impl Ended {
    /// Adds an upload if there is capacity; otherwise its next request emits the progress.
    pub(super) fn insert(&mut self, live: Arc<LiveUpload>) {
        let bytes = live.upload.memory_size() + live.context.info.as_deref().map_or(0, memory_size);
        self.remove(&live.upload.id);
        if self.uploads.len() < MAX_ENDED && self.bytes + bytes <= MAX_BYTES {
            self.bytes += bytes;
            self.uploads.insert(live.upload.id.clone(), (live, bytes));
        }
    }

    pub(super) fn remove(&mut self, id: &UploadId) -> Option<Arc<LiveUpload>> {
        let (live, bytes) = self.uploads.remove(id)?;
        self.bytes -= bytes;
        Some(live)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.uploads.is_empty()
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = Arc<LiveUpload>> + use<> {
        let ended = std::mem::take(self);
        ended.uploads.into_values().map(|(live, _)| live)
    }
}

fn memory_size(request: &RequestInfo) -> usize {
    let headers = request.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + 64)
        .sum();
    size_of::<RequestInfo>() + headers
}

#[cfg(test)]
mod tests {
    use super::{
        super::{LiveUploads, RequestContext, Visibility},
        *,
    };
    use crate::upload::{Metadata, Upload};

    #[test]
    fn requests_that_have_ended_take_a_bounded_memory() {
        let set = LiveUploads::new(true);
        let ids: Vec<_> = (0..5000)
            .map(|n| UploadId::new(&format!("{n}")).unwrap())
            .collect();
        let mut ended = Ended::default();
        for id in ids.iter().chain(&ids) {
            let mut upload = Upload::new(id.clone(), None);
            upload.metadata = Metadata::from_pairs([("a", vec![0; 12_000])]);
            let live = set.enter(
                Arc::new(upload),
                0,
                Visibility::Immediate,
                RequestContext::NONE,
            );
            ended.insert(live.live.clone());
            assert!(ended.bytes <= MAX_BYTES);
        }
        let kept = ended.uploads.len();
        assert!((100..400).contains(&kept), "{kept}");
        assert_eq!(ended.take().count(), kept);
        assert_eq!(ended.bytes, 0);
        let small = Upload::new(ids[0].clone(), None);
        let live = set.enter(
            Arc::new(small),
            0,
            Visibility::Immediate,
            RequestContext::NONE,
        );
        ended.insert(live.live.clone());
        assert!(ended.remove(&ids[0]).is_some());
        assert_eq!(ended.bytes, 0);
    }
}
