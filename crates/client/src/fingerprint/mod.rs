//! Fingerprints, by which an upload is found again after a restart.

mod record;
mod store;

pub(crate) use self::record::{Found, PartRecord, Record, Recorder};
pub use self::{
    record::StoredUpload,
    store::{FileFingerprints, FingerprintStore, MemoryFingerprints},
};
