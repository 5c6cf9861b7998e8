//! Grants of uploads (`/uploadjobs`).

use http::Method;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Error, http::Session};

/// A request for a grant.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GrantRequest {
    /// The id of the request, unique per principal; the same id gets the same grant again.
    pub id: String,
    /// The name of the file.
    pub filename: String,
    /// Its size in bytes, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesize: Option<u64>,
    /// Its media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filetype: Option<String>,
    /// `Some("url")` to create the upload at once and get its URL in place of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Other fields, which are stored with the job.
    #[serde(flatten)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// A granted upload.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Grant {
    /// The id of the request.
    pub request_id: String,
    /// The upload token, unless the grant has an upload URL or is completed.
    #[serde(default)]
    pub upload_token: Option<String>,
    /// The URL of the created upload, with the mode `url`.
    #[serde(default)]
    pub upload_url: Option<String>,
    /// The URL where the upload is created.
    pub location: String,
    /// The granted name of the file.
    pub filename: String,
    /// The granted size in bytes.
    #[serde(default)]
    pub size: Option<u64>,
    /// The state of the job, such as `received` or `completed`.
    pub state: String,
    /// The time until which the upload must be created (RFC 3339).
    #[serde(default)]
    pub expires_at: Option<String>,
}

/// Requests a grant. The request id makes it idempotent.
pub(crate) async fn request(
    session: &Session,
    url: &Url,
    request: &GrantRequest,
) -> Result<Grant, Error> {
    let response = session.send_json(Method::POST, url.clone(), request).await;
    let mut response = response.map_err(|error| match error {
        // The id was used for another request.
        Error::Unavailable(rejection) if rejection.status == 409 => Error::Rejected(rejection),
        other => other,
    })?;
    let body = response.read().await?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::Protocol(format!("the grant cannot be read: {error}")))
}
