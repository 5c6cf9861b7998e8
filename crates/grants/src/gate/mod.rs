//! The gate: who may create an upload, under which job, and how the queue hears of it.
//!
//! [`Gate`] is the hook that checks tokens, [`Follower`] the sink that tells the queue how uploads get
//! on, [`reconcile`] finds out what both missed because a process died, [`cancel`] ends a job together
//! with its uploads.

mod cancel;
mod check;
mod claim;
mod follow;
mod reconcile;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use http::HeaderMap;
use landfall::{
    BoxError,
    hook::{ClientResponse, CreateDecision, Hook, HookPoints, RequestInfo},
    upload::{Upload, UploadKind},
};

pub use self::{
    cancel::{CancelError, cancel},
    follow::Follower,
    reconcile::{Reconciled, reconcile},
};
use self::{
    check::Refused,
    claim::{Followed, Granted},
};
use crate::{
    Queue, TokenHash,
    caller::{FailedAttempt, FailedAttempts, is_cross_site},
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

/// Finds the client's address behind a request, for the limit of guesses.
pub type ClientAddress = dyn Fn(&HeaderMap, Option<SocketAddr>) -> Option<IpAddr> + Send + Sync;

/// How the gate behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct GateSettings {
    /// Refuses creations without a grant.
    pub required: bool,
    /// Refuses uploads whose stated type isn't the granted one.
    pub check_type: bool,
    /// Follows uploads that come without a grant, so that they are seen in the queue.
    pub follow_all: bool,
    /// Slows down whoever tries tokens.
    pub guesses: Option<FailedAttempts>,
    /// Finds the client's address; that of the connection if not set.
    pub client: Option<Arc<ClientAddress>>,
}

impl Default for GateSettings {
    /// Nothing is required or followed, guesses aren't counted.
    fn default() -> Self {
        Self {
            required: false,
            check_type: false,
            follow_all: false,
            guesses: None,
            client: None,
        }
    }
}

impl fmt::Debug for GateSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateSettings")
            .field("required", &self.required)
            .field("check_type", &self.check_type)
            .field("follow_all", &self.follow_all)
            .finish_non_exhaustive()
    }
}

/// Checks the token of a creation and binds the upload to its job: exactly one upload for a grant, or
/// a set of partial uploads and the final one they are joined to.
///
/// It should be the first hook, so that those after it see the labels and the granted name.
#[derive(Debug, Clone)]
pub struct Gate {
    queue: Queue,
    settings: GateSettings,
}

impl Gate {
    /// A gate to the jobs of a queue.
    #[must_use]
    pub fn new(queue: Queue, settings: GateSettings) -> Self {
        Self { queue, settings }
    }

    fn client(&self, request: &RequestInfo) -> Option<IpAddr> {
        let peer: Option<SocketAddr> = request.remote.parse().ok();
        match &self.settings.client {
            Some(find) => find(&request.headers, peer),
            None => peer.map(|peer| peer.ip()),
        }
    }

    fn without_token(&self, upload: &Upload) -> CreateDecision {
        if self.settings.required {
            return Refused::NoToken.into();
        }
        let mut creation = CreateDecision::allow();
        // Parts are no uploads of their own to people.
        if self.settings.follow_all && upload.kind != UploadKind::Partial {
            creation.idempotency = Some(Arc::new(Followed::new(self.queue.clone())));
        }
        creation
    }
}

#[async_trait]
impl Hook for Gate {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            ..HookPoints::default()
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
    ) -> Result<CreateDecision, BoxError> {
        // A direct upload: its job was found, or made, before anybody was asked.
        if upload.labels.contains_key(labels::JOB) {
            return Ok(CreateDecision::allow());
        }
        let Some(token) = &request.token else {
            return Ok(self.without_token(upload));
        };
        let job = self.queue.by_token(&TokenHash::of(token.as_str())).await?;
        let job = job.filter(|job| check::is_meant(job, &upload.metadata));
        let Some(job) = job else {
            let attempt = FailedAttempt {
                client: self.client(request),
                secret: Some(token.as_str()),
                is_cross_site: is_cross_site(&request.headers),
            };
            let recorded = self
                .settings
                .guesses
                .as_ref()
                .map(|all| all.record(&attempt));
            return Ok(match recorded {
                Some(Err(wait)) => Refused::TooManyGuesses(wait).into(),
                _ => Refused::UnknownToken.into(),
            });
        };
        let parts = match &upload.kind {
            UploadKind::Final { .. } => self.queue.uploads_of(job.id).await?,
            _ => Vec::new(),
        };
        let now = self.queue.now();
        if let Err(refused) = check::check(&job, upload, &parts, now, self.settings.check_type) {
            return Ok(refused.into());
        }
        let mut creation = CreateDecision::allow()
            .label(labels::JOB, job.id.to_string())
            .label(labels::REQUEST_ID, &*job.request_id);
        if let Some(subject) = &job.subject {
            creation = creation.label(labels::SUBJECT, &**subject);
        }
        creation.metadata = check::metadata(&job, upload);
        creation.max_size = job.size.or(job.max_size);
        if upload.kind != UploadKind::Partial {
            creation.length = job.size;
        }
        let digest = check::digest(upload);
        creation.idempotency = Some(Arc::new(Granted::new(
            self.queue.clone(),
            &job,
            digest,
            upload,
        )));
        Ok(creation)
    }
}

impl From<Refused> for CreateDecision {
    fn from(refused: Refused) -> Self {
        Self::refuse(ClientResponse::from(refused))
    }
}
