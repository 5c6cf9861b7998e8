//! Opens an upload: checks, authorization, hooks, the record, and the creation in the bucket, in this
//! order.

use std::sync::Arc;

use http::request::Parts;
use landfall::{
    external::HookDispatcher,
    hook::{Intent, MediaType, RequestInfo},
    upload::{Completion, Upload, UploadId},
};
use landfall_objects::{ObjectRef, if_exists};
use landfall_state::queue::{Job, NewJob, tracking::labels};

use super::{
    ANY_TYPE, Direct, OpenRequest, REPLACES, Requester, SentHeaders, TYPES, UNCONDITIONAL,
    authorize::Authorization,
    create::{OpenOutcome, is_transient},
    decide::first_interval,
    key, object_headers, request_info,
    spec::{UploadSpec, check_mode},
};
use crate::{DirectError, Record, Status, TransferMode, record::CREATION_TIMEOUT, settings::count};

impl Direct {
    /// Opens an upload: checks and authorizes the request, reserves quota, calls hooks, inserts the
    /// record.
    ///
    /// For [`TransferMode::Multipart`] it also creates the multipart upload. A repeated request
    /// with the same [`OpenRequest::request_id`], grant or [`OpenRequest::key`] and equal
    /// parameters returns the upload that was opened before. A denied request may be repeated with
    /// the same id, and other parameters.
    ///
    /// # Errors
    /// Any [`DirectError`] except those about received bytes. A rejected upload leaves nothing
    /// behind.
    ///
    /// # Cancel safety
    /// Dropped, the upload may have been opened; the sweeper removes it if it stays unused.
    pub async fn open(
        &self,
        requester: &Requester,
        asked: OpenRequest,
        request: &mut Parts,
    ) -> Result<Arc<Record>, DirectError> {
        let repeated = match requester {
            Requester::Principal(caller) => asked.request_id.clone().map(|id| (caller, id)),
            Requester::Token(_) => None,
        };
        let again = repeated.as_ref().map(|_| asked.clone());
        let mut opened = self.open_or_find(requester, asked, request).await;
        if let (Err(DirectError::Conflict { .. }), Some((caller, id)), Some(again)) =
            (&opened, repeated, again)
            && self.queue().delete_denied(&caller.subject, &id).await?
        {
            opened = self.open_or_find(requester, again, request).await;
        }
        match &opened {
            Ok((_, true)) => count(&self.settings().stats.opened),
            Ok((_, false)) => {}
            Err(error) if is_transient(error) => {}
            Err(_) => count(&self.settings().stats.rejected),
        }
        opened.map(|(record, _)| record)
    }

    async fn open_or_find(
        &self,
        requester: &Requester,
        mut asked: OpenRequest,
        request: &mut Parts,
    ) -> Result<(Arc<Record>, bool), DirectError> {
        let dispatcher = self.dispatcher()?;
        self.require_mode_of_bucket(asked.mode)?;
        // Other clouds than S3 take no signature without them.
        if self.bucket().s3().is_none() {
            asked.headers = SentHeaders::All;
        }
        let spec = UploadSpec::new(asked, &self.client_key_prefix(requester.subject()))?;
        check_mode(self.settings(), spec.request.mode, spec.request.size)?;
        let info = request_info(&dispatcher, request);
        if let Some(record) = self.existing_at_client_key(requester, &spec).await? {
            return Ok((Arc::new(record), false));
        }
        let mut authorization = match requester {
            Requester::Token(job) => self.check_grant(job, &spec).await?,
            Requester::Principal(caller) => {
                let new = self.authorize(caller, &spec, request).await?;
                // Hooks receive the job of the upload, and a client key may be in use.
                if dispatcher.has_creation_hooks() || spec.request.key.is_some() {
                    self.grant(new, &spec).await?
                } else {
                    let opened = self.open_with_job(&dispatcher, &info, &spec, new);
                    match opened.await? {
                        OpenOutcome::Opened(record) => return Ok((record, true)),
                        OpenOutcome::Existing(authorization) => authorization,
                    }
                }
            }
        };
        if !authorization.is_new
            && let Some(record) = self.existing_upload(&mut authorization).await?
        {
            return Ok((Arc::new(record), false));
        }
        let Authorization {
            job,
            by_token,
            types,
            ..
        } = &authorization;
        let drafted = self.draft(&dispatcher, &info, &spec, job, *by_token, types);
        let record = match drafted.await {
            Ok(record) => record,
            Err(error) => {
                self.on_denied(&authorization, &error).await;
                return Err(error);
            }
        };
        // Finish what has started even if the client disconnects.
        let this = self.clone();
        let create = async move { this.create(&dispatcher, &info, authorization, record).await };
        let opened = tokio::spawn(create);
        opened.await.map_err(DirectError::interrupted)?
    }

