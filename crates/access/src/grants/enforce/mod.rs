//! Enforcement of grants when uploads are created: [`GrantHook`] verifies upload tokens.

mod idempotency;
mod verify;

use std::{net::IpAddr, sync::Arc};

use crate::{
    ClientAddress,
    auth::{FailedAttempt, FailedAttempts, is_cross_site},
};
use async_trait::async_trait;
use landfall::{
    BoxError,
    hook::{ClientResponse, CreateDecision, Hook, HookPoints, RequestInfo},
    upload::{Upload, UploadKind},
};
use landfall_state::queue::{Queue, TokenHash, tracking::labels};

use self::{
    idempotency::{GrantKey, TrackedUploadKey},
    verify::TokenRejection,
};

/// Settings of [`GrantHook`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GrantHookSettings {
    /// Rejects uploads without an upload token.
    pub require_token: bool,
    /// Rejects uploads whose `filetype` differs from the granted one.
    pub enforce_type: bool,
    /// Creates jobs for uploads without a token, so that they appear in the queue.
    pub track_all: bool,
    /// Limits invalid tokens.
    pub failed_attempts: Option<FailedAttempts>,
    /// Finds the client's address.
    pub client: ClientAddress,
}

/// A hook that verifies upload tokens and binds uploads to their jobs.
///
/// A grant is valid for one upload, or for a set of partial uploads and their final one. This hook
/// should be the first, so that others see the labels and the granted file name.
#[derive(Debug, Clone)]
pub struct GrantHook {
    queue: Queue,
    settings: GrantHookSettings,
}

impl GrantHook {
    /// Creates a hook for the jobs of a queue.
    #[must_use]
    pub fn new(queue: Queue, settings: GrantHookSettings) -> Self {
        Self { queue, settings }
    }

    fn client(&self, request: &RequestInfo) -> Option<IpAddr> {
        let peer = request.remote.parse().ok();
        self.settings.client.find(&request.headers, peer)
    }

    fn untokened(&self, request: &RequestInfo, upload: &Upload) -> CreateDecision {
        if self.settings.require_token {
            return TokenRejection::NoToken.into();
        }
        let mut creation = CreateDecision::allow();
        // Partial uploads are not tracked separately.
        if self.settings.track_all && upload.kind != UploadKind::Partial {
            creation.idempotency = Some(Arc::new(TrackedUploadKey {
                queue: self.queue.clone(),
                client: self.client(request),
            }));
            if upload.metadata.get(labels::DOCTOR).is_some() {
                creation.labels.insert(labels::DOCTOR.into(), "1".into());
            }
        }
        creation
    }
}

#[async_trait]
impl Hook for GrantHook {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            ..HookPoints::default()
        }
    }

    fn name(&self) -> Option<&'static str> {
        Some("grants")
    }

    /// The job of a direct upload is created before hooks are called, or with the upload.
    fn affects_direct_uploads(&self) -> bool {
        false
    }

    async fn before_create(
        &self,
        request: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        // A direct upload already has a job.
        if upload.labels.contains_key(labels::JOB) {
            return Ok(CreateDecision::allow());
        }
        let Some(token) = &request.token else {
            return Ok(self.untokened(request, upload));
        };
        let hash = TokenHash::from_secret(token.as_str());
        let job = self.queue.by_token(&hash).await?;
        let job = job.filter(|job| verify::is_bound_to(job, &upload.metadata));
        let Some(job) = job else {
            let attempt = FailedAttempt {
                client: self.client(request),
                secret: Some(token.as_str()),
                is_cross_site: is_cross_site(&request.headers),
            };
            let limiter = self.settings.failed_attempts.as_ref();
            return Ok(match limiter.map(|limiter| limiter.record(&attempt)) {
                Some(Err(wait)) => TokenRejection::TooManyGuesses(wait).into(),
                _ => TokenRejection::UnknownToken.into(),
            });
        };
        let parts = match &upload.kind {
            UploadKind::Final { .. } => self.queue.uploads_of(job.id).await?,
            _ => Vec::new(),
        };
        let now = self.queue.now();
        if let Err(refused) = verify::check(&job, upload, &parts, now, self.settings.enforce_type) {
            return Ok(refused.into());
        }
        let mut creation = CreateDecision::allow();
        creation.labels.extend(labels::from_job(&job));
        creation.metadata = verify::metadata(&job, upload);
        creation.max_size = job.size.or(job.max_size);
        if upload.kind != UploadKind::Partial {
            creation.length = job.size;
        }
        let digest = verify::digest(upload);
        let client = self.client(request);
        let key = GrantKey::new(self.queue.clone(), &job, digest, upload, client);
        creation.idempotency = Some(Arc::new(key));
        Ok(creation)
    }
}

impl From<TokenRejection> for CreateDecision {
    fn from(refused: TokenRejection) -> Self {
        Self::deny(ClientResponse::from(refused))
    }
}
