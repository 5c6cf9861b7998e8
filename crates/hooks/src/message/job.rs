//! The job in a message, as receivers see it.
//!
//! Independent of the queue's types. The outbox stores messages as JSON, so a new field must be readable where it is
//! absent (`#[serde(default)]`).

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A job of the upload queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobData {
    /// The job's number, also the label `job` of its upload. Empty before the grant.
    pub id: String,
    /// The principal that requested the grant; `None` for an upload without a grant.
    pub subject: Option<String>,
    /// The request id, chosen by the client.
    pub request_id: String,
    /// The state (`received`, `started`, …); empty before the grant.
    pub state: String,
    /// The reason for a failure or cancellation, for people.
    pub reason: Option<String>,
    /// The filename.
    pub filename: Option<String>,
    /// The content type.
    pub filetype: Option<String>,
    /// The length in bytes; `None` while unknown.
    pub size: Option<u64>,
    /// Bytes stored.
    pub offset: u64,
    /// The ETag of the object once it is complete, if the store has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Further metadata of the grant request.
    pub metadata: BTreeMap<String, Value>,
    /// The time of the grant request; `None` before the grant.
    #[serde(with = "super::rfc3339::option")]
    pub created: Option<SystemTime>,
    /// The time before which the upload must be created; `None` before the grant.
    #[serde(with = "super::rfc3339::option")]
    pub expires: Option<SystemTime>,
    /// The time at which the upload was created.
    #[serde(with = "super::rfc3339::option")]
    pub started: Option<SystemTime>,
    /// The time of the last change.
    #[serde(with = "super::rfc3339::option")]
    pub updated: Option<SystemTime>,
    /// The time at which the job reached a final state.
    #[serde(with = "super::rfc3339::option")]
    pub ended: Option<SystemTime>,
}

impl JobData {
    /// Returns the data of the job's upload.
    ///
    /// `id` is the upload id, if the upload exists. The metadata is the text metadata of the grant
    /// request, with `filename` and `filetype`.
    pub fn upload(&self, id: Option<&str>) -> super::UploadData {
        let text = self.metadata.iter().filter_map(|(key, value)| {
            let text = value.as_str()?;
            Some((key.clone(), text.to_owned()))
        });
        let mut metadata: BTreeMap<_, _> = text.collect();
        for (key, value) in [("filename", &self.filename), ("filetype", &self.filetype)] {
            if let Some(value) = value {
                metadata.insert(key.to_owned(), value.clone());
            }
        }
        super::UploadData {
            id: id.unwrap_or_default().to_owned(),
            created: self.started,
            size: self.size,
            offset: self.offset,
            metadata,
            ..super::UploadData::default()
        }
    }
}
