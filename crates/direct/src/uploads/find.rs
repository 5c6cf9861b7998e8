//! Whose upload it is: nobody finds another's.

use std::{fmt, sync::Arc, time::Duration};

use landfall_grants::{Job, JobId};
use landfall_s3::client::ErrorKind;
use moka::future::Cache;

use super::{Direct, MAX_ATTEMPTS, Who, key};
use crate::{DirectError, Record, Standing, Way};

/// How many records are cached.
const CACHE_CAPACITY: u64 = 10_000;
/// For how long: another node may have ended one meanwhile.
const CACHE_TTL: Duration = Duration::from_secs(5);

/// Records that requests found lately, by subject, key and multipart upload.
pub(super) struct RecordCache(Cache<String, Arc<Record>>);

impl Default for RecordCache {
    fn default() -> Self {
        let cache = Cache::builder()
            .max_capacity(CACHE_CAPACITY)
            .time_to_live(CACHE_TTL);
        Self(cache.build())
    }
}

impl fmt::Debug for RecordCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordCache(..)")
    }
}

impl Who {
    /// Whose uploads it may touch.
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Principal(caller) => &caller.subject,
            Self::Grant(job) => job.subject.as_deref().unwrap_or_default(),
        }
    }

    /// The only job whose upload it may touch, if there is but one.
    fn job(&self) -> Option<JobId> {
        match self {
            Self::Principal(_) => None,
            Self::Grant(job) => Some(job.id),
        }
    }

    fn can_access(&self, record: &Record) -> bool {
        record.subject == self.subject() && self.job().is_none_or(|job| job == record.job)
    }
}

impl Direct {
    /// What the keys begin with that a caller may choose itself.
    #[must_use]
    pub fn own_prefix(&self, subject: &str) -> String {
        key::own_prefix(&self.settings().objects, self.0.books.prefix_key(), subject)
    }

    /// The caller's upload at a key, and with this multipart upload if one is named. Remembered for a
    /// while, so that signing parts costs no look at the books. In Uppy's signer mode the key may be as
    /// the client wanted it, and the multipart upload one that it has just begun itself: then S3 is
    /// asked for it, and it is written down.
    ///
    /// # Errors
    /// There is none, or it isn't the caller's. The books or S3 fail.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn find(
        &self,
        who: &Who,
        key: &str,
        multipart: Option<&str>,
    ) -> Result<Arc<Record>, DirectError> {
        let cache_key = cache_key(who.subject(), key, multipart);
        let record = match self.0.cache.0.get(&cache_key).await {
            Some(record) => record,
            None => {
                let record = Arc::new(self.lookup(who, key, multipart).await?);
                // What is being opened is open in a moment.
                if record.standing != Standing::Opening {
                    self.0.cache.0.insert(cache_key, record.clone()).await;
                }
                record
            }
        };
        match who.can_access(&record) {
            true => Ok(record),
            false => Err(DirectError::NotFound),
        }
    }

    /// The caller's upload that it calls so ([`Asked::request_id`](super::Asked::request_id)).
    ///
    /// # Errors
    /// There is none, or it isn't a direct one. The books or the queue fail.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn by_request(
        &self,
        who: &Who,
        request_id: &str,
    ) -> Result<Arc<Record>, DirectError> {
        let job = self.queue().by_request(who.subject(), request_id).await?;
        let job = job.filter(|job| who.job().is_none_or(|granted| granted == job.id));
        let record = self.of_job(&job.ok_or(DirectError::NotFound)?).await?;
        Ok(Arc::new(record.ok_or(DirectError::NotFound)?))
    }

    /// The upload of a job, if it is a direct one.
    async fn of_job(&self, job: &Job) -> Result<Option<Record>, DirectError> {
        let id = job.upload_id.as_deref();
        let id = id.and_then(|id| landfall::upload::UploadId::new(id).ok());
        let Some(id) = id else { return Ok(None) };
        let record = self.0.books.get(&id).await?;
        Ok(record.filter(|record| record.job == job.id))
    }

    async fn lookup(
        &self,
        who: &Who,
        stated: &str,
        multipart: Option<&str>,
    ) -> Result<Record, DirectError> {
        let subject = who.subject();
        let own = key::own_key(&self.own_prefix(subject), stated).ok();
        let own = own.filter(|own| own != stated);
        let keys = [Some(stated), own.as_deref()];
        for key in keys.into_iter().flatten() {
            let books = &self.0.books;
            let found = books.find(subject, None, key, multipart).await?;
            if let Some(record) = found {
                return Ok(record);
            }
            let Some(multipart) = multipart else { continue };
            let found = books.find(subject, None, key, None).await?;
            let unknown = found.filter(|record| {
                record.way == Way::SignedMultipart
                    && record.multipart.is_none()
                    && record.standing == Standing::Open
                    && who.can_access(record)
            });
            if let Some(record) = unknown {
                return self.record_multipart(record, multipart).await;
            }
        }
        Err(DirectError::NotFound)
    }

    /// Writes down the multipart upload that a client has begun by a signed request, once S3 has shown
    /// that it is one of this key.
    async fn record_multipart(
        &self,
        mut record: Record,
        multipart: &str,
    ) -> Result<Record, DirectError> {
        let client = &self.settings().client;
        match client.list_parts(&record.place, multipart, 0).await {
            Ok(_) => {}
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => {
                return Err(DirectError::NotFound);
            }
            Err(error) => return Err(error.into()),
        }
        for _ in 0..MAX_ATTEMPTS {
            record.multipart = Some(multipart.to_owned());
            record.active_at = self.queue().now();
            if self.change(&mut record).await? {
                return Ok(record);
            }
            // Something else of it was written meanwhile.
            let now = self.0.books.get(record.id()).await?;
            let is_open = |now: &Record| now.standing == Standing::Open && now.multipart.is_none();
            record = now.filter(is_open).ok_or(DirectError::NotFound)?;
        }
        Err(DirectError::Busy)
    }

    /// Writes what has changed of a record, if nobody has written since it was read; reports whether it
    /// did. The cached one is dropped.
    pub(super) async fn change(&self, record: &mut Record) -> Result<bool, DirectError> {
        let changed = self.0.books.update(record).await;
        self.forget(record).await;
        Ok(changed?)
    }

    /// Drops the cached entries of a record.
    pub(super) async fn forget(&self, record: &Record) {
        let Record { subject, place, .. } = record;
        let own = self.own_prefix(subject);
        let keys = [Some(&*place.key), place.key.strip_prefix(&own)];
        for key in keys.into_iter().flatten() {
            for multipart in [None, record.multipart.as_deref()] {
                let cache_key = cache_key(subject, key, multipart);
                self.0.cache.0.invalidate(&cache_key).await;
            }
        }
    }
}

/// What a record is remembered by. Neither subjects nor multipart uploads hold a zero; a key that does
/// finds nothing.
fn cache_key(subject: &str, key: &str, multipart: Option<&str>) -> String {
    format!("{subject}\0{}\0{key}", multipart.unwrap_or_default())
}
