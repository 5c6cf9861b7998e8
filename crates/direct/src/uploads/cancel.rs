//! The other ends: cancelled, failed, expired. What there is of an upload goes.

use std::{sync::Arc, time::Duration};

use http::request::Parts;
use landfall::{
    event::{EventKind, Removal},
    hook::{Intent, RequestInfo},
    upload::Snapshot,
};
use landfall_grants::queue;
use landfall_s3::client::{self, ErrorKind};

use super::{Complete, Direct, request};
use crate::{DirectError, Hold, Record, Standing, Way, stats::count};

/// When it is tried again to remove what couldn't be removed.
const AGAIN: Duration = Duration::from_secs(60);
/// Multipart uploads that are looked through for those of one key.
const MOST_STRAYS: usize = 1000;

/// Why an upload ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody doesn't want it.
    Removed(Removal),
    /// What arrived isn't right; why, for people.
    Failed(String),
    /// Nothing came.
    Expired,
}

impl End {
    pub(super) fn too_large(stored: u64, most: u64) -> Self {
        Self::Failed(format!(
            "{stored} bytes arrived, and at most {most} were granted"
        ))
    }

    fn event(&self) -> EventKind {
        match self {
            Self::Removed(_) | Self::Failed(_) => EventKind::Terminated,
            Self::Expired => EventKind::Expired,
        }
    }

    /// What the queue is told.
    fn of_job(&self) -> queue::End {
        match self {
            Self::Removed(Removal::Hook) => {
                queue::End::Failed("refused or stopped by a hook".into())
            }
            Self::Removed(Removal::Client) => queue::End::Cancelled("by its client".into()),
            Self::Removed(_) => queue::End::Cancelled("by the application".into()),
            Self::Failed(why) => queue::End::Failed(why.clone()),
            Self::Expired => queue::End::Expired,
        }
    }
}

impl Direct {
    /// Its client doesn't want it any more: what there is of it goes. One that is gone stays gone.
    ///
    /// # Errors
    /// A hook refuses or can't be asked; it is complete; the books fail.
    ///
    /// # Cancel safety
    /// It goes on if dropped, once the hooks have been asked.
    pub async fn cancel(&self, record: &Record, request: &mut Parts) -> Result<(), DirectError> {
        let audience = self.audience()?;
        let info = request::info(&audience, request);
        let id = Some(record.id());
        audience.admit(&info, Intent::Terminate, id).await?;
        match record.standing {
            Standing::Gone => return Ok(()),
            Standing::Finished => return Err(complete_already()),
            _ => {}
        }
        audience.before_terminate(&info, &snapshot(record)).await?;
        let (this, id) = (self.clone(), record.id().clone());
        let cancelled = tokio::spawn(async move {
            let (hold, record) = this.hold(&id).await?;
            match record.standing {
                Standing::Gone => Ok(()),
                Standing::Finishing | Standing::Finished => Err(complete_already()),
                Standing::Opening | Standing::Open => {
                    let end = End::Removed(Removal::Client);
                    let ended = this.end(&hold, record, end, Some(&info)).await;
                    hold.release().await;
                    ended.map(drop)
                }
            }
        });
        cancelled.await.map_err(DirectError::broken_off)?
    }

    /// Ends one whose bytes aren't right.
    ///
    /// # Errors
    /// The books fail, or somebody is at it; it may be there then.
    pub(crate) async fn fail(&self, record: &Record, end: End) -> Result<(), DirectError> {
        let (hold, record) = self.hold(record.id()).await?;
        if matches!(record.standing, Standing::Opening | Standing::Open) {
            self.end(&hold, record, end, None).await?;
        }
        Ok(())
    }

