//! The gate: who may create an upload, under which job, and how the queue hears of it.
//!
//! [`GrantHook`] is the hook that checks tokens, [`JobTracker`] the sink that tells the queue how uploads get
//! on, [`reconcile`] finds out what both missed because a process died, [`cancel`] ends a job together
//! with its uploads.

mod cancel;
mod idempotency;
mod job_tracker;
mod reconcile;
mod verify;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use http::HeaderMap;
use landfall::{
    BoxError,
    hook::{Asks, Creation, Hook, Reply, RequestInfo},
    upload::{Kind, Upload},
};

pub use self::{
    cancel::{CancelError, cancel},
    job_tracker::JobTracker,
    reconcile::{ReconcileReport, reconcile},
};
use self::{
    idempotency::{GrantKey, TrackedUploadKey},
    verify::TokenRejection,
};
use crate::{
    Queue, TokenHash,
    auth::{FailedAttempt, FailedAttempts, is_cross_site},
};

/// Labels of uploads that were made under a grant, or are followed.
pub mod labels {
    /// The number of the job.
    pub const JOB: &str = "job";
    /// Who asked for it.
    pub const SUBJECT: &str = "subject";
    /// The caller's own id for it.
    pub const REQUEST_ID: &str = "request_id";
}

/// The entity tag of a complete object in the [`storage`](Upload::storage) of its upload, where the store
/// knows one.
pub const ETAG: &str = "ETag";

/// Finds the client's address behind a request, for the limit of guesses.
pub type ClientAddress = dyn Fn(&HeaderMap, Option<SocketAddr>) -> Option<IpAddr> + Send + Sync;

/// How the gate behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct GrantHookSettings {
    /// Refuses creations without a grant.
    pub require_token: bool,
    /// Refuses uploads whose stated type isn't the granted one.
    pub enforce_type: bool,
    /// Follows uploads that come without a grant, so that they are seen in the queue.
    pub track_all: bool,
    /// Slows down whoever tries tokens.
    pub failed_attempts: Option<FailedAttempts>,
    /// Finds the client's address; that of the connection if not set.
    pub client: Option<Arc<ClientAddress>>,
}

impl Default for GrantHookSettings {
    /// Nothing is required or followed, guesses aren't counted.
    fn default() -> Self {
        Self {
            require_token: false,
            enforce_type: false,
            track_all: false,
            failed_attempts: None,
            client: None,
        }
    }
}

impl fmt::Debug for GrantHookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantHookSettings")
            .field("require_token", &self.require_token)
            .field("enforce_type", &self.enforce_type)
            .field("track_all", &self.track_all)
            .finish_non_exhaustive()
    }
}

/// Checks the token of a creation and binds the upload to its job: exactly one upload for a grant, or
/// a set of partial uploads and the final one they are joined to.
///
/// It should be the first hook, so that those after it see the labels and the granted name.
#[derive(Debug, Clone)]
pub struct GrantHook {
    queue: Queue,
    settings: GrantHookSettings,
}

impl GrantHook {
    /// A gate to the jobs of a queue.
    #[must_use]
    pub fn new(queue: Queue, settings: GrantHookSettings) -> Self {
        Self { queue, settings }
    }

    fn client(&self, request: &RequestInfo) -> Option<IpAddr> {
        let peer: Option<SocketAddr> = request.remote.parse().ok();
        match &self.settings.client {
            Some(find) => find(&request.headers, peer),
            None => peer.map(|peer| peer.ip()),
        }
    }

    fn untokened(&self, upload: &Upload) -> Creation {
        if self.settings.require_token {
            return TokenRejection::NoToken.into();
        }
        let mut creation = Creation::allow();
        // Parts are no uploads of their own to people.
        if self.settings.track_all && upload.kind != Kind::Partial {
            creation.claim = Some(Arc::new(TrackedUploadKey::new(self.queue.clone())));
        }
        creation
    }
}

#[async_trait]
impl Hook for GrantHook {
    fn asks(&self) -> Asks {
        Asks {
            before_create: true,
            ..Asks::default()
        }
    }

    /// The job of a direct upload exists before hooks are called, or is made with the upload.
    fn affects_direct_uploads(&self) -> bool {
        false
    }

    async fn before_create(
        &self,
        request: &RequestInfo,
        upload: &Upload,
    ) -> Result<Creation, BoxError> {
        // A direct upload: its job was found, or made, before anybody was asked.
        if upload.labels.contains_key(labels::JOB) {
            return Ok(Creation::allow());
        }
        let Some(token) = &request.token else {
            return Ok(self.untokened(upload));
        };
        let job = self
            .queue
            .by_token(&TokenHash::from_secret(token.as_str()))
            .await?;
        let job = job.filter(|job| verify::is_bound_to(job, &upload.metadata));
        let Some(job) = job else {
            let attempt = FailedAttempt {
                client: self.client(request),
                secret: Some(token.as_str()),
                is_cross_site: is_cross_site(&request.headers),
            };
            let recorded = self
                .settings
                .failed_attempts
                .as_ref()
                .map(|all| all.record(&attempt));
            return Ok(match recorded {
                Some(Err(wait)) => TokenRejection::TooManyGuesses(wait).into(),
                _ => TokenRejection::UnknownToken.into(),
            });
        };
        let parts = match &upload.kind {
            Kind::Final { .. } => self.queue.uploads_of(job.id).await?,
            _ => Vec::new(),
        };
        let now = self.queue.now();
        if let Err(refused) = verify::check(&job, upload, &parts, now, self.settings.enforce_type) {
            return Ok(refused.into());
        }
        let mut creation = Creation::allow()
            .label(labels::JOB, job.id.to_string())
            .label(labels::REQUEST_ID, &*job.request_id);
        if let Some(subject) = &job.subject {
            creation = creation.label(labels::SUBJECT, &**subject);
        }
        creation.metadata = verify::metadata(&job, upload);
        creation.max_size = job.size.or(job.max_size);
        if upload.kind != Kind::Partial {
            creation.length = job.size;
        }
        let digest = verify::digest(upload);
        creation.claim = Some(Arc::new(GrantKey::new(
            self.queue.clone(),
            &job,
            digest,
            upload,
        )));
        Ok(creation)
    }
}

impl From<TokenRejection> for Creation {
    fn from(refused: TokenRejection) -> Self {
        Self::refuse(Reply::from(refused))
    }
}
