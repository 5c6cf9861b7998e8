//! What the application hears of a job of the upload queue.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A job of the upload queue: an upload that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobFacts {
    /// Its number, which the label `job` of its upload holds; empty before it is granted.
    pub id: String,
    /// Who asked for it; `None` for an upload that came without a grant.
    pub subject: Option<String>,
    /// The caller's own id for it.
    pub request_id: String,
    /// Where it stands: `received`, `started`, …; empty before it is granted.
    pub state: String,
    /// Why it failed or was cancelled, for people.
    pub reason: Option<String>,
    /// The file's name.
    pub filename: Option<String>,
    /// The file's type.
    pub filetype: Option<String>,
    /// The length in bytes; `None` while unknown.
    pub size: Option<u64>,
    /// Bytes stored.
    pub offset: u64,
    /// The entity tag of the object, once it is complete, where the store knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// What else the caller said when it asked.
    pub metadata: BTreeMap<String, Value>,
    /// When it was asked for; `None` before it is granted.
    pub created: Option<SystemTime>,
    /// Until when (that moment excluded) its upload must have been created; `None` before it is granted.
    pub expires: Option<SystemTime>,
    /// When its upload was created.
    pub started: Option<SystemTime>,
    /// When anything about it last changed.
    pub updated: Option<SystemTime>,
    /// When it reached a state that is final.
    pub ended: Option<SystemTime>,
}

impl JobFacts {
    /// What is known of its upload: id (empty while there is none), length, offset, and as metadata
    /// what the caller said of the file as far as it is text.
    #[must_use]
    pub fn upload(&self, id: Option<&str>) -> super::UploadFacts {
        let said = self.metadata.iter().filter_map(|(key, value)| {
            let text = value.as_str()?;
            Some((key.clone(), text.to_owned()))
        });
        let mut metadata: BTreeMap<_, _> = said.collect();
        for (key, value) in [("filename", &self.filename), ("filetype", &self.filetype)] {
            if let Some(value) = value {
                metadata.insert(key.to_owned(), value.clone());
            }
        }
        super::UploadFacts {
            id: id.unwrap_or_default().to_owned(),
            created: self.started,
            size: self.size,
            offset: self.offset,
            metadata,
            ..super::UploadFacts::default()
        }
    }
}
