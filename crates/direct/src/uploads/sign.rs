//! Signs the requests that carry clients' bytes.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method};
use landfall::upload::Upload;
use landfall_objects::{Cloud as _, ObjectRef, Part};
use landfall_s3::client::PostPolicy;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{
    ANY_TYPE, COMPLETES, Direct, MAX_ATTEMPTS, REPLACES, SentHeaders, SignedOperation,
    UNCONDITIONAL, decide::first_delay, key::has_unique_key, object_headers, part_set::MAX_PARTS,
};
use crate::{
    DirectError, Record, SignedUpload, Status, TransferMode, UploadTerms,
    bucket::{MAX_SINGLE_PUT, as_pairs, put_headers},
    settings::count,
};

const MIN_PART_SIZE: u64 = 5 << 20;

const PATH_ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

impl Direct {
    /// Presigns the PUT of an upload, or the request that begins a resumable one. The size is signed if that is
    /// possible, of other headers those that the client sends.
    ///
    /// # Errors
    /// The upload has another mode or is not open, there are no credentials that can sign, or the object needs
    /// headers that the client does not send.
    pub async fn presign_upload(
        &self,
        record: &Record,
        lifetime: Duration,
        sent: SentHeaders,
    ) -> Result<SignedUpload, DirectError> {
        require_mode(record, &[TransferMode::Put, TransferMode::Resumable])?;
        let object = object_headers::for_upload(&self.0.layout, &record.upload);
        let (bucket, mut sent) = (self.bucket(), sent);
        match bucket.s3() {
            Some(_) => object_headers::check_sent(&object, sent)?,
            None => sent = SentHeaders::All,
        }
        let pins_type = match sent {
            SentHeaders::Unknown => false,
            SentHeaders::ContentType => !record.upload.storage.contains_key(ANY_TYPE),
            SentHeaders::All => true,
        };
        let terms = UploadTerms {
            headers: &object,
            resumable: record.mode == TransferMode::Resumable,
            length: record.upload.length,
            limit: self.size_limit(record),
            pins_type,
            only_once: sent == SentHeaders::All && self.is_written_once(record),
            lifetime,
        };
        Ok(bucket.sign_upload(&record.object, &terms).await?)
    }

    /// The service must honor `If-None-Match`, and there must have been no object at the key.
    fn is_written_once(&self, record: &Record) -> bool {
        self.settings().objects.conditional_writes && !record.upload.storage.contains_key(REPLACES)
    }

    /// A form, or a PUT without a condition, can replace an object.
    pub(super) fn can_be_replaced(&self, record: &Record) -> bool {
        match record.mode {
            TransferMode::Post => true,
            // At a client key another PUT may have been signed without the condition.
            TransferMode::Put => {
                let is_conditional = !record.upload.storage.contains_key(UNCONDITIONAL);
                !is_conditional || !self.is_written_once(record) || !has_unique_key(record)
            }
            // The condition of a session is signed; blocks may replace.
            TransferMode::Resumable => {
                let is_conditional = self.bucket().rules().resumable_creates_only;
                !is_conditional || !self.is_written_once(record) || !has_unique_key(record)
            }
            TransferMode::Multipart | TransferMode::SignedMultipart => false,
        }
    }

    /// Signs the POST policy of an upload, which limits the size, for
    /// [`url_lifetime`](crate::DirectSettings::url_lifetime).
    ///
    /// # Errors
    /// The upload has another mode or is not open, or there are no credentials.
    pub async fn sign_post(&self, record: &Record) -> Result<PostPolicy, DirectError> {
        require_mode(record, &[TransferMode::Post])?;
        let object = object_headers::for_upload(&self.0.layout, &record.upload);
        let max = record.upload.max_size.unwrap_or(MAX_SINGLE_PUT);
        let size = match record.upload.length {
            Some(size) => size..=size,
            None => 0..=max.min(MAX_SINGLE_PUT),
        };
        let (signer, lifetime) = (&self.s3()?.signer, self.settings().url_lifetime);
        let fields = object_headers::post_fields(&object);
        let form = signer.sign_post_policy(&record.object, &fields, Some(size), lifetime);
        Ok(form.await?)
    }