    /// Gives one up of which nothing came, after a last look whether something has.
    ///
    /// # Errors
    /// S3 or the books fail; see also [`Direct::check`].
    pub(crate) async fn expire(&self, record: &Record) -> Result<Option<Complete>, DirectError> {
        let (hold, record) = self.hold(record.id()).await?;
        if record.standing != Standing::Open {
            return Ok(None);
        }
        match self.arrived(&hold, &record, None).await {
            Ok(arrived) => Ok(Some(self.finish(&hold, record, arrived, None).await?)),
            Err(DirectError::NotYet) => {
                self.end(&hold, record, End::Expired, None).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes what there is of one that was being opened when its process died. Nobody has heard of
    /// it.
    ///
    /// # Errors
    /// S3, the books or the queue fail; the next time does the rest.
    pub(crate) async fn abandon(&self, record: &Record) -> Result<(), DirectError> {
        let (hold, mut record) = self.hold(record.id()).await?;
        if record.standing != Standing::Opening {
            return Ok(());
        }
        record.standing = Standing::Gone;
        record.check_at = Some(self.queue().now() + AGAIN);
        if !self.change(&record, Standing::Opening).await? {
            return Ok(());
        }
        // Its client may have asked again meanwhile, and got another one.
        let bound = self.queue().bound(record.job).await?;
        if bound.is_none_or(|(bound, _)| bound == *record.id()) {
            let why = queue::End::Failed("it was never begun on S3".into());
            self.queue().end(record.job, why).await?;
        }
        self.clear_held(&hold, record).await
    }

    /// Removes what may be left of one that is gone: what couldn't be removed, or came late.
    ///
    /// # Errors
    /// S3 or the books fail.
    pub(crate) async fn clear(&self, record: &Record) -> Result<(), DirectError> {
        let (hold, record) = self.hold(record.id()).await?;
        if record.standing != Standing::Gone {
            return Ok(());
        }
        self.clear_held(&hold, record).await
    }

    /// Ends one: announces it, writes it down, removes what there is, tells it. Gives why not
    /// all of it could be removed, if that is so: then the sweeper does it.
    ///
    /// # Errors
    /// A sink or the books fail, or the hold was lost; nothing has happened then.
    pub(super) async fn end(
        &self,
        hold: &Hold,
        mut record: Record,
        end: End,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<Option<DirectError>, DirectError> {
        let audience = self.audience()?;
        let (upload, stored) = (record.upload.clone(), record.stored);
        audience
            .announce(end.event(), &upload, stored, info)
            .await?;
        let room = audience.reserve(end.event()).await?;
        Self::must_hold(hold)?;
        let from = record.standing;
        record.standing = Standing::Gone;
        record.check_at = Some(self.queue().now() + AGAIN);
        if !self.change(&record, from).await? {
            return Err(DirectError::Busy);
        }
        self.count(&end);
        let job = record.job;
        // Whoever follows doesn't know why; the first reason stays.
        if matches!(end, End::Failed(_)) {
            self.end_job(&record, &end).await;
        }
        let left = self.clear_held(hold, record.clone()).await.err();
        if let Some(error) = &left {
            tracing::warn!(id = %upload.id, %error, "an upload that has ended can't be removed yet");
        }
        let removal = match &end {
            End::Removed(why) => Some(*why),
            End::Failed(_) => Some(Removal::Application),
            End::Expired => None,
        };
        match removal {
            Some(why) => {
                let emitted = audience.emit_removed(room, why, &upload, stored, info);
                emitted.await;
            }
            None => {
                let emitted = audience.emit(room, EventKind::Expired, &upload, stored, info);
                emitted.await;
            }
        }
        self.end_job(&record, &end).await;
        tracing::debug!(id = %upload.id, %job, ?end, "DirectUploadEnded");
        Ok(left)
    }

    async fn end_job(&self, record: &Record, end: &End) {
        let job = record.job;
        if let Err(error) = self.queue().end(job, end.of_job()).await {
            tracing::error!(id = %record.upload.id, %job, %error, "an end can't be noted in the queue");
        }
    }

    fn count(&self, end: &End) {
        let stats = &self.settings().stats;
        count(match end {
            End::Removed(Removal::Hook) | End::Failed(_) => &stats.failed,
            End::Removed(_) => &stats.cancelled,
            End::Expired => &stats.expired,
        });
    }

    /// Removes what there is of one that is gone, and notes that.
    async fn clear_held(&self, hold: &Hold, mut record: Record) -> Result<(), DirectError> {
        Self::must_hold(hold)?;
        self.remove_from_s3(&record).await?;
        let now = self.queue().now();
        // What was signed may still be used.
        let until = match record.way {
            Way::Multipart => None,
            Way::Put | Way::Post | Way::SignedMultipart => {
                Some(record.active_at + self.settings().may_arrive_for())
                    .filter(|until| *until > now)
            }
        };
        record.check_at = until;
        self.change(&record, Standing::Gone).await?;
        Ok(())
    }

    async fn remove_from_s3(&self, record: &Record) -> Result<(), client::Error> {
        let client = &self.settings().client;
        if let Some(multipart) = &record.multipart {
            client.abort_multipart(&record.place, multipart).await?;
        }
        // Others at its key: one whose id was lost with an answer, or that its client began besides.
        let is_known = record.way == Way::Multipart && record.multipart.is_some();
        if !is_known && matches!(record.way, Way::Multipart | Way::SignedMultipart) {
            self.remove_strays(record).await?;
        }
        let head = match client.head_object(&record.place).await {
            Ok(head) => head,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.is_from_client(record, &head) && self.is_newest(record).await {
            true => client.delete_object(&record.place).await,
            false => Ok(()),
        }
    }

    /// Whether nobody else has a file at its key by now.
    async fn is_newest(&self, record: &Record) -> bool {
        let place = &record.place;
        match self.0.books.at(&place.bucket, &place.key).await {
            Ok(newest) => newest.is_none_or(|newest| newest.id() == record.id()),
            Err(_) => false,
        }
    }

    /// Drops multipart uploads of exactly its key.
    async fn remove_strays(&self, record: &Record) -> Result<(), client::Error> {
        let (client, place) = (&self.settings().client, &record.place);
        if !self.is_newest(record).await {
            return Ok(());
        }
        let mut after = None;
        let mut seen = 0;
        while seen < MOST_STRAYS {
            let page = client.list_multiparts(&place.bucket, &place.key, after, 1000);
            let page = page.await?;
            for stray in page.uploads.iter().filter(|one| one.key == place.key) {
                client.abort_multipart(place, &stray.upload_id).await?;
            }
            seen += page.uploads.len();
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(())
    }
}

/// How a record stands, as hooks and sinks are told.
pub(super) fn snapshot(record: &Record) -> Snapshot {
    Snapshot {
        upload: record.upload.clone(),
        offset: record.stored,
        modified: record.active_at,
    }
}

fn complete_already() -> DirectError {
    DirectError::Conflict {
        gone: false,
        message: "the file is complete and can't be cancelled any more".into(),
    }
}
