//! Uploads: id, description, and snapshot of the state.

mod id;
mod sharded;
mod storage;
mod template;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

pub use self::id::{InvalidId, UploadId};
pub use self::storage::Storage;
pub use self::template::truncate_file_name;
pub(crate) use self::{
    sharded::{SHARDS, Sharded, UploadMap},
    storage::FileLocation,
};
pub use landfall_protocol::{Checksum, Metadata};
use sha2::{Digest as _, Sha256};

use crate::hook::response::ClientResponse;

/// The role of an upload in a concatenation (tus 1.0.0, Concatenation).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UploadKind {
    /// An ordinary upload.
    #[default]
    Regular,
    /// A part of a later final upload.
    Partial,
    /// A concatenation of partial uploads; takes no bytes from clients.
    Final {
        /// The partial uploads in order.
        parts: Vec<UploadId>,
        /// `Upload-Concat` as received; HEAD returns it unchanged.
        header: String,
        /// True if the parts have been concatenated; before, the upload has no offset.
        concatenated: bool,
    },
}

/// The description of an upload, stored next to the bytes.
///
/// It changes rarely (a deferred length becomes known, completion is recorded), the offset changes
/// with every write. So the offset is not in it, see [`Snapshot`].
///
/// [`UploadInfo`](crate::store::info::UploadInfo) encodes it as JSON and decodes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upload {
    /// The id.
    pub id: UploadId,
    /// The length in bytes; `None` while deferred. Never changes once known.
    pub length: Option<u64>,
    /// True if all bytes of the length do not complete it yet: its client still has to send `Upload-Complete`
    /// (IETF draft, section 4.1.2).
    pub awaits_end: bool,
    /// True if a request of the IETF draft created it. Later requests may then lack the fields that name the
    /// protocol.
    pub created_by_draft: bool,
    /// The digest of the whole content, which is verified at completion (`Repr-Digest`, RFC 9530).
    pub repr_digest: Option<Box<Checksum>>,
    /// The metadata of the client, or of a hook.
    pub metadata: Metadata,
    /// The role in a concatenation.
    pub kind: UploadKind,
    /// The location in the store, in the store's terms (for files: `Type`, `Path`, `InfoPath`). A
    /// hook may request a `Path` before creation; the store adds the rest.
    pub storage: Storage,
    /// Key-value pairs of hooks, passed to later hook calls and events
    /// ([`Access::upload`](crate::hook::Access::upload) loads them). Never sent to clients.
    pub labels: BTreeMap<String, String>,
    /// The maximum length in bytes, if a hook set one.
    pub max_size: Option<u64>,
    /// The time of creation, which distinguishes it from other uploads with the same id. `None` if
    /// another program created it.
    pub created: Option<SystemTime>,
    /// The time from which it may be removed, if it differs from the server's lifetimes.
    pub expires: Option<SystemTime>,
    /// The state of its completion hooks and events.
    pub completion: Completion,
    /// True while the completion is [done](Completion::Done) and its event not
    /// [acknowledged](crate::event::Acknowledgement) by every sink.
    pub unacknowledged: bool,
    /// True if its creation was interrupted before anyone could learn its URL, and nothing was appended since. Then it
    /// expires early.
    pub(crate) unannounced: bool,
    /// The path to which the application moved the file. Only this description is left, which tells the client
    /// that the upload is complete.
    pub moved_to: Option<Box<PathBuf>>,
    /// The entity tag of the stored object, received at completion. `None` if the backend has none.
    pub etag: Option<String>,
    /// Boxed because few uploads have one, and the futures of requests store uploads several times.
    pub(crate) repetition: Option<Box<Repetition>>,
    /// True if another program (tusd) created it, which does not record whether it was finished once. It never
    /// expires while it is unfinished.
    pub created_by_tusd: bool,
}

pub(crate) type Digest = [u8; 16];

/// Recognizes a creation that comes again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Repetition {
    /// The digest of the creation, of final uploads and where a hook chose the id.
    pub(crate) creation_digest: Option<Digest>,
    /// The final upload that was created last from this partial one as its first part.
    pub(crate) final_upload: Option<UploadId>,
}

/// The state of an upload's completion hooks and events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// No hook or sink tracks the completion.
    #[default]
    NotTracked,
    /// Not all bytes are stored, or the hooks have not accepted the upload.
    Pending,
    /// All bytes are stored and the hooks accepted the upload. Contains their response, which is
    /// sent again when the client repeats its last request.
    Done(Option<Arc<ClientResponse>>),
    /// The hooks denied the upload. Its bytes are removed, and the response is sent again when the client asks.
    Denied(Arc<ClientResponse>),
}

