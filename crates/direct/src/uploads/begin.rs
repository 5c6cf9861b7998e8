//! The beginning of an upload that may be opened: in the books and the queue, on S3; and what is undone if
//! that fails.

use std::sync::Arc;

use landfall::{direct::HookDispatcher, event::EventKind, hook::RequestInfo};
use landfall_grants::{
    Job,
    queue::{End, GrantStarted, NewJob, Start, Started},
};
use landfall_s3::client::ErrorKind;

use super::{
    Direct, given,
    leave::Leave,
    open::{AtOnce, enter_job},
    schedule,
};
use crate::{DirectError, Record, Standing, Way, record::OPENING};

impl Direct {
    /// Writes it down and binds it to its job, both or neither; begins it on S3.
    pub(super) async fn launch(
        &self,
        audience: &HookDispatcher,
        info: &Arc<RequestInfo>,
        leave: Leave,
        mut record: Record,
    ) -> Result<(Arc<Record>, bool), DirectError> {
        let begun = match self.bind(&leave, &record).await {
            // Another call with the same request has opened it first.
            Ok(Some(other)) => return Ok((Arc::new(other), false)),
            Ok(None) => self.begin(audience, info, &mut record).await,
            Err(error) => Err(error),
        };
        Ok((self.launched(&leave, record, begun).await?, true))
    }

    /// Grants the job of a draft, binds it and writes it down, all or nothing; begins it on S3.
    pub(super) async fn launch_at_once(
        &self,
        audience: &HookDispatcher,
        info: &Arc<RequestInfo>,
        new: NewJob,
        mut leave: Leave,
        mut record: Record,
    ) -> Result<AtOnce, DirectError> {
        let (draft, books, digest) = (record.clone(), self.0.books.clone(), leave.digest.clone());
        let start = move |job: &Job| {
            let mut record = draft.clone();
            enter_job(&mut record, job);
            let start = Start::new(record.id().clone(), record.upload.length, &*digest);
            start.along(books.insert_statement(&record))
        };
        let granted = match self.queue().grant_and_start(new, start).await {
            Ok(granted) => granted,
            Err(error) => {
                // The transaction may have been committed.
                self.delete_draft(record).await;
                return Err(error.into());
            }
        };
        let (job, started) = match granted {
            GrantStarted::New(job, started) => (job, started),
            GrantStarted::Again(job) => {
                (leave.job, leave.is_new) = (job, false);
                return Ok(AtOnce::Existing(leave));
            }
            GrantStarted::Conflict(_) => return Err(DirectError::other_words("id")),
            GrantStarted::Refused(refusal) => return Err(DirectError::Refused(refusal)),
        };
        enter_job(&mut record, &job);
        leave.job = job;
        if let Some(error) = start_error(&started, &leave.job, &record) {
            self.on_denied(&leave, &error).await;
            return Err(error);
        }
        let begun = self.begin(audience, info, &mut record).await;
        Ok(AtOnce::Opened(self.launched(&leave, record, begun).await?))
    }

    /// Removes the upload and its record if beginning it failed.
    async fn launched(
        &self,
        leave: &Leave,
        record: Record,
        begun: Result<(), DirectError>,
    ) -> Result<Arc<Record>, DirectError> {
        match begun {
            Ok(()) => {
                tracing::debug!(
                    id = %record.upload.id,
                    job = %record.job,
                    subject = record.subject,
                    way = ?record.way,
                    key = record.place.key,
                    "DirectUploadOpened"
                );
                Ok(Arc::new(record))
            }
            Err(error) => {
                self.delete_draft(record).await;
                self.on_denied(leave, &error).await;
                Err(error)
            }
        }
    }

    /// Gives back the upload that was opened for the job instead, if there is one.
    async fn bind(&self, leave: &Leave, record: &Record) -> Result<Option<Record>, DirectError> {
        let upload = &record.upload;
        let start = Start::new(upload.id.clone(), upload.length, &*leave.digest);
        let start = start
            .instead_of(leave.replaced.clone())
            .along(self.0.books.insert_statement(record));
        let started = self.queue().start(leave.job.id, start).await?;
        if let Started::Other(other) = &started {
            let other = self.0.books.get(other).await?;
            let other = other.filter(|other| other.standing != Standing::Opening);
            return Ok(Some(other.ok_or(DirectError::Busy)?));
        }
        start_error(&started, &leave.job, record).map_or(Ok(None), Err)
    }

