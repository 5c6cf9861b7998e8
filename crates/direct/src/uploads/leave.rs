//! The leave to open an upload: of the policies and the queue, or of a grant.

use http::request::Parts;
use landfall::upload::UploadId;
use landfall_grants::{
    Job, JobState, Principal, policy,
    queue::{GrantOutcome, NewJob},
};

use super::{
    Direct, Who, key,
    wish::{Wish, ended},
};
use crate::{DirectError, Record, Standing};

/// The leave to open one.
pub(super) struct Leave {
    pub(super) job: Box<Job>,
    /// Whether it was asked for just now, by this very request.
    pub(super) is_new: bool,
    /// Whether it was granted to a token: then the token stays good if nothing comes of this.
    pub(super) by_token: bool,
    /// Whether its client has a way to ask for the same again.
    pub(super) can_ask_again: bool,
    /// What its client asks for, in digest.
    pub(super) digest: String,
    /// The types that are welcome, if not all are.
    pub(super) types: Vec<String>,
    /// The upload that is bound to the job and isn't, or isn't any more.
    pub(super) replaced: Option<UploadId>,
}

impl Leave {
    /// The leave of a caller.
    pub(super) fn new(job: Box<Job>, is_new: bool, wish: &Wish) -> Self {
        Self {
            job,
            is_new,
            by_token: false,
            can_ask_again: wish.request_id.is_some(),
            digest: wish.digest(),
            types: Vec::new(),
            replaced: None,
        }
    }
}

/// What a look at the job gave.
pub(super) enum Before {
    /// Nothing came of it yet.
    Nothing(Leave),
    /// It was opened before, in the same words.
    Opened(Record),
}

impl Direct {
    /// The upload that its client has already opened at a key of its own choice.
    pub(super) async fn at_own_key(
        &self,
        who: &Who,
        wish: &Wish,
    ) -> Result<Option<Record>, DirectError> {
        let Some(key) = &wish.key else {
            return Ok(None);
        };
        let found = match self.find(who, key, None).await {
            Ok(found) => found,
            Err(DirectError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        match found.standing {
            Standing::Gone | Standing::Finished => Ok(None),
            Standing::Opening => Err(DirectError::Busy),
            Standing::Open | Standing::Finishing if found.way == wish.way => {
                Ok(Some(Record::clone(&found)))
            }
            Standing::Open | Standing::Finishing => Err(DirectError::other_words("key")),
        }
    }

    /// Calls the policies; returns the job to grant and the types that are allowed.
    pub(super) async fn ask(
        &self,
        caller: &Principal,
        wish: &Wish,
        request: &Parts,
    ) -> Result<(NewJob, Vec<String>), DirectError> {
        let id = wish.request_id.clone().unwrap_or_else(key::uuid);
        let mut ask = wish.ask(&id);
        policy::decide(&self.settings().policies, caller, &mut ask, request).await?;
        let types = ask.limits.allowed_types.clone();
        Ok((wish.job(&caller.subject, ask), types))
    }

    /// Grants a job to a caller whose hooks are called next.
    pub(super) async fn grant(
        &self,
        new: NewJob,
        types: Vec<String>,
        wish: &Wish,
    ) -> Result<Before, DirectError> {
        let (job, is_new) = match self.queue().grant(new).await? {
            GrantOutcome::Created(job, _) => (job, true),
            GrantOutcome::Existing(job, _) => (job, false),
            GrantOutcome::Conflict(_) => return Err(DirectError::other_words("id")),
            GrantOutcome::LimitExceeded(refusal) => return Err(DirectError::Refused(refusal)),
        };
        let leave = Leave {
            types,
            ..Leave::new(job, is_new, wish)
        };
        match is_new {
            true => Ok(Before::Nothing(leave)),
            false => self.before(leave).await,
        }
    }

    /// Compares what is asked for with the grant.
    pub(super) async fn use_grant(&self, job: &Job, wish: &Wish) -> Result<Before, DirectError> {
        // Who has a token may have looked it up a moment ago.
        let job = self.queue().get(job.id).await?;
        let job = Box::new(job.ok_or(DirectError::NotFound)?);
        if job.state == JobState::Received && job.expires_at <= self.queue().now() {
            return Err(DirectError::Conflict {
                gone: true,
                message: "the token's time is over: ask the application for another one".into(),
            });
        }
        if wish.key.is_some() {
            let why = "a token is good for the file that was granted, not for a key";
            return Err(DirectError::bad("key", why));
        }
        wish.fits(&job)?;
        let leave = Leave {
            by_token: true,
            can_ask_again: true,
            ..Leave::new(job, false, wish)
        };
        self.before(leave).await
    }

    /// What came of a job so far.
    pub(super) async fn before(&self, mut leave: Leave) -> Result<Before, DirectError> {
        if let Some(error) = ended(&leave.job) {
            return Err(error);
        }
        let Some((bound, digest)) = self.queue().bound_upload(leave.job.id).await? else {
            return Ok(Before::Nothing(leave));
        };
        if digest != leave.digest {
            return Err(DirectError::other_words("id or token"));
        }
        let record = self.0.books.get(&bound).await?;
        match record.map(|record| (record.standing, record)) {
            Some((Standing::Opening, _)) => Err(DirectError::Busy),
            Some((Standing::Open | Standing::Finishing | Standing::Finished, record)) => {
                Ok(Before::Opened(record))
            }
            // It came to nothing, and its client may try again.
            Some((Standing::Gone, _)) | None if leave.job.state == JobState::Started => {
                leave.replaced = Some(bound);
                Ok(Before::Nothing(leave))
            }
            Some((Standing::Gone, _)) | None => Err(DirectError::gone()),
        }
    }
}
