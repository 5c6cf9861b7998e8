//! Signs the requests that carry clients' bytes.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use landfall_s3::client::ObjectRef;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{
    Direct, REPLACES, SignedOperation, SignedPost, SignedPut, key::has_unique_key, object_headers,
    part_set::MAX_PARTS,
};
use crate::{DirectError, Record, Status, TransferMode, record::MAX_SINGLE_PUT, stats::count};

const MIN_PART_SIZE: u64 = 5 << 20;

const PATH_ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

impl Direct {
    /// Presigns the PUT of an upload. The type, the size if known, and other headers are signed.
    ///
    /// Without `pin_type` the type is not signed: with Uppy's `signRequest`, clients send an
    /// unknown type.
    ///
    /// # Errors
    /// The upload has another mode or is not open, or there are no credentials.
    pub async fn presign_put(
        &self,
        record: &Record,
        lifetime: Duration,
        pin_type: bool,
    ) -> Result<SignedPut, DirectError> {
        require_mode(record, &[TransferMode::Put])?;
        let object = object_headers::for_upload(&self.0.layout, &record.upload);
        // Clients that do not know the type do not know the other headers either.
        let only_once = pin_type && self.is_written_once(record);
        let (query, headers) = object_headers::put_headers(&object, pin_type, only_once)?;
        let query: Vec<_> = query
            .iter()
            .map(|(name, value)| (&**name, *value))
            .collect();
        let mut signed = headers.clone();
        if let Some(size) = record.upload.length {
            signed.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        }
        let signer = &self.settings().signer;
        let url = signer
            .presign(Method::PUT, &record.object, &query, &signed, lifetime)
            .await?;
        Ok(SignedPut {
            url,
            headers,
            lifetime,
        })
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
            TransferMode::Put => !self.is_written_once(record) || !has_unique_key(record),
            TransferMode::Multipart | TransferMode::SignedMultipart => false,
        }
    }

    /// Signs the POST policy of an upload, which limits the size.
    ///
    /// # Errors
    /// The upload has another mode or is not open, or there are no credentials.
    pub async fn sign_post(&self, record: &Record) -> Result<SignedPost, DirectError> {
        require_mode(record, &[TransferMode::Post])?;
        let object = object_headers::for_upload(&self.0.layout, &record.upload);
        let max = record.upload.max_size.unwrap_or(MAX_SINGLE_PUT);
        let size = match record.upload.length {
            Some(size) => size..=size,
            None => 0..=max.min(MAX_SINGLE_PUT),
        };
        let (signer, lifetime) = (&self.settings().signer, self.settings().url_lifetime);
        let fields = object_headers::post_fields(&object);
        let form = signer.sign_post_policy(&record.object, &fields, Some(size), lifetime);
        let form = form.await?;
        Ok(SignedPost {
            url: form.url,
            fields: form.fields,
            lifetime,
        })
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
                let (query, _) = object_headers::put_headers(&object, false, false)?;
                let mut pairs: Vec<_> = query
                    .iter()
                    .map(|(name, value)| (&**name, *value))
                    .collect();
                pairs.push(("uploads", ""));
                self.presigned(record, Method::POST, &pairs).await
            }
            SignedOperation::Part(number) => self.presign_part(record, number).await,
            SignedOperation::List => {
                let query = [("uploadId", multipart_id(record)?)];
                self.presigned(record, Method::GET, &query).await
            }
            SignedOperation::Complete => {
                self.check_size(record).await?;
                self.expect_completion(record).await?;
                let query = [("uploadId", multipart_id(record)?)];
                self.presigned(record, Method::POST, &query).await
            }
            SignedOperation::Abort => {
                let query = [("uploadId", multipart_id(record)?)];
                self.presigned(record, Method::DELETE, &query).await
            }
        }
    }

    async fn presigned(
        &self,
        record: &Record,
        method: Method,
        query: &[(&str, &str)],
    ) -> Result<String, DirectError> {
        let settings = self.settings();
        let (object, lifetime) = (&record.object, settings.url_lifetime);
        let headers = HeaderMap::new();
        let url = settings
            .signer
            .presign(method, object, query, &headers, lifetime);
        Ok(url.await?)
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
            _ => settings.signer.object_url(&record.object),
        }
    }

    /// Returns the key of a [public](Self::location) or presigned URL; `None` for other URLs.
    #[must_use]
    pub fn key_of(&self, url: &str) -> Option<String> {
        let settings = self.settings();
        let bucket = ObjectRef::new(&settings.objects.bucket, "");
        let public = settings.public_url.as_ref();
        let public = public.map(|base| format!("{}/", base.trim_end_matches('/')));
        let bases = [
            public,
            Some(settings.signer.object_url(&bucket)),
            Some(settings.client.object_url(&bucket)),
        ];
        let url = url.split(['?', '#']).next().unwrap_or_default();
        let path = bases
            .iter()
            .flatten()
            .find_map(|base| url.strip_prefix(base.as_str()))?;
        let key = percent_decode_str(path).decode_utf8().ok()?;
        (!key.is_empty()).then(|| key.into_owned())
    }
}

pub(super) fn multipart_id(record: &Record) -> Result<&str, DirectError> {
    require_mode(
        record,
        &[TransferMode::Multipart, TransferMode::SignedMultipart],
    )?;
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