    /// Begins an upload on S3 that is bound to its job, and emits its event.
    async fn begin(
        &self,
        audience: &HookDispatcher,
        info: &Arc<RequestInfo>,
        record: &mut Record,
    ) -> Result<(), DirectError> {
        let upload = record.upload.clone();
        audience
            .prepare(EventKind::Created, &upload, 0, Some(info))
            .await?;
        let room = audience.reserve(EventKind::Created).await?;
        if record.way == Way::Multipart {
            let object = given::headers(&self.0.layout, &upload);
            let client = &self.settings().client;
            record.multipart = Some(client.create_multipart(&record.place, &object).await?);
        }
        if record.standing == Standing::Opening {
            record.standing = Standing::Open;
            record.check_at = Some(schedule::first_check(
                self.settings(),
                record,
                self.queue().now(),
            ));
            if !self.change(record).await? {
                return Err(DirectError::gone());
            }
        }
        audience
            .emit(room, EventKind::Created, &upload, 0, Some(info))
            .await;
        Ok(())
    }

    /// Removes what there is of an upload that wasn't opened after all.
    async fn delete_draft(&self, mut record: Record) {
        let id = record.id().clone();
        record.standing = Standing::Gone;
        // An answer of S3's may have been lost, and with it the multipart upload's id.
        record.check_at = (record.way == Way::Multipart).then(|| self.queue().now() + OPENING);
        if let Some(multipart) = &record.multipart {
            let client = &self.settings().client;
            match client.abort_multipart(&record.place, multipart).await {
                Ok(()) => record.check_at = None,
                Err(error) => {
                    tracing::warn!(id = %record.upload.id, %error, "a multipart upload is left over");
                }
            }
        }
        match self.mark_removed(record).await {
            Ok(()) => {}
            // The sweeper finds it.
            Err(error) => tracing::warn!(%id, %error, "failed to delete draft record"),
        }
    }

    async fn mark_removed(&self, mut record: Record) -> Result<(), DirectError> {
        if self.change(&mut record).await? {
            return Ok(());
        }
        // It is not known whether a change was written before.
        let Some(now) = self.0.books.get(record.id()).await? else {
            return Ok(());
        };
        if matches!(now.standing, Standing::Opening | Standing::Open) {
            record.version = now.version;
            self.change(&mut record).await?;
        }
        Ok(())
    }

    /// Ends the job of an upload that wasn't opened, unless its client can ask for it again: of a fault
    /// of ours always, of a refusal with a token.
    pub(super) async fn on_denied(&self, leave: &Leave, error: &DirectError) {
        let may_pass = leave.can_ask_again && may_pass(error);
        let is_kept = leave.by_token || may_pass || (!leave.is_new && belongs_to_other(error));
        if is_kept {
            return;
        }
        let reason = format!("its upload was refused: {error}");
        let job = leave.job.id;
        if let Err(error) = self.queue().end(job, End::Failed(reason)).await {
            tracing::error!(%job, %error, "a job whose upload was refused stays reserved");
        }
    }
}

/// Why an upload was not bound to its job, if it was not.
fn start_error(started: &Started, job: &Job, record: &Record) -> Option<DirectError> {
    Some(match started {
        Started::Bound => return None,
        Started::TooMuch => DirectError::TooLarge {
            stored: record.upload.length.unwrap_or_default(),
            most: job.size.or(job.max_size).unwrap_or_default(),
        },
        Started::Other(_) | Started::Differs => DirectError::other_words("id or token"),
        Started::TooLate | Started::Ended(_) | Started::Unknown => DirectError::gone(),
    })
}

/// Whether the same again may succeed.
pub(super) fn may_pass(error: &DirectError) -> bool {
    match error {
        DirectError::Declined(declined) => {
            declined.cause.is_some() || declined.status.is_server_error()
        }
        DirectError::S3(error) => matches!(error.kind(), ErrorKind::Unavailable { .. }),
        DirectError::Queue(_)
        | DirectError::Database(_)
        | DirectError::Busy
        | DirectError::Fault(_) => true,
        _ => false,
    }
}

/// Whether it says only that there is another one under the same job, which is to stay.
fn belongs_to_other(error: &DirectError) -> bool {
    matches!(error, DirectError::Busy | DirectError::Conflict { .. })
}
