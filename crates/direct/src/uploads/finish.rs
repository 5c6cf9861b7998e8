//! The one way by which anything becomes complete, whoever finds that it is.

use std::{sync::Arc, time::Duration};

use landfall::{
    direct::Audience,
    event::{EventKind, Removal},
    hook::{Reply, RequestInfo},
    upload::{Snapshot, Upload, UploadId},
};
use landfall_grants::queue;
use landfall_s3::client::{self, ErrorKind, ObjectHead};

use super::{
    Complete, Direct, ETAG, PARTS, REPLACES,
    cancel::End,
    check::wrong_type,
    complete::{intended, numbers},
    key::{fingerprint, uuid_of},
};
use crate::{DirectError, Hold, Record, Standing, Way, stats::count};

/// When one that somebody is completing is looked at by the sweeper.
const AGAIN: Duration = Duration::from_secs(30);

/// Parts that are to become the object.
#[derive(Debug)]
pub(super) struct Whole {
    /// Numbers and entity tags, in order.
    pub(super) parts: Vec<(u32, String)>,
    /// Their bytes together.
    pub(super) size: u64,
    /// Whether S3 has no others.
    pub(super) is_all: bool,
}

/// What was found to be right.
#[derive(Debug)]
pub(super) enum Arrived {
    /// Parts, of which the object is yet to be made.
    InParts(Whole),
    /// The object.
    There(ObjectHead),
}

impl Arrived {
    fn size(&self) -> u64 {
        match self {
            Self::InParts(whole) => whole.size,
            Self::There(head) => head.size,
        }
    }
}

impl Direct {
    /// Goes on with one that was being completed when its process died, or when a hook couldn't be
    /// asked.
    ///
    /// # Errors
    /// See [`Direct::complete`].
    pub(crate) async fn resume(&self, record: &Record) -> Result<Complete, DirectError> {
        let (this, id) = (self.clone(), record.id().clone());
        let resumed = tokio::spawn(async move { this.resume_of(&id, None).await });
        resumed.await.map_err(DirectError::broken_off)?
    }

    pub(super) async fn resume_of(
        &self,
        id: &UploadId,
        info: Option<Arc<RequestInfo>>,
    ) -> Result<Complete, DirectError> {
        let (hold, record) = self.hold(id).await?;
        let done = self.go_on(&hold, record, info).await;
        hold.release().await;
        done
    }

    /// Says what has become of one that isn't open any more; completes it, if it is to be completed.
    pub(super) async fn go_on(
        &self,
        hold: &Hold,
        record: Record,
        info: Option<Arc<RequestInfo>>,
    ) -> Result<Complete, DirectError> {
        match record.standing {
            Standing::Finished => Ok(self.said(record)),
            Standing::Gone => Err(DirectError::gone()),
            Standing::Opening => Err(DirectError::Busy),
            Standing::Open => Err(DirectError::NotYet),
            Standing::Finishing => {
                let arrived = match self.intended(&record).await? {
                    Some(arrived) => arrived,
                    None => self.measured(hold, &record, info.as_ref()).await?,
                };
                if arrived.size() != record.stored && matches!(arrived, Arrived::InParts(_)) {
                    self.back_to_open(record).await?;
                    let why =
                        "the parts have changed while they were put together: complete it again";
                    return Err(DirectError::Parts(why.into()));
                }
                self.finish(hold, record, arrived, info).await
            }
        }
    }

