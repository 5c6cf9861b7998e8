//! Opening: checks, the grant, the hooks, the books, and the beginning on S3, in this order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::request::Parts;
use landfall::{
    direct::Audience,
    event::EventKind,
    hook::{Intent, RequestInfo},
    upload::{Upload, UploadId},
};
use landfall_grants::{
    Caller, Job, JobState,
    gate::labels,
    policy,
    queue::{End, Granted, Start, Started},
};
use landfall_s3::client::{ErrorKind, Place};

use super::{
    Asked, Direct, REPLACES, TYPES, Who, given, key, request,
    sign::gone,
    wish::{Wish, ended, fits_way},
};
use crate::{DirectError, Record, Standing, Way};

/// After this the sweeper takes one that is being opened for left over.
const OPENING: Duration = Duration::from_secs(60);

/// The leave to open one.
struct Leave {
    job: Box<Job>,
    /// Whether it was asked for just now, by this very request.
    is_new: bool,
    /// Whether it was granted to a token: then the token stays good if nothing comes of this.
    by_token: bool,
    /// Whether its client has a way to ask for the same again.
    can_ask_again: bool,
    /// What its client asks for, in digest.
    digest: String,
    /// The types that are welcome, if not all are.
    types: Vec<String>,
    /// The upload that is bound to the job and isn't, or isn't any more.
    replaced: Option<UploadId>,
}

/// What a look at the job gave.
enum Before {
    /// Nothing came of it yet.
    Nothing(Leave),
    /// It was opened before, in the same words.
    Opened(Record),
}

impl Direct {
    /// Checks what is asked for, reserves quota, asks the hooks, writes it down and, for a multipart
    /// upload, begins it. The same [`Asked::request_id`] (or the same grant, or the same
    /// [`Asked::key`]) with the same words finds the upload that was opened before.
    ///
    /// # Errors
    /// All that [`DirectError`] knows but what concerns bytes. Refused, it leaves nothing behind.
    ///
    /// # Cancel safety
    /// Dropped, it may have been opened; the sweeper removes what nobody uses.
    pub async fn open(
        &self,
        who: &Who,
        asked: Asked,
        request: &mut Parts,
    ) -> Result<Arc<Record>, DirectError> {
        let opened = self.open_or_find(who, asked, request).await;
        match &opened {
            Ok((_, true)) => count(&self.settings().stats.opened),
            Ok((_, false)) => {}
            Err(error) if may_pass(error) => {}
            Err(_) => count(&self.settings().stats.refused),
        }
        opened.map(|(record, _)| record)
    }

    /// Says, too, whether it was opened just now.
    async fn open_or_find(
        &self,
        who: &Who,
        asked: Asked,
        request: &mut Parts,
    ) -> Result<(Arc<Record>, bool), DirectError> {
        let audience = self.audience()?;
        let wish = Wish::new(asked, &self.own_prefix(who.subject()))?;
        fits_way(wish.way, wish.size, self.settings().objects.max_object)?;
        let info = request::info(&audience, request);
        if let Some(record) = self.at_own_key(who, &wish).await? {
            return Ok((Arc::new(record), false));
        }
        let before = match who {
            Who::Caller(caller) => self.ask(caller, &wish, request).await?,
            Who::Grant(job) => self.use_grant(job, &wish).await?,
        };
        let leave = match before {
            Before::Opened(record) => return Ok((Arc::new(record), false)),
            Before::Nothing(leave) => leave,
        };
        let drafted = self.draft(&audience, &info, &wish, &leave).await;
        let record = match drafted {
            Ok(record) => record,
            Err(error) => {
                self.turned_down(&leave, &error).await;
                return Err(error);
            }
        };
        // What has begun is ended even if the client goes away.
        let this = self.clone();
        let opened =
            tokio::spawn(async move { this.launch(&audience, &info, leave, record).await });
        let opened = opened.await;
        opened.map_err(|error| DirectError::Fault(format!("opening broke off: {error}")))?
    }

