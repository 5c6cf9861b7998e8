//! Fingerprints: records that find an upload again after a restart.

mod record;
mod store;

pub(crate) use self::record::{PartRecord, Record, Recorder, StoredRecord};
pub use self::{
    record::StoredUpload,
    store::{FileFingerprints, FingerprintStore, MemoryFingerprints},
};