    /// The parts that were to be put together; `None` if that was done.
    async fn intended(&self, record: &Record) -> Result<Option<Arrived>, DirectError> {
        let Some(multipart) = &record.multipart else {
            return Ok(None);
        };
        match self.list(record, multipart).await {
            Ok(listed) => {
                let ranges = record.upload.storage.get(PARTS).map(String::as_str);
                Ok(Some(Arrived::InParts(intended(ranges, &listed))))
            }
            Err(DirectError::S3(error)) if *error.kind() == ErrorKind::NoSuchUpload => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Completes one whose bytes are right: writes that down, announces it, makes the object, asks the
    /// hooks, writes down what they said, tells it.
    pub(super) async fn finish(
        &self,
        hold: &Hold,
        mut record: Record,
        arrived: Arrived,
        info: Option<Arc<RequestInfo>>,
    ) -> Result<Complete, DirectError> {
        let audience = self.audience()?;
        let size = arrived.size();
        let from = record.standing;
        if from == Standing::Open || record.stored != size {
            record.standing = Standing::Finishing;
            record.stored = size;
            record.looks = 0;
            record.check_at = Some(self.queue().now() + AGAIN);
            record.upload = noting_parts(&record.upload, &arrived);
            if !self.change(&record, from).await? {
                return Err(DirectError::Busy);
            }
        }
        let told = complete(&record.upload, size, None);
        let asked = info.as_ref();
        audience
            .announce(EventKind::Completed, &told, size, asked)
            .await?;
        let head = match arrived {
            Arrived::There(head) => head,
            Arrived::InParts(whole) => self.put_together(hold, &record, whole, asked).await?,
        };
        Self::must_hold(hold)?;
        let snapshot = Snapshot {
            upload: told,
            offset: size,
            modified: head.modified.unwrap_or_else(|| self.queue().now()),
        };
        let reply = match audience.before_finish(asked, &snapshot).await {
            Ok(reply) => reply,
            Err(declined) if declined.cause.is_none() => {
                let end = End::Removed(Removal::Hook);
                self.end(hold, record, end, asked).await?;
                return Err(declined.into());
            }
            // It stays, and the question comes again.
            Err(declined) => return Err(declined.into()),
        };
        if self.can_be_replaced(&record) && !self.is_unchanged(&record, &head).await? {
            // It stays, and the hooks are called again for what is there now.
            return Err(DirectError::Conflict {
                gone: false,
                message: "the file was replaced while it was checked: complete it again".into(),
            });
        }
        self.finished(&audience, record, &head, reply, asked).await
    }

    /// Whether the object is still the one for which the hooks were called.
    async fn is_unchanged(&self, record: &Record, head: &ObjectHead) -> Result<bool, DirectError> {
        match self.settings().client.head_object(&record.place).await {
            Ok(now) => Ok(now.etag == head.etag && now.size == head.size),
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn finished(
        &self,
        audience: &Audience,
        mut record: Record,
        head: &ObjectHead,
        reply: Reply,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<Complete, DirectError> {
        let mut upload = Upload::clone(&complete(&record.upload, head.size, Some(&head.etag)));
        upload.finished = true;
        upload.parting = (!reply.is_empty()).then(|| Arc::new(reply));
        record.upload = Arc::new(upload);
        record.standing = Standing::Finished;
        record.check_at = None;
        let room = audience.reserve(EventKind::Completed).await?;
        if !self.change(&record, Standing::Finishing).await? {
            return Err(DirectError::Busy);
        }
        count(&self.settings().stats.completed);
        let Record { upload, job, .. } = &record;
        audience
            .emit(room, EventKind::Completed, upload, head.size, info)
            .await;
        // Whoever follows has done this already, if anybody does.
        let end = queue::End::Completed(head.size);
        if let Err(error) = self.queue().end(*job, end).await {
            tracing::error!(id = %upload.id, %job, %error, "a completion can't be noted in the queue");
        }
        tracing::debug!(id = %upload.id, size = head.size, "DirectUploadFinished");
        Ok(self.said(record))
    }

    /// Makes the object of its parts.
    async fn put_together(
        &self,
        hold: &Hold,
        record: &Record,
        whole: Whole,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<ObjectHead, DirectError> {
        let client = &self.settings().client;
        let multipart = record.multipart.as_deref().unwrap_or_default();
        let joined = client.complete_multipart(&record.place, multipart, &whole.parts);
        match joined.await {
            Ok(()) => {}
            Err(error) if is_of_parts(&error) => {
                self.back_to_open(record.clone()).await?;
                let why = error.message().or(error.code()).unwrap_or("they don't fit");
                return Err(DirectError::Parts(format!(
                    "S3 doesn't take these parts: {why}"
                )));
            }
            // Put together before, maybe; entity tags don't always show it.
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => {}
            Err(error) => return Err(error.into()),
        }
        let wrong = match client.head_object(&record.place).await {
            Ok(head) if head.size == whole.size && is_its_own(record, &head) => {
                match wrong_type(record, &head) {
                    None => return Ok(head),
                    Some(wrong) => wrong,
                }
            }
            Ok(head) => format!("it has {} bytes instead of {}", head.size, whole.size),
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => "it is gone from S3".into(),
            Err(error) => return Err(error.into()),
        };
        Err(self.removed(hold, record, wrong, info).await?)
    }

    /// Whether an object can be what the client sent, and is not what was at the key before or what
    /// somebody else put there after all signatures had ended.
    pub(super) fn is_from_client(&self, record: &Record, head: &ObjectHead) -> bool {
        let is_signed_once = matches!(record.way, Way::Put | Way::Post);
        let is_in_time = || {
            head.modified
                .is_none_or(|at| at <= record.active_at + self.settings().may_arrive_for())
        };
        is_its_own(record, head) && (!is_signed_once || has_own_key(record) || is_in_time())
    }

    /// Lets the client send parts again.
    async fn back_to_open(&self, mut record: Record) -> Result<(), DirectError> {
        let now = self.queue().now();
        record.upload = without(&record.upload, PARTS);
        record.standing = Standing::Open;
        record.active_at = now;
        record.check_at = Some(now + self.settings().interval);
        self.change(&record, Standing::Finishing).await?;
        Ok(())
    }

    /// What is said of a complete one, each time.
    fn said(&self, record: Record) -> Complete {
        let upload = &record.upload;
        Complete {
            location: self.location(&record),
            etag: upload.storage.get(ETAG).cloned().unwrap_or_default(),
            size: upload.length.unwrap_or(record.stored),
            reply: upload.parting.as_deref().cloned().unwrap_or_default(),
            record,
        }
    }
}

/// Whether an object is what was sent for this upload, and not what was at its key before.
pub(super) fn is_its_own(record: &Record, head: &ObjectHead) -> bool {
    let before = record.upload.storage.get(REPLACES);
    before.is_none_or(|before| *before != fingerprint(head))
}

/// Whether a key is made for this upload alone, because it holds its random id.
pub(super) fn has_own_key(record: &Record) -> bool {
    uuid_of(record.id()).is_some_and(|uuid| record.place.key.contains(uuid))
}

/// Whether S3 says that other parts would do.
fn is_of_parts(error: &client::Error) -> bool {
    *error.kind() == ErrorKind::EntityTooSmall
        || matches!(error.code(), Some("InvalidPart" | "InvalidPartOrder"))
}

/// The description of an upload that is complete.
fn complete(upload: &Upload, size: u64, etag: Option<&str>) -> Arc<Upload> {
    let mut upload = upload.clone();
    upload.length = Some(size);
    upload.storage.remove(PARTS);
    if let Some(etag) = etag {
        upload.storage.insert(ETAG.into(), etag.into());
    }
    Arc::new(upload)
}

/// With a note of which parts are meant, if not all that there are.
fn noting_parts(upload: &Arc<Upload>, arrived: &Arrived) -> Arc<Upload> {
    match arrived {
        Arrived::InParts(whole) if !whole.is_all => {
            let mut noting = Upload::clone(upload);
            let ranges = numbers(whole.parts.iter().map(|(number, _)| *number));
            noting.storage.insert(PARTS.into(), ranges);
            Arc::new(noting)
        }
        _ => without(upload, PARTS),
    }
}

fn without(upload: &Arc<Upload>, note: &str) -> Arc<Upload> {
    if !upload.storage.contains_key(note) {
        return upload.clone();
    }
    let mut plain = Upload::clone(upload);
    plain.storage.remove(note);
    Arc::new(plain)
}