    /// Presigns the PUT of a part, without a call to S3 or the database.
    ///
    /// # Errors
    /// There is no such part, the upload is not open, or there are no credentials.
    pub async fn presign_part(&self, record: &Record, number: u32) -> Result<String, DirectError> {
        let id = multipart_id(record)?;
        let max = record.upload.length.map_or(MAX_PARTS, |size| {
            let parts = size.div_ceil(MIN_PART_SIZE).max(1);
            u32::try_from(parts).unwrap_or(MAX_PARTS).min(MAX_PARTS)
        });
        if !(1..=max).contains(&number) {
            let why = format!("the part number of this file must be from 1 to {max}");
            return Err(DirectError::invalid("partNumber", why));
        }
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", id)];
        let url = self.presigned(record, Method::PUT, &query).await?;
        count(&self.settings().stats.parts);
        Ok(url)
    }

    /// Presigns an operation of a client on its own multipart upload. Checks the size of the parts in S3 before
    /// it signs the completion.
    ///
    /// # Errors
    /// The upload has another mode or is not open, S3 failed, or it is too large.
    pub async fn presign_operation(
        &self,
        record: &Record,
        operation: SignedOperation,
    ) -> Result<String, DirectError> {
        require_mode(record, &[TransferMode::SignedMultipart])?;
        match operation {
            // The object headers are set, and signed, when the multipart upload is created.
            SignedOperation::Create => {
                let object = object_headers::for_upload(&self.0.layout, &record.upload);
                let headers = put_headers(&object, false, false);
                let (query, _) = headers.map_err(DirectError::Internal)?;
                let mut pairs = as_pairs(&query);
                pairs.push(("uploads", ""));
                self.presigned(record, Method::POST, &pairs).await
            }
            SignedOperation::Part(number) => self.presign_part(record, number).await,
            SignedOperation::List => self.presigned_by_id(record, Method::GET).await,
            SignedOperation::Complete => {
                self.check_size(record).await?;
                self.expect_completion(record).await?;
                self.presigned_by_id(record, Method::POST).await
            }
            SignedOperation::Abort => self.presigned_by_id(record, Method::DELETE).await,
        }
    }

    async fn presigned_by_id(
        &self,
        record: &Record,
        method: Method,
    ) -> Result<String, DirectError> {
        let query = [("uploadId", multipart_id(record)?)];
        self.presigned(record, method, &query).await
    }

    async fn presigned(
        &self,
        record: &Record,
        method: Method,
        query: &[(&str, &str)],
    ) -> Result<String, DirectError> {
        let settings = self.settings();
        let (object, lifetime) = (&record.object, settings.url_lifetime);
        let (signer, headers) = (&self.s3()?.signer, HeaderMap::new());
        Ok(signer
            .presign(method, object, query, &headers, lifetime)
            .await?)
    }

    /// Returns the public URL of an object.
    #[must_use]
    pub fn location(&self, record: &Record) -> String {
        let settings = self.settings();
        match &settings.public_url {
            Some(base) if record.object.bucket == settings.objects.bucket => {
                let path = utf8_percent_encode(&record.object.key, PATH_ENCODE_SET);
                format!("{}/{path}", base.trim_end_matches('/'))
            }
            _ => self.bucket().signer().object_url(&record.object),
        }
    }

    /// Returns the key of a [public](Self::location) or presigned URL; `None` for other URLs.
    #[must_use]
    pub fn key_of(&self, url: &str) -> Option<String> {
        let settings = self.settings();
        let bucket = ObjectRef::new(&settings.objects.bucket, "");
        let public = settings.public_url.as_ref();
        let public = public.map(|base| format!("{}/", base.trim_end_matches('/')));
        let clouds = self.bucket().clouds();
        let of_bucket = clouds.map(|cloud| cloud.object_url(&bucket));
        let mut bases = public.into_iter().chain(of_bucket);
        let url = url.split(['?', '#']).next().unwrap_or_default();
        let path = bases.find_map(|base| url.strip_prefix(&*base))?;
        let key = percent_decode_str(path).decode_utf8().ok()?;
        (!key.is_empty()).then(|| key.into_owned())
    }
}

