//! Authorizes an upload: by the policies and the queue, or by a grant.

use std::net::IpAddr;

use http::request::Parts;
use landfall::upload::UploadId;
use landfall_state::queue::{GrantOutcome, Job, JobState, NewJob, Principal, policy};

use super::{
    Direct, Requester,
    spec::{UploadSpec, ended_job_error},
};
use crate::{DirectError, Record, Status};

pub(super) struct Authorization {
    pub(super) job: Box<Job>,
    pub(super) is_new: bool,
    /// The grant stays valid if the upload cannot be opened.
    pub(super) by_token: bool,
    pub(super) can_retry: bool,
    pub(super) fingerprint: String,
    pub(super) client: Option<IpAddr>,
    /// Empty if all types are accepted.
    pub(super) types: Vec<String>,
    /// Was bound to the job and does not exist any more.
    pub(super) replaced: Option<UploadId>,
}

impl Authorization {
    pub(super) fn new(job: Box<Job>, is_new: bool, spec: &UploadSpec) -> Self {
        Self {
            job,
            is_new,
            by_token: false,
            can_retry: spec.request.request_id.is_some(),
            fingerprint: spec.fingerprint(),
            client: spec.request.client,
            types: Vec::new(),
            replaced: None,
        }
    }
}

impl Direct {
    pub(super) async fn existing_at_client_key(
        &self,
        requester: &Requester,
        spec: &UploadSpec,
    ) -> Result<Option<Record>, DirectError> {
        let Some(key) = &spec.request.key else {
            return Ok(None);
        };
        let found = match self.find(requester, key, None).await {
            Ok(found) => found,
            Err(DirectError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        match found.status {
            Status::Removed | Status::Completed => Ok(None),
            Status::Creating => Err(DirectError::Locked),
            Status::Open | Status::Completing if found.mode == spec.request.mode => {
                Ok(Some(Record::clone(&found)))
            }
            Status::Open | Status::Completing => Err(DirectError::conflicting_request("key")),
        }
    }

    /// Returns the job to grant.
    pub(super) async fn authorize(
        &self,
        caller: &Principal,
        spec: &UploadSpec,
        request: &Parts,
    ) -> Result<NewJob, DirectError> {
        let mut new = spec.job(&caller.subject);
        policy::decide(&self.settings().policies, caller, &mut new, request).await?;
        Ok(new)
    }

    pub(super) async fn grant(
        &self,
        new: NewJob,
        spec: &UploadSpec,
    ) -> Result<Authorization, DirectError> {
        let types = new.limits.allowed_types.clone();
        let (job, is_new) = match self.queue().grant(new).await? {
            GrantOutcome::Created(job, _) => (job, true),
            GrantOutcome::Existing(job, _) => (job, false),
            GrantOutcome::Conflict(_) => return Err(DirectError::conflicting_request("id")),
            GrantOutcome::LimitExceeded(refusal) => return Err(refusal.into()),
        };
        Ok(Authorization {
            types,
            ..Authorization::new(job, is_new, spec)
        })
    }

    pub(super) async fn check_grant(
        &self,
        job: &Job,
        spec: &UploadSpec,
    ) -> Result<Authorization, DirectError> {
        // The job may have changed since the token was authenticated.
        let job = self.queue().get(job.id).await?;
        let job = Box::new(job.ok_or(DirectError::NotFound)?);
        if job.state == JobState::Received && job.expires_at <= self.queue().now() {
            let why = "the upload token has expired; request a new one from the application";
            return Err(DirectError::ended(why));
        }
        if spec.request.key.is_some() {
            let why = "an upload token is valid for the granted file, not for a key";
            return Err(DirectError::invalid("key", why));
        }
        spec.check_grant(&job)?;
        Ok(Authorization {
            by_token: true,
            can_retry: true,
            ..Authorization::new(job, false, spec)
        })
    }

    /// Returns the upload that was opened for the job before.
    pub(super) async fn existing_upload(
        &self,
        authorization: &mut Authorization,
    ) -> Result<Option<Record>, DirectError> {
        if let Some(error) = ended_job_error(&authorization.job) {
            return Err(error);
        }
        let Some((bound, fingerprint)) = self.queue().bound_upload(authorization.job.id).await?
        else {
            return Ok(None);
        };
        if fingerprint != authorization.fingerprint {
            return Err(DirectError::conflicting_request("id or token"));
        }
        let record = self.0.repository.get(&bound).await?;
        match record.map(|record| (record.status, record)) {
            Some((Status::Creating, _)) => Err(DirectError::Locked),
            Some((Status::Open | Status::Completing | Status::Completed, record)) => {
                Ok(Some(record))
            }
            // It was removed, and the client may try again.
            Some((Status::Removed, _)) | None if authorization.job.state == JobState::Started => {
                authorization.replaced = Some(bound);
                Ok(None)
            }
            Some((Status::Removed, _)) | None => Err(DirectError::gone()),
        }
    }
}
