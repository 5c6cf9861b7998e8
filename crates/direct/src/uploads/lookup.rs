//! Finds uploads. No principal finds the uploads of another.

use std::{sync::Arc, time::Duration};

use landfall::upload::UploadId;
use landfall_objects::{Cloud as _, ErrorKind};
use landfall_state::queue::JobId;
use landfall_state::sql::RowLease;
use tokio::time::sleep;

use super::{Direct, MAX_ATTEMPTS, Requester, key};
use crate::{DirectError, Record, Status, TransferMode};

/// Another node may end the upload meanwhile.
const CACHE_TTL: Duration = Duration::from_secs(5);

impl Requester {
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Principal(caller) => &caller.subject,
            Self::Token(job) => job.subject.as_deref().unwrap_or_default(),
        }
    }

    /// If it is limited to one.
    fn job(&self) -> Option<JobId> {
        match self {
            Self::Principal(_) => None,
            Self::Token(job) => Some(job.id),
        }
    }

    fn can_access(&self, record: &Record) -> bool {
        record.subject == self.subject() && self.job().is_none_or(|job| job == record.job)
    }
}

impl Direct {
    /// Returns the prefix of the keys that a principal can choose.
    #[must_use]
    pub fn client_key_prefix(&self, subject: &str) -> String {
        let secret = self.0.repository.prefix_key();
        key::client_key_prefix(&self.settings().objects, secret, subject)
    }

    /// Returns the requester's upload at a key, and with this multipart upload if it is given.
    ///
    /// Records are cached, so that signing a part needs no database call. With Uppy's
    /// `signRequest`, the key may lack the prefix, and the multipart upload may be one that the
    /// client has just created: it is then verified with S3 and recorded.
    ///
    /// # Errors
    /// There is no such upload, it belongs to another principal, or the database or S3 failed.
    pub async fn find(
        &self,
        requester: &Requester,
        key: &str,
        multipart: Option<&str>,
    ) -> Result<Arc<Record>, DirectError> {
        let cache_key = cache_key(requester.subject(), key, multipart);
        let record = match self.0.cache.get(&cache_key) {
            Some(record) => record,
            None => {
                let record = Arc::new(self.lookup(requester, key, multipart).await?);
                // Do not cache records in status `Creating`.
                if record.status != Status::Creating {
                    self.0.cache.insert(cache_key, record.clone(), CACHE_TTL);
                }
                record
            }
        };
        match requester.can_access(&record) {
            true => Ok(record),
            false => Err(DirectError::NotFound),
        }
    }

    /// Returns the requester's upload by its
    /// [`OpenRequest::request_id`](super::OpenRequest::request_id).
    ///
    /// # Errors
    /// There is no such upload, it is not a direct one, or the database or the queue failed.
    pub async fn by_request(
        &self,
        requester: &Requester,
        request_id: &str,
    ) -> Result<Arc<Record>, DirectError> {
        let job = self.queue().by_request(requester.subject(), request_id);
        let job = job
            .await?
            .filter(|job| requester.job().is_none_or(|granted| granted == job.id));
        let job = job.ok_or(DirectError::NotFound)?;
        let id = job.upload_id.and_then(|id| UploadId::new(&id).ok());
        let id = id.ok_or(DirectError::NotFound)?;
        let record = self.0.repository.get(&id).await?;
        let record = record.filter(|record| record.job == job.id);
        Ok(Arc::new(record.ok_or(DirectError::NotFound)?))
    }

    async fn lookup(
        &self,
        requester: &Requester,
        stated: &str,
        multipart: Option<&str>,
    ) -> Result<Record, DirectError> {
        let subject = requester.subject();
        let own = key::client_key(&self.client_key_prefix(subject), stated).ok();
        let own = own.filter(|own| own != stated);
        let keys = [Some(stated), own.as_deref()];
        for key in keys.into_iter().flatten() {
            let repository = &self.0.repository;
            let found = repository.find(subject, None, key, multipart).await?;
            if let Some(record) = found {
                return Ok(record);
            }
            let Some(multipart) = multipart else { continue };
            let found = repository.find(subject, None, key, None).await?;
            let unknown = found.filter(|record| {
                record.mode == TransferMode::SignedMultipart
                    && record.multipart.is_none()
                    && record.status == Status::Open
                    && requester.can_access(record)
            });
            if let Some(record) = unknown {
                return self.record_multipart(record, multipart).await;
            }
        }
        Err(DirectError::NotFound)
    }

    /// Records nothing unless S3 has the multipart upload at this key.
    async fn record_multipart(
        &self,
        mut record: Record,
        multipart: &str,
    ) -> Result<Record, DirectError> {
        let client = &self.s3()?.client;
        match client.list_parts(&record.object, multipart).await {
            Ok(_) => {}
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => {
                return Err(DirectError::NotFound);
            }
            Err(error) => return Err(error.into()),
        }
        for _ in 0..MAX_ATTEMPTS {
            record.multipart = Some(multipart.to_owned());
            record.active_at = self.queue().now();
            if self.update(&mut record).await? {
                return Ok(record);
            }
            // The record was changed concurrently.
            let now = self.0.repository.get(record.id()).await?;
            let is_open = |now: &Record| now.status == Status::Open && now.multipart.is_none();
            record = now.filter(is_open).ok_or(DirectError::NotFound)?;
        }
        Err(DirectError::Locked)
    }

    /// Does nothing if the record was written since it was read; returns whether it wrote. Invalidates the cache.
    pub(super) async fn update(&self, record: &mut Record) -> Result<bool, DirectError> {
        let changed = self.0.repository.update(record).await;
        self.invalidate(record);
        Ok(changed?)
    }

    pub(super) fn invalidate(&self, record: &Record) {
        let Record {
            subject, object, ..
        } = record;
        let own = self.client_key_prefix(subject);
        let keys = [Some(&*object.key), object.key.strip_prefix(&own)];
        for key in keys.into_iter().flatten() {
            for multipart in [None, record.multipart.as_deref()] {
                let cache_key = cache_key(subject, key, multipart);
                self.0.cache.remove(&cache_key);
            }
        }
    }
}

/// Subjects and multipart uploads contain no NUL; a key with one is never found.
fn cache_key(subject: &str, key: &str, multipart: Option<&str>) -> String {
    format!("{subject}\0{}\0{key}", multipart.unwrap_or_default())
}

const LEASE_ATTEMPTS: u32 = 100;
const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Direct {
    /// Returns the lease with the current record.
    pub(super) async fn acquire_lease(
        &self,
        id: &UploadId,
    ) -> Result<(RowLease, Record), DirectError> {
        let repository = &self.0.repository;
        for left in (0..LEASE_ATTEMPTS).rev() {
            if let Some(lease) = repository.acquire_lease(id).await? {
                let record = repository.get(id).await?;
                return Ok((lease, record.ok_or(DirectError::NotFound)?));
            }
            if repository.get(id).await?.is_none() {
                return Err(DirectError::NotFound);
            }
            if left > 0 {
                sleep(POLL_INTERVAL).await;
            }
        }
        Err(DirectError::Locked)
    }

    /// A slow operation may have outlasted it.
    pub(super) fn ensure_leased(lease: &RowLease) -> Result<(), DirectError> {
        match lease.is_held() {
            true => Ok(()),
            false => Err(DirectError::Locked),
        }
    }
}