pub(super) fn multipart_id(record: &Record) -> Result<&str, DirectError> {
    let modes = [TransferMode::Multipart, TransferMode::SignedMultipart];
    require_mode(record, &modes)?;
    record.multipart.as_deref().ok_or(DirectError::NotFound)
}

fn require_mode(record: &Record, modes: &[TransferMode]) -> Result<(), DirectError> {
    require_open(record)?;
    if modes.contains(&record.mode) {
        return Ok(());
    }
    let message = match record.mode {
        TransferMode::Put => "this file is sent by a presigned PUT",
        TransferMode::Post => "this file is sent by a form",
        TransferMode::Multipart => "this file is sent in parts",
        TransferMode::SignedMultipart => "this file is sent in parts by signed requests",
        TransferMode::Resumable => "this file is sent by a resumable upload",
    };
    Err(DirectError::conflict(message))
}

pub(super) fn require_open(record: &Record) -> Result<(), DirectError> {
    match record.status {
        Status::Open => Ok(()),
        Status::Creating => Err(DirectError::Locked),
        Status::Completing | Status::Completed => {
            Err(DirectError::conflict("the file is complete"))
        }
        Status::Removed => Err(DirectError::gone()),
    }
}

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
const TOUCH_INTERVAL: Duration = Duration::from_secs(30);

impl Direct {
    /// Lists the parts in S3, at most 10,000.
    ///
    /// # Errors
    /// The upload is not a multipart upload or not open, or S3 failed.
    pub async fn parts(&self, record: &Record) -> Result<Vec<Part>, DirectError> {
        let (client, multipart) = (&self.s3()?.client, multipart_id(record)?);
        Ok(client.list_parts(&record.object, multipart).await?)
    }

    /// Emits progress reported by the client, at most once a second, if the length is known; for display only.
    ///
    /// # Errors
    /// The upload is not open, or the database failed.
    pub async fn progress(&self, record: &Record, sent: u64) -> Result<(), DirectError> {
        require_open(record)?;
        let id = record.id();
        if self.0.throttle.get(id).is_some() {
            return Ok(());
        }
        self.0.throttle.insert(id.clone(), (), PROGRESS_INTERVAL);
        if let Some(length) = record.upload.length {
            // The size is verified against S3 on completion.
            self.dispatcher()?
                .emit_progress(&record.upload, sent.min(length));
        }
        self.touch(record).await
    }

    async fn touch(&self, record: &Record) -> Result<(), DirectError> {
        let now = self.queue().now();
        let silent = now.duration_since(record.active_at).unwrap_or_default();
        if silent < TOUCH_INTERVAL {
            return Ok(());
        }
        let later = now + self.settings().check_interval;
        self.0.repository.touch(record.id(), now, later).await?;
        self.invalidate(record);
        Ok(())
    }

    /// The client completes the upload in S3: schedules a check soon.
    pub(super) async fn expect_completion(&self, record: &Record) -> Result<(), DirectError> {
        for _ in 0..MAX_ATTEMPTS {
            let now = self.0.repository.get(record.id()).await?;
            let mut record = now.ok_or(DirectError::NotFound)?;
            require_open(&record)?;
            let mut upload = Upload::clone(&record.upload);
            upload.storage.insert(COMPLETES.into(), "1".into());
            record.upload = Arc::new(upload);
            record.active_at = self.queue().now();
            record.check_count = 0;
            let soon = first_delay(self.settings());
            record.next_check_at = Some(record.active_at + soon);
            if self.update(&mut record).await? {
                return Ok(());
            }
        }
        Err(DirectError::Locked)
    }
}
