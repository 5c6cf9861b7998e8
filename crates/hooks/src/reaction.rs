//! What the application answers.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use landfall::{
    hook::{ClientResponse, CreateDecision, Decision},
    upload::{InvalidId, Metadata, UploadId},
};

/// What the application answers; the default is: go on, nothing to add.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reaction {
    /// What the client is to be told (`HTTPResponse`).
    pub reply: ClientResponse,
    /// Refuses a creation, or a completion: then the upload is removed (`RejectUpload`).
    pub reject_upload: bool,
    /// Refuses a termination (`RejectTermination`).
    pub reject_termination: bool,
    /// Refuses an access (`RejectAccess`).
    pub reject_access: bool,
    /// Stops the upload whose bytes are coming in (`StopUpload`).
    pub stop_upload: bool,
    /// Changes to an upload that is about to be created (`ChangeFileInfo`).
    pub changes: Changes,
    /// How long an answer about an access holds for others like it (`CacheFor`).
    pub cache_for: Option<Duration>,
    /// There was no real answer: the client gets `reply`, or 500, and nothing happens.
    pub failed: bool,
}

/// Changes to an upload that is about to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Its id (`ID`).
    pub id: Option<String>,
    /// All of its metadata (`MetaData`).
    pub metadata: Option<BTreeMap<String, String>>,
    /// Where and how the store keeps it, in the store's words (`Storage`).
    pub storage: BTreeMap<String, String>,
    /// Notes that come back in later messages (`Labels`).
    pub labels: BTreeMap<String, String>,
    /// When it may be removed if still unfinished (`Expires`).
    pub expires: Option<SystemTime>,
    /// The most bytes it may have (`MaxSize`).
    pub max_size: Option<u64>,
    /// The types that are welcome (`ContentTypes`).
    pub content_types: Vec<String>,
}

impl Reaction {
    /// As the answer to the question whether an upload may be created.
    ///
    /// # Errors
    /// The id that the application chose can't be one.
    pub fn into_creation(self) -> Result<CreateDecision, BadAnswer> {
        let changes = self.changes.clone();
        let mut creation = CreateDecision::new(self.into_answer(|this| this.reject_upload));
        if let Some(id) = changes.id.filter(|id| !id.is_empty()) {
            creation.id = Some(UploadId::new(&id).map_err(|why| BadAnswer { id, why })?);
        }
        creation.metadata = changes.metadata.map(Metadata::from_pairs);
        creation.storage = changes.storage;
        creation.labels = changes.labels;
        creation.expires = changes.expires;
        creation.max_size = changes.max_size;
        creation.content_types = changes.content_types;
        Ok(creation)
    }

    /// As the answer to a question that `refuses` reads the refusal of.
    pub fn into_answer(self, refuses: impl FnOnce(&Self) -> bool) -> Decision {
        if self.failed {
            Decision::Fail(self.reply)
        } else if refuses(&self) {
            Decision::Deny(self.reply)
        } else {
            Decision::Allow(self.reply)
        }
    }
}

/// The application answered something that can't be done.
#[derive(Debug, thiserror::Error)]
#[error("the hook chose an id that can't be one, {id:?}: {why}")]
pub struct BadAnswer {
    id: String,
    why: InvalidId,
}