impl Completion {
    /// Returns whether the completion is recorded.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// Returns whether it is tracked and not recorded yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        *self == Self::Pending
    }

    /// Returns the response of the completion hooks.
    #[must_use]
    pub fn response(&self) -> Option<&Arc<ClientResponse>> {
        match self {
            Self::Done(response) => response.as_ref(),
            Self::Denied(response) => Some(response),
            Self::NotTracked | Self::Pending => None,
        }
    }

    /// Returns whether the hooks denied the upload.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}

impl Upload {
    /// Returns a description with only an id and a length (`None`: deferred).
    #[must_use]
    pub fn new(id: UploadId, length: Option<u64>) -> Self {
        Self {
            id,
            length,
            awaits_end: false,
            created_by_draft: false,
            repr_digest: None,
            metadata: Metadata::default(),
            kind: UploadKind::Regular,
            storage: Storage::default(),
            labels: BTreeMap::new(),
            max_size: None,
            created: None,
            expires: None,
            completion: Completion::NotTracked,
            unacknowledged: false,
            unannounced: false,
            moved_to: None,
            etag: None,
            repetition: None,
            created_by_tusd: false,
        }
    }

    pub(crate) fn creation_digest(&self) -> Option<Digest> {
        self.repetition.as_ref()?.creation_digest
    }

    pub(crate) fn final_upload(&self) -> Option<&UploadId> {
        self.repetition.as_ref()?.final_upload.as_ref()
    }

    /// Computes the digest of a creation, after the changes of hooks: equal ones may be the same
    /// request, repeated by a client that got no response. The time of expiry differs between repetitions.
    pub(crate) fn record_creation_digest(&mut self) {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for number in [self.length, self.max_size] {
            add(format!("{number:?}").as_bytes());
        }
        let role: &[u8] = match &self.kind {
            UploadKind::Regular => b"regular",
            UploadKind::Partial => b"partial",
            UploadKind::Final { header, .. } => header.as_bytes(),
        };
        add(role);
        let parts = self.parts();
        add(&(parts.len() as u64).to_be_bytes());
        parts.iter().for_each(|part| add(part.as_str().as_bytes()));
        let metadata: BTreeMap<&str, &[u8]> = self.metadata.iter().collect();
        let [storage, labels] = [&*self.storage, &self.labels].map(|map| {
            let pairs = map.iter();
            pairs
                .map(|(key, value)| (&**key, value.as_bytes()))
                .collect()
        });
        for map in [metadata, storage, labels] {
            add(&(map.len() as u64).to_be_bytes());
            for (key, value) in map {
                add(key.as_bytes());
                add(value);
            }
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(&hash.finalize()[..size_of::<Digest>()]);
        self.repetition.get_or_insert_default().creation_digest = Some(digest);
    }

    /// Returns the deterministic id of an event of this upload: 32 hexadecimal digits, different
    /// from those of other uploads with the same id.
    #[must_use]
    pub fn event_id(&self, fact: &str) -> String {
        let created = self.created.unwrap_or(UNIX_EPOCH);
        let created = created.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(created.as_nanos().to_be_bytes());
        hash.update(self.id.as_str());
        // A separator that no id contains.
        hash.update([0]);
        hash.update(fact);
        hex::encode(&hash.finalize()[..16])
    }

    /// Returns the approximate memory size in bytes, for caches, because clients control it.
    #[must_use]
    pub fn memory_size(&self) -> usize {
        /// Overhead of a string in a list or map.
        const ENTRY: usize = 56;
        let pair = |key: &str, value: &[u8]| key.len() + value.len() + 2 * ENTRY;
        let map = |map: &BTreeMap<String, String>| -> usize {
            map.iter().map(|(k, v)| pair(k, v.as_bytes())).sum()
        };
        let storage = match self.storage.files() {
            Some(files) => files
                .pairs()
                .iter()
                .map(|(key, parts)| parts.map(str::len).iter().sum::<usize>() + pair(key, &[]))
                .sum(),
            None => map(&self.storage),
        };
        let metadata: usize = self.metadata.iter().map(|(k, v)| pair(k, v)).sum();
        let kind = match &self.kind {
            UploadKind::Final { parts, header, .. } => {
                let parts = parts.iter().map(|part| part.as_str().len() + ENTRY);
                header.len() + parts.sum::<usize>()
            }
            UploadKind::Regular | UploadKind::Partial => 0,
        };
        let response = self.completion.response().map_or(0, |reply| {
            let headers = reply.headers.iter();
            let headers: usize = headers
                .map(|(name, value)| pair(name.as_str(), value.as_bytes()))
                .sum();
            headers + reply.body.as_ref().map_or(0, bytes::Bytes::len)
        });
        size_of::<Self>()
            + self.id.as_str().len()
            + metadata
            + self.metadata.header().len()
            + storage
            + map(&self.labels)
            + kind
            + response
            + self.etag.as_ref().map_or(0, String::len)
            + self
                .repetition
                .as_ref()
                .map_or(0, |one| size_of_val(&**one) + UploadId::MAX_LEN)
            + self
                .moved_to
                .as_ref()
                .map_or(0, |path| path.as_os_str().len())
            + self
                .repr_digest
                .as_ref()
                .map_or(0, |one| size_of_val(&**one) + one.digest.len())
    }

    /// Returns whether the upload is complete with `offset` bytes.
    ///
    /// A finished upload stays finished, with any number of bytes: applications change finished files. Those of
    /// partial uploads are only for us.
    #[must_use]
    pub fn is_complete_at(&self, offset: u64) -> bool {
        let is_finished = self.completion.is_done() && !self.is_partial();
        let is_whole = is_finished || self.length == Some(offset);
        is_whole && !self.awaits_end && self.is_concatenated() && !self.completion.is_denied()
    }

    /// Returns whether an upload with `offset` bytes has the lifetime of finished ones. A partial upload is
    /// unfinished until it is part of a final one.
    pub(crate) fn is_finished_at(&self, offset: u64) -> bool {
        self.is_complete_at(offset) && !self.is_partial()
    }

    /// Returns whether the upload is known to its client alone: a hook denied it, or the application moved its
    /// file away.
    pub(crate) fn is_description_only(&self) -> bool {
        self.completion.is_denied() || self.moved_to.is_some()
    }

    /// Returns whether this is a partial upload. Clients send them without the metadata of the
    /// file, and their completion completes no file.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.kind == UploadKind::Partial
    }