    /// The upload that its client has already opened at a key of its own choice.
    async fn at_own_key(&self, who: &Who, wish: &Wish) -> Result<Option<Record>, DirectError> {
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
            Standing::Open | Standing::Finishing => Err(other_words("key")),
        }
    }

    /// Asks the policies, and the queue for a job.
    async fn ask(
        &self,
        caller: &Caller,
        wish: &Wish,
        request: &Parts,
    ) -> Result<Before, DirectError> {
        let id = wish.request_id.clone().unwrap_or_else(key::uuid);
        let mut ask = wish.ask(&id);
        policy::decide(&self.settings().policies, caller, &mut ask, request).await?;
        let types = ask.limits.content_types.clone();
        let new = wish.job(&caller.subject, ask);
        let (job, is_new) = match self.queue().grant(new).await? {
            Granted::New(job, _) => (job, true),
            Granted::Again(job, _) => (job, false),
            Granted::Conflict(_) => return Err(other_words("id")),
            Granted::Refused(refusal) => return Err(DirectError::Refused(refusal)),
        };
        let leave = Leave {
            job,
            is_new,
            by_token: false,
            can_ask_again: wish.request_id.is_some(),
            digest: wish.digest(),
            types,
            replaced: None,
        };
        match is_new {
            true => Ok(Before::Nothing(leave)),
            false => self.before(leave).await,
        }
    }

    /// Compares what is asked for with the grant.
    async fn use_grant(&self, job: &Job, wish: &Wish) -> Result<Before, DirectError> {
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
            job,
            is_new: false,
            by_token: true,
            can_ask_again: true,
            digest: wish.digest(),
            types: Vec::new(),
            replaced: None,
        };
        self.before(leave).await
    }

    /// What came of a job so far.
    async fn before(&self, mut leave: Leave) -> Result<Before, DirectError> {
        if let Some(error) = ended(&leave.job) {
            return Err(error);
        }
        let Some((bound, digest)) = self.queue().bound(leave.job.id).await? else {
            return Ok(Before::Nothing(leave));
        };
        if digest != leave.digest {
            return Err(other_words("id or token"));
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
            Some((Standing::Gone, _)) | None => Err(gone()),
        }
    }

    /// The upload as it is to be, after the hooks were asked.
    async fn draft(
        &self,
        audience: &Audience,
        info: &Arc<RequestInfo>,
        wish: &Wish,
        leave: &Leave,
    ) -> Result<Record, DirectError> {
        let (settings, now) = (self.settings(), self.queue().now());
        let job = &leave.job;
        let id = UploadId::new(&format!("{}{}", key::ID_PREFIX, key::uuid()));
        let id = id.map_err(|error| DirectError::Fault(error.to_string()))?;
        let subject = job.subject.as_deref().unwrap_or_default();
        let mut ours = vec![
            (labels::JOB, job.id.to_string()),
            (labels::REQUEST_ID, job.request_id.clone()),
        ];
        ours.extend(
            job.subject
                .clone()
                .map(|subject| (labels::SUBJECT, subject)),
        );

        let mut upload = Upload::new(id.clone(), job.size.or(wish.size));
        upload.metadata = wish.metadata(job, leave.by_token)?;
        upload.max_size = job.max_size.filter(|_| upload.length.is_none());
        upload.awaited = true;
        upload.created = Some(now);
        let labels = ours.iter();
        upload.labels = labels
            .map(|(key, value)| ((*key).into(), value.clone()))
            .collect();
        if let Some(key) = &wish.key {
            upload.storage.insert("Key".into(), key.clone());
            // What its client sends it as is not signed, so it is looked at in the end.
            if !leave.types.is_empty() {
                let types = leave.types.join(",");
                upload.storage.insert(TYPES.into(), types);
            }
        }
        audience.admit(info, Intent::Create, None).await?;
        audience.before_create(info, &mut upload).await?;
        // By these it is found again, whatever a hook wants.
        upload.id = id;
        for (key, value) in ours {
            upload.labels.insert(key.into(), value);
        }
        fits_way(wish.way, upload.length, settings.objects.max_object)?;
        let place = key::place(
            &self.0.layout,
            &settings.objects,
            &upload,
            wish.way,
            wish.key.as_deref(),
            now,
        );
        let place = place.map_err(DirectError::Fault)?;
        for (name, value) in [
            ("Type", "s3store"),
            ("Bucket", &*place.bucket),
            ("Key", &*place.key),
        ] {
            upload.storage.insert(name.into(), value.into());
        }
        self.note_what_is_there(&mut upload, &place).await?;
        let mut record = Record::new(upload, job.id, subject, wish.way, place, now);
        record.check_at = Some(now + OPENING);
        Ok(record)
    }

    /// Notes what is at a key that isn't made for this upload alone, so that it isn't taken for what
    /// its client sent.
    async fn note_what_is_there(
        &self,
        upload: &mut Upload,
        place: &Place,
    ) -> Result<(), DirectError> {
        if key::uuid_of(&upload.id).is_some_and(|uuid| place.key.contains(uuid)) {
            return Ok(());
        }
        match self.settings().client.head_object(place).await {
            Ok(head) => {
                let was = key::fingerprint(&head);
                upload.storage.insert(REPLACES.into(), was);
                Ok(())
            }
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes it down, binds it to its job, begins it on S3.
    async fn launch(
        &self,
        audience: &Audience,
        info: &Arc<RequestInfo>,
        leave: Leave,
        mut record: Record,
    ) -> Result<(Arc<Record>, bool), DirectError> {
        if let Err(error) = self.0.books.add(&record).await {
            let error = error.into();
            self.turned_down(&leave, &error).await;
            return Err(error);
        }
        match self.begin(audience, info, &leave, &mut record).await {
            Ok(None) => {
                tracing::debug!(
                    id = %record.upload.id,
                    job = %record.job,
                    subject = record.subject,
                    way = ?record.way,
                    key = record.place.key,
                    "DirectUploadOpened"
                );
                Ok((Arc::new(record), true))
            }
            // Somebody else was faster, with the same words.
            Ok(Some(other)) => {
                self.drop_draft(record).await;
                Ok((Arc::new(other), false))
            }
            Err(error) => {
                self.drop_draft(record).await;
                self.turned_down(&leave, &error).await;
                Err(error)
            }
        }
    }

    /// Gives back the upload that was opened for the job instead, if there is one.
    async fn begin(
        &self,
        audience: &Audience,
        info: &Arc<RequestInfo>,
        leave: &Leave,
        record: &mut Record,
    ) -> Result<Option<Record>, DirectError> {
        let upload = record.upload.clone();
        let start = Start::new(upload.id.clone(), upload.length, &*leave.digest);
        let start = start.instead_of(leave.replaced.clone());
        match self.queue().start(leave.job.id, start).await? {
            Started::Bound => {}
            Started::Other(other) => {
                let other = self.0.books.get(&other).await?;
                let other = other.filter(|other| other.standing != Standing::Opening);
                return Ok(Some(other.ok_or(DirectError::Busy)?));
            }
            Started::TooMuch => {
                return Err(DirectError::TooLarge {
                    stored: upload.length.unwrap_or_default(),
                    most: leave.job.size.or(leave.job.max_size).unwrap_or_default(),
                });
            }
            Started::Differs => return Err(other_words("id or token")),
            Started::TooLate | Started::Ended(_) | Started::Unknown => return Err(gone()),
        }
        audience
            .announce(EventKind::Created, &upload, 0, Some(info))
            .await?;
        if record.way == Way::Multipart {
            let object = given::headers(&self.0.layout, &upload);
            let client = &self.settings().client;
            record.multipart = Some(client.create_multipart(&record.place, &object).await?);
        }
        let now = self.queue().now();
        record.standing = Standing::Open;
        record.check_at = Some(now + self.settings().interval);
        if !self.change(record, Standing::Opening).await? {
            return Err(gone());
        }
        audience
            .tell(EventKind::Created, &upload, 0, Some(info))
            .await;
        Ok(None)
    }

    /// Removes what there is of an upload that wasn't opened after all.
    async fn drop_draft(&self, mut record: Record) {
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
        for from in [Standing::Opening, Standing::Open] {
            match self.change(&record, from).await {
                Ok(true) => return,
                Ok(false) => {}
                // The sweeper finds it.
                Err(error) => {
                    tracing::warn!(id = %record.upload.id, %error, "a draft stays in the books");
                    return;
                }
            }
        }
    }

    /// Ends the job of an upload that wasn't opened, unless its client can ask for it again: of a fault
    /// of ours always, of a refusal with a token.
    async fn turned_down(&self, leave: &Leave, error: &DirectError) {
        let may_pass = leave.can_ask_again && may_pass(error);
        let is_kept = leave.by_token || may_pass || (!leave.is_new && is_others(error));
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

/// Whether the same again may succeed.
fn may_pass(error: &DirectError) -> bool {
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
fn is_others(error: &DirectError) -> bool {
    matches!(error, DirectError::Busy | DirectError::Conflict { .. })
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn other_words(what: &str) -> DirectError {
    DirectError::Conflict {
        gone: false,
        message: format!("something else was asked for with this {what}"),
    }
}
