//! Fingerprints: records that find an upload again after a restart.

mod record;
mod recorder;
mod store;

pub use self::{
    record::StoredUpload,
    store::{FileFingerprints, FingerprintStore, MemoryFingerprints},
};
pub(crate) use self::{
    record::{PartRecord, Record},
    recorder::{Recorder, StoredRecord},
};