    /// Returns whether this is a final upload, which takes no bytes from clients.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.kind, UploadKind::Final { .. })
    }

    /// Returns the partial uploads of a final upload.
    pub(crate) fn parts(&self) -> &[UploadId] {
        match &self.kind {
            UploadKind::Final { parts, .. } => parts,
            UploadKind::Regular | UploadKind::Partial => &[],
        }
    }

    pub(crate) fn set_concatenated(&mut self) {
        if let UploadKind::Final { concatenated, .. } = &mut self.kind {
            *concatenated = true;
        }
    }

    /// Returns false only for a final upload whose parts have not been concatenated.
    #[must_use]
    pub fn is_concatenated(&self) -> bool {
        match self.kind {
            UploadKind::Final { concatenated, .. } => concatenated,
            UploadKind::Regular | UploadKind::Partial => true,
        }
    }
}

/// The state of an upload at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Snapshot {
    /// The description.
    pub upload: Arc<Upload>,
    /// The number of contiguous bytes in the store, from the first on.
    pub offset: u64,
    /// The time of the last change of bytes or description.
    pub modified: SystemTime,
    /// `false`: a write was interrupted, and the store may lose bytes of it again until a writer resumes the upload.
    pub is_settled: bool,
}

impl Snapshot {
    /// Returns a state that stays unless the upload is changed.
    #[must_use]
    pub fn new(upload: Arc<Upload>, offset: u64, modified: SystemTime) -> Self {
        Self {
            upload,
            offset,
            modified,
            is_settled: true,
        }
    }

    /// Returns whether all bytes are stored, or were when the upload was finished.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.upload.is_complete_at(self.offset)
    }

    /// Returns whether the upload is complete, and has not been made shorter or longer since.
    pub(crate) fn has_exact_length(&self) -> bool {
        self.is_complete() && self.upload.length == Some(self.offset)
    }

    /// Returns the offset for clients: once the upload is complete, its length.
    pub(crate) fn stated_offset(&self) -> u64 {
        let length = self.upload.length.filter(|_| self.is_complete());
        length.unwrap_or(self.offset)
    }

    /// Returns the [stated](Self::stated_offset) offset; `None` for a final upload that is not concatenated yet.
    pub(crate) fn shown_offset(&self) -> Option<u64> {
        let is_shown = self.upload.is_concatenated();
        is_shown.then(|| self.stated_offset())
    }
}
