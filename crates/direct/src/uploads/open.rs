//! Opening: checks, the grant, the hooks, the books, and the beginning on S3, in this order.

use std::sync::Arc;

use http::request::Parts;
use landfall::{
    direct::HookDispatcher,
    hook::{Intent, RequestInfo},
    upload::{Completion, Upload, UploadId},
};
use landfall_grants::{Job, gate::labels, queue::NewJob};
use landfall_s3::client::{ErrorKind, Place};

use super::{
    Asked, Direct, REPLACES, TYPES, Who,
    begin::may_pass,
    key,
    leave::{Before, Leave},
    request, schedule,
    wish::{Wish, fits_way},
};
use crate::{DirectError, Record, Standing, Way, record::OPENING, stats::count};

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
            Who::Grant(job) => self.use_grant(job, &wish).await?,
            Who::Caller(caller) => {
                let (new, types) = self.ask(caller, &wish, request).await?;
                // Hooks know the job of the upload, and a key of the client's own may be in use.
                if audience.has_creation_hooks() || wish.key.is_some() {
                    self.grant(new, types, &wish).await?
                } else {
                    match self.open_at_once(&audience, &info, &wish, new).await? {
                        AtOnce::Opened(record) => return Ok((record, true)),
                        AtOnce::Existing(leave) => self.before(leave).await?,
                    }
                }
            }
        };
        let leave = match before {
            Before::Opened(record) => return Ok((Arc::new(record), false)),
            Before::Nothing(leave) => leave,
        };
        let drafted = self.draft(
            &audience,
            &info,
            &wish,
            &leave.job,
            leave.by_token,
            &leave.types,
        );
        let record = match drafted.await {
            Ok(record) => record,
            Err(error) => {
                self.on_denied(&leave, &error).await;
                return Err(error);
            }
        };
        // What has begun is ended even if the client goes away.
        let this = self.clone();
        let opened =
            tokio::spawn(async move { this.launch(&audience, &info, leave, record).await });
        opened.await.map_err(DirectError::broken_off)?
    }

    /// Opens an upload whose job no hook has to know before: the job, its start and the record are
    /// written in one transaction.
    async fn open_at_once(
        &self,
        audience: &HookDispatcher,
        info: &Arc<RequestInfo>,
        wish: &Wish,
        new: NewJob,
    ) -> Result<AtOnce, DirectError> {
        let job = new.draft(self.queue().now());
        let record = self.draft(audience, info, wish, &job, false, &[]).await?;
        let leave = Leave::new(Box::new(job), true, wish);
        // As in `open_or_find`.
        let (this, audience, info) = (self.clone(), audience.clone(), info.clone());
        let opened = tokio::spawn(async move {
            this.launch_at_once(&audience, &info, new, leave, record)
                .await
        });
        opened.await.map_err(DirectError::broken_off)?
    }

    /// The upload as it is to be, after the hooks were asked.
    async fn draft(
        &self,
        audience: &HookDispatcher,
        info: &Arc<RequestInfo>,
        wish: &Wish,
        job: &Job,
        by_token: bool,
        types: &[String],
    ) -> Result<Record, DirectError> {
        let (settings, now) = (self.settings(), self.queue().now());
        let id = UploadId::new(&format!("{}{}", key::ID_PREFIX, key::uuid()));
        let id = id.map_err(|error| DirectError::Fault(error.to_string()))?;
        let subject = job.subject.as_deref().unwrap_or_default();
        let mut upload = Upload::new(id.clone(), job.size.or(wish.size));
        upload.metadata = wish.metadata(job, by_token)?;
        upload.max_size = job.max_size.filter(|_| upload.length.is_none());
        upload.completion = Completion::Pending;
        upload.created = Some(now);
        upload.labels.extend(labels_of(job));
        if let Some(key) = &wish.key {
            upload.storage.insert("Key".into(), key.clone());
            // What its client sends it as is not signed, so it is looked at in the end.
            if !types.is_empty() {
                upload.storage.insert(TYPES.into(), types.join(","));
            }
        }
        audience.admit(info, Intent::Create, None).await?;
        audience.before_create(info, &mut upload).await?;
        // By these it is found again, whatever a hook wants.
        upload.id = id;
        upload.labels.extend(labels_of(job));
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
        // Nothing has to be begun on S3, and nobody knows its key before it is answered with: then it
        // is written down once.
        if wish.way != Way::Multipart && wish.key.is_none() {
            record.standing = Standing::Open;
            record.check_at = Some(schedule::first_check(settings, &record, now));
        }
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
}

/// What became of opening an upload in one transaction.
pub(super) enum AtOnce {
    Opened(Arc<Record>),
    /// The job of the same request before.
    Existing(Leave),
}

/// Enters the job that was granted into a draft.
pub(super) fn enter_job(record: &mut Record, job: &Job) {
    record.job = job.id;
    let upload = Arc::make_mut(&mut record.upload);
    upload.max_size = job.max_size.filter(|_| upload.length.is_none());
    upload.labels.extend(labels_of(job));
}

/// The labels by which the job of an upload is found.
fn labels_of(job: &Job) -> impl Iterator<Item = (String, String)> {
    let subject = job.subject.clone();
    [
        Some((labels::JOB, job.id.to_string())),
        Some((labels::REQUEST_ID, job.request_id.clone())),
        subject.map(|subject| (labels::SUBJECT, subject)),
    ]
    .into_iter()
    .flatten()
    .map(|(key, value)| (key.into(), value))
}
