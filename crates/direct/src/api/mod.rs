//! The HTTP face: what browsers' clients for S3 ask for, in the words they know.
//!
//! | request | does |
//! |---|---|
//! | `POST /api/sign_s3` | a presigned PUT |
//! | `POST /api/complete_s3` | its client says that a file has arrived |
//! | `POST /api/progress_s3` | its client says how far it is |
//! | `POST /api/s3_events` | the bucket says that a file has arrived |
//! | `GET /s3/params` | a form or a presigned PUT for a small file |
//! | `POST /s3/multipart` | begins a multipart upload |
//! | `GET /s3/multipart/{id}` | its parts |
//! | `GET /s3/multipart/{id}/{number}` | the URL of a part |
//! | `GET /s3/multipart/{id}/batch` | those of several |
//! | `POST /s3/multipart/{id}/complete` | completes it |
//! | `DELETE /s3/multipart/{id}` | drops it |
//! | `GET /s3/sts` | temporary credentials |
//! | `POST /s3/presign` | Uppy's signer mode |
//!
//! Each is there a second time below `/t/{token}`, for clients that can send no header.

use std::{fmt, sync::Arc, time::Duration};

use axum::Router;
use landfall::service::Cors;
use landfall_grants::{caller::Callers, gate::ClientAddress};

use crate::Direct;

/// What the API works with, and how it behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiSettings {
    /// The uploads.
    pub direct: Direct,
    /// Who may ask.
    pub callers: Callers,
    /// What all paths begin with; nothing if empty.
    pub path: String,
    /// Cross-origin requests; `None` = no CORS headers at all.
    pub cors: Option<Cors>,
    /// Finds the client's address; that of the connection if not set.
    pub client: Option<Arc<ClientAddress>>,
    /// Who may say what has arrived in the bucket: whoever has this. Nobody if `None`.
    pub events_secret: Option<String>,
    /// How long a body may take to arrive; 30 seconds if not set.
    pub body_time: Duration,
    /// Where the API counts what it does.
    pub stats: Arc<ApiStats>,
}

impl ApiSettings {
    /// Defaults.
    #[must_use]
    pub fn new(direct: Direct, callers: Callers) -> Self {
        Self {
            direct,
            callers,
            path: String::new(),
            cors: None,
            client: None,
            events_secret: None,
            body_time: Duration::from_secs(30),
            stats: Arc::default(),
        }
    }
}

impl fmt::Debug for ApiSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiSettings")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What the API has done, in numbers.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ApiStats {}

/// The first segments of the paths that the API answers at, below [`ApiSettings::path`].
pub const AREAS: [&str; 3] = ["/api", "/s3", "/t"];

/// The API as a router for all of its paths; everything else gets 404.
pub fn service(settings: ApiSettings) -> Router {
    todo!()
}
