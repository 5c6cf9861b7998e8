//! What an upload is: its id, its description, and a snapshot of how far it got.

mod id;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

pub use self::id::{InvalidId, MAX_ID_LEN, MAX_SEGMENT_LEN, UploadId};
pub use landfall_protocol::Metadata;
use sha2::{Digest as _, Sha256};

use crate::hook::ClientResponse;

/// The part an upload plays in a concatenation (tus 1.0.0, Concatenation).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UploadKind {
    /// An ordinary upload.
    #[default]
    Regular,
    /// A piece that will be joined with others.
    Partial,
    /// Joined, or to be joined, out of partial uploads; takes no bytes of its own.
    Final {
        /// The partial uploads in the order in which they are joined.
        parts: Vec<UploadId>,
        /// `Upload-Concat` as the client sent it; HEAD gives it back unchanged.
        header: String,
        /// Whether the parts have been joined: until then the upload has no offset.
        concatenated: bool,
    },
}

/// The description of an upload: what a store keeps beside the bytes and hands back by id.
///
/// It changes seldom (a deferred length becomes known, completion is recorded), the offset changes
/// with every byte; so the two are apart, see [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// Its length in bytes; `None` while deferred. Once known it never changes.
    pub length: Option<u64>,
    /// What the client or a hook said about the file.
    pub metadata: Metadata,
    /// Its part in a concatenation.
    pub kind: UploadKind,
    /// Where the store keeps it, in the store's own words (for files: `Type`, `Path`, `InfoPath`).
    /// A hook may ask for a place before creation (`Path`); the store fills in the rest.
    pub storage: BTreeMap<String, String>,
    /// What hooks noted about it: comes back to them in later questions (except
    /// [`on_access`](crate::hook::Hook::on_access)) and events. Clients don't see it.
    pub labels: BTreeMap<String, String>,
    /// The most bytes it may have, if a hook decided that; in bytes.
    pub max_size: Option<u64>,
    /// When it was created; `None` for one that another program made. Tells it from an earlier or
    /// later upload with the same id.
    pub created: Option<SystemTime>,
    /// When it may be removed, if something other than the server's lifetimes decides that.
    pub expires: Option<SystemTime>,
    /// Whether hooks and sinks follow its completion, and whether they have run.
    pub completion: Completion,
    /// The entity tag of the stored object, as its service gave it at completion. `None` for stores
    /// whose backend has none.
    pub etag: Option<String>,
    /// Whether another program (tusd) made it. Its lifetime isn't counted from before this process
    /// started, so that taking over a directory removes nothing at once.
    pub created_by_tusd: bool,
}

/// The state of an upload's completion hooks and events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Completion {
    /// Neither a hook nor a sink follows it.
    #[default]
    NotTracked,
    /// The hooks have not accepted it, or not all bytes are stored.
    Pending,
    /// All bytes are stored and the hooks accepted the upload. Holds their response to the client,
    /// which is repeated when the client repeats its last request.
    Done(Option<Arc<ClientResponse>>),
}

impl Completion {
    /// Returns whether the completion is recorded.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// Returns whether it is followed and not recorded yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        *self == Self::Pending
    }

    /// Returns the response of the completion hooks.
    #[must_use]
    pub fn response(&self) -> Option<&Arc<ClientResponse>> {
        match self {
            Self::Done(response) => response.as_ref(),
            Self::NotTracked | Self::Pending => None,
        }
    }
}

impl Upload {
    /// A description with nothing but an id and a length (`None` = deferred).
    #[must_use]
    pub fn new(id: UploadId, length: Option<u64>) -> Self {
        Self {
            id,
            length,
            metadata: Metadata::default(),
            kind: UploadKind::Regular,
            storage: BTreeMap::new(),
            labels: BTreeMap::new(),
            max_size: None,
            created: None,
            expires: None,
            completion: Completion::NotTracked,
            etag: None,
            created_by_tusd: false,
        }
    }

    /// Names a fact about this very upload (not another one with its id), in 32 hexadecimal digits:
    /// the same whenever and wherever it is asked for.
    #[must_use]
    pub fn event_id(&self, fact: &str) -> String {
        let created = self.created.unwrap_or(UNIX_EPOCH);
        let created = created.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(created.as_nanos().to_be_bytes());
        hash.update(self.id.as_str());
        // No id holds it.
        hash.update([0]);
        hash.update(fact);
        let digest = hash.finalize();
        digest[..16].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Estimates the memory it takes, in bytes: for caches, whose entries clients can make large.
    #[must_use]
    pub fn memory_size(&self) -> usize {
        /// What a text in a list or map costs beside its bytes.
        const ENTRY: usize = 56;
        let pair = |key: &str, value: &[u8]| key.len() + value.len() + 2 * ENTRY;
        let map = |map: &BTreeMap<String, String>| -> usize {
            map.iter().map(|(k, v)| pair(k, v.as_bytes())).sum()
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
            + map(&self.storage)
            + map(&self.labels)
            + kind
            + response
            + self.etag.as_ref().map_or(0, String::len)
    }

    /// Whether `offset` bytes are all of this upload.
    #[must_use]
    pub fn is_complete_at(&self, offset: u64) -> bool {
        self.length == Some(offset) && self.is_concatenated()
    }

    /// Whether this is a partial upload: a piece of a file, which clients send without the file's
    /// metadata. Its completion completes no file.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.kind == UploadKind::Partial
    }

    /// Whether this is a final upload (joined or not): it takes no bytes from clients.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.kind, UploadKind::Final { .. })
    }

    /// False only for a final upload whose parts have not been joined yet.
    #[must_use]
    pub fn is_concatenated(&self) -> bool {
        !matches!(
            self.kind,
            UploadKind::Final {
                concatenated: false,
                ..
            }
        )
    }
}

/// An upload as it stood at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The description.
    pub upload: Arc<Upload>,
    /// How many bytes the store has and will give back, from the first on without a gap.
    pub offset: u64,
    /// When bytes or the description last changed.
    pub modified: SystemTime,
}

impl Snapshot {
    /// Whether all bytes are there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.upload.is_complete_at(self.offset)
    }
}