    /// No hook needs the job before: job, start and record in one transaction.
    async fn open_with_job(
        &self,
        dispatcher: &HookDispatcher,
        info: &Arc<RequestInfo>,
        spec: &UploadSpec,
        new: NewJob,
    ) -> Result<OpenOutcome, DirectError> {
        let job = new.draft(self.queue().now());
        let types = &new.limits.allowed_types;
        let record = self.draft(dispatcher, info, spec, &job, false, types);
        let record = record.await?;
        let authorization = Authorization::new(Box::new(job), true, spec);
        // As in `open_or_find`.
        let (this, dispatcher, info) = (self.clone(), dispatcher.clone(), info.clone());
        let opened = tokio::spawn(async move {
            let create = this.create_with_job(&dispatcher, &info, new, authorization, record);
            create.await
        });
        opened.await.map_err(DirectError::interrupted)?
    }

    async fn draft(
        &self,
        dispatcher: &HookDispatcher,
        info: &Arc<RequestInfo>,
        spec: &UploadSpec,
        job: &Job,
        by_token: bool,
        types: &[String],
    ) -> Result<Record, DirectError> {
        let (settings, now) = (self.settings(), self.queue().now());
        let id = UploadId::new(&format!("{}{}", key::ID_PREFIX, key::uuid()));
        let id = id.map_err(|error| DirectError::Internal(error.to_string()))?;
        let subject = job.subject.as_deref().unwrap_or_default();
        let mut upload = Upload::new(id.clone(), job.size.or(spec.request.size));
        upload.metadata = spec.metadata(job, by_token)?;
        upload.max_size = job.max_size.filter(|_| upload.length.is_none());
        upload.completion = Completion::Pending;
        upload.created = Some(now);
        upload.labels.extend(labels::from_job(job));
        if let Some(key) = &spec.request.key {
            upload.storage.insert("Key".into(), key.clone());
            // The type that the client will send is not signed, so it is checked on completion.
            if !types.is_empty() {
                upload.storage.insert(TYPES.into(), types.join(","));
            }
        }
        dispatcher.admit(info, Intent::Create, None).await?;
        dispatcher.before_create(info, &mut upload).await?;
        // The upload is found by its id and labels: hooks cannot change them.
        upload.id = id;
        upload.labels.extend(labels::from_job(job));
        check_mode(settings, spec.request.mode, upload.length)?;
        let (layout, key) = (&self.0.layout, spec.request.key.as_deref());
        let object = key::object_ref(
            layout,
            &settings.objects,
            &upload,
            spec.request.mode,
            key,
            now,
        );
        let object = object.map_err(DirectError::Internal)?;
        let rules = self.bucket().cloud().rules();
        for (name, value) in [
            ("Type", rules.store_type),
            (rules.bucket_field, &*object.bucket),
            ("Key", &*object.key),
        ] {
            upload.storage.insert(name.into(), value.into());
        }
        // S3 alone can sign some headers as parameters.
        let is_of_s3 = self.bucket().s3().is_some();
        if spec.request.mode == TransferMode::Put && is_of_s3 {
            let headers = object_headers::for_upload(layout, &upload);
            object_headers::check_sent(&headers, spec.request.headers)?;
        }
        if spec.is_unconditional() {
            upload.storage.insert(UNCONDITIONAL.into(), "1".into());
        }
        let is_granted = by_token && job.filetype.is_some();
        if !self.bucket().rules().fixes_type && (is_granted || !types.is_empty()) {
            let kind = layout.headers(&upload).content_type.unwrap_or_default();
            let essence = MediaType::parse(&kind).map(|kind| kind.essence().to_owned());
            upload.storage.insert(TYPES.into(), essence.unwrap_or(kind));
        }
        // The operator or a hook may have set another type than the guessed one.
        let is_guessed = layout.headers(&upload).content_type.as_ref() == Some(&spec.filetype);
        if types.is_empty() && is_guessed && spec.is_untyped_put(job, by_token) {
            upload.storage.insert(ANY_TYPE.into(), "1".into());
        }
        self.record_existing_object(&mut upload, &object).await?;
        let mut record = Record::new(upload, job.id, subject, spec.request.mode, object, now);
        record.next_check_at = Some(now + CREATION_TIMEOUT);
        // No multipart upload is needed, and no one knows the key before the response: write it
        // once.
        if spec.request.mode != TransferMode::Multipart && spec.request.key.is_none() {
            record.status = Status::Open;
            record.next_check_at = Some(now + first_interval(settings, &record));
        }
        Ok(record)
    }

    /// Records an older object at the key, so that it is not mistaken for the client's.
    async fn record_existing_object(
        &self,
        upload: &mut Upload,
        object: &ObjectRef,
    ) -> Result<(), DirectError> {
        if key::uuid_of(&upload.id).is_some_and(|uuid| object.key.contains(uuid)) {
            return Ok(());
        }
        if let Some(head) = if_exists(self.bucket().cloud().head_object(object).await)? {
            let was = key::object_fingerprint(&head);
            upload.storage.insert(REPLACES.into(), was);
        }
        Ok(())
    }
}
