//! Listing what is in the bucket: uploads by their descriptions, and what belongs to none.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use landfall::{
    store::{Cursor, Damaged, DueFilter, Enumerate, Orphan, Page, Result, StoreError},
    upload::{Snapshot, UploadId},
};

use super::{
    Inner, S3Store,
    damaged::Description,
    layout::{self, INFO, PART},
    look,
};
use crate::client::{Error, ErrorKind, Listed, Multipart, Place};

/// Uploads that are looked at in parallel.
const AT_ONCE: usize = 8;
/// How long a multipart upload that a description names is not examined again.
const DESCRIBED_FOR: Duration = Duration::from_secs(24 * 3600);
/// What a cursor among objects begins with.
const OBJECTS: &str = "objects ";
/// What a cursor among multipart uploads begins with.
const MULTIPARTS: &str = "multiparts ";
/// What separates the two parts of a cursor among multipart uploads. No key holds it.
const SEPARATOR: char = '\u{0}';

/// What an orphan's name begins with, if it is a multipart upload.
const MULTIPART: &str = "multipart upload ";

#[async_trait]
impl Enumerate for S3Store {
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.0.page(cursor, limit, None).await
    }

    async fn page_due(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        filter: &DueFilter<'_>,
    ) -> Result<Page> {
        if cursor.is_none() {
            self.0.due.begin();
        }
        let page = self.0.page(cursor, limit, Some(filter)).await?;
        if page.next.is_none() {
            self.0.due.end();
        }
        Ok(page)
    }

    async fn claim_sweep(&self, interval: Duration) -> Result<bool> {
        self.0.claim_sweep(interval).await
    }

    async fn remove_orphan(&self, orphan: &Orphan) -> Result<()> {
        self.0.remove_orphan(orphan).await
    }
}

impl Inner {
    async fn page(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        filter: Option<&DueFilter<'_>>,
    ) -> Result<Page> {
        let limit = u32::try_from(limit.clamp(1, 1000)).unwrap_or(1000);
        let cursor = cursor.map(|cursor| cursor.0).unwrap_or_default();
        if let Some(after) = cursor.strip_prefix(MULTIPARTS) {
            let after = after.split_once(SEPARATOR);
            return self.multiparts(after, limit, filter.is_some()).await;
        }
        let after = cursor.strip_prefix(OBJECTS).map(str::to_owned);
        self.objects(after, limit, filter).await
    }
}

/// An error that belongs to no upload.
pub(super) fn listing(error: Error) -> StoreError {
    match error.kind() {
        ErrorKind::Unavailable { retry_after } => StoreError::Unavailable {
            retry_after: *retry_after,
            source: error.into(),
        },
        _ => StoreError::Other {
            action: "listing the bucket".into(),
            source: error.into(),
        },
    }
}

/// What one object of the listing turned out to be.
enum Found {
    Upload(Box<Snapshot>),
    Orphan(Orphan),
    Damaged(Damaged),
    Nothing,
}

/// What a multipart upload of the listing turned out to be.
enum FoundMultipart {
    Orphan(Orphan),
    /// A description names it.
    Described,
    Nothing,
}

impl Inner {
    async fn objects(
        &self,
        after: Option<String>,
        limit: u32,
        filter: Option<&DueFilter<'_>>,
    ) -> Result<Page> {
        let (bucket, prefix) = (&self.layout.bucket, &self.layout.prefix);
        let listed = self.client.list_objects(bucket, prefix, after, limit);
        let listed = listed.await.map_err(listing)?;
        let mut page = Page::default();
        // The object and its description are neighbors in the listing, so that a finished upload, of
        // which there may be millions, costs no request.
        let keys: HashSet<_> = listed.objects.iter().map(|object| &*object.key).collect();
        let mut looks = Vec::new();
        for object in &listed.objects {
            let data = object.key.strip_suffix(INFO);
            let is_done = data.is_some_and(|data| keys.contains(data));
            if filter.is_some_and(|filter| is_done && !filter.finished) {
                continue;
            }
            let part = object.key.strip_suffix(PART);
            if part.is_some_and(|name| keys.contains(&*format!("{name}{INFO}"))) {
                continue;
            }
            if filter.is_some()
                && let Some(at) = self.due.get(&object.key, &object.etag)
            {
                page.next_due = page.next_due.into_iter().chain([at]).min();
                continue;
            }
            looks.push(async move { (object, self.judge(object).await) });
        }
        let mut found = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some((object, found)) = found.next().await {
            match found? {
                Found::Upload(snapshot) => {
                    if let Some(filter) = filter {
                        let due = (filter.due)(&snapshot);
                        self.due.set(&object.key, &object.etag, due);
                    }
                    page.uploads.push(*snapshot);
                }
                Found::Orphan(orphan) => page.orphans.push(orphan),
                Found::Damaged(damaged) => page.damaged.push(damaged),
                Found::Nothing => {}
            }
        }
        page.next = Some(Cursor(match listed.next {
            Some(next) => format!("{OBJECTS}{next}"),
            None => MULTIPARTS.to_owned(),
        }));
        Ok(page)
    }

    /// What an object of the bucket means.
    async fn judge(&self, object: &Listed) -> Result<Found> {
        // What has no date is young.
        let modified = object.modified.unwrap_or_else(SystemTime::now);
        let orphan = |id: Option<UploadId>, reason, removable| {
            let mut orphan = Orphan::new(object.key.clone(), reason, object.size, modified);
            (orphan.id, orphan.removable) = (id, removable);
            Found::Orphan(orphan)
        };
        if self.is_left(&object.key) {
            return Ok(Found::Nothing);
        }
        if let Some(name) = self.layout.object_of(&object.key, INFO) {
            let (id, data) = match self.described(name).await? {
                Description::Missing => return Ok(Found::Nothing),
                Description::Read(info) => {
                    let data = look::place_of(&self.layout, name, &info);
                    (info.upload.id, data)
                }
                Description::Unreadable(Some(id)) => (id, self.layout.data(name)),
                // It may be another program's.
                Description::Unreadable(None) => {
                    return Ok(orphan(None, "a description that cannot be read", false));
                }
            };
            return match self.inspect(&id).await {
                Ok(snapshot) => Ok(Found::Upload(Box::new(snapshot))),
                Err(StoreError::NotFound(_)) => {
                    Ok(orphan(Some(id), "a description without bytes", true))
                }
                Err(StoreError::Damaged { .. }) => {
                    match self.damaged(id.clone(), &data, modified).await? {
                        Some(damaged) => Ok(Found::Damaged(damaged)),
                        None => Ok(orphan(
                            Some(id),
                            "the damaged description of an object",
                            false,
                        )),
                    }
                }
                Err(error) => Err(error),
            };
        }
        if let Some(name) = self.layout.object_of(&object.key, PART) {
            let info = self.layout.info(name);
            return match self.client.head_object(&info).await {
                Ok(_) => Ok(Found::Nothing),
                // A removal deletes the description last: somebody else deleted it.
                Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(orphan(
                    UploadId::new(name).ok(),
                    "bytes without a description",
                    object.size == 0,
                )),
                Err(error) => Err(listing(error)),
            };
        }
        Ok(Found::Nothing)
    }

    async fn multiparts(
        &self,
        after: Option<(&str, &str)>,
        limit: u32,
        is_filtered: bool,
    ) -> Result<Page> {
        let after = after.map(|(key, upload)| (key.to_owned(), upload.to_owned()));
        let (bucket, prefix) = (&self.layout.bucket, &self.layout.prefix);
        let listed = self
            .client
            .list_multiparts(bucket, prefix, after, limit)
            .await;
        let listed = match listed {
            Ok(listed) => listed,
            // A right that uploads don't need, or something a small service doesn't have.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AccessDenied | ErrorKind::NotImplemented
                ) =>
            {
                tracing::warn!(%error, "multipart uploads that nobody will complete can't be found");
                return Ok(Page::default());
            }
            Err(error) => return Err(listing(error)),
        };
        let mut page = Page::default();
        for multipart in listed.uploads {
            let (key, id) = (multipart.key.clone(), multipart.upload_id.clone());
            if is_filtered && self.due.get(&key, &id).is_some() {
                continue;
            }
            match self.judge_multipart(multipart).await? {
                FoundMultipart::Orphan(orphan) => page.orphans.push(orphan),
                FoundMultipart::Described if is_filtered => {
                    let due = SystemTime::now() + DESCRIBED_FOR;
                    self.due.set(&key, &id, Some(due));
                }
                FoundMultipart::Described | FoundMultipart::Nothing => {}
            }
        }
        page.next = listed
            .next
            .map(|(key, upload)| Cursor(format!("{MULTIPARTS}{key}{SEPARATOR}{upload}")));
        Ok(page)
    }

    /// A multipart upload that no description names: removable if it has no parts, as an interrupted
    /// creation leaves it. Those whose keys hold no id of ours may be another program's and are left
    /// alone.
    async fn judge_multipart(&self, multipart: Multipart) -> Result<FoundMultipart> {
        let Some(modified) = multipart.initiated else {
            return Ok(FoundMultipart::Nothing);
        };
        let age = modified.elapsed().unwrap_or_default();
        if age < self.options.orphan_age || self.is_left(&multipart.key) {
            return Ok(FoundMultipart::Nothing);
        }
        let Some(object) = self.object_in(&multipart.key) else {
            return Ok(FoundMultipart::Nothing);
        };
        if self.names(object, &multipart.upload_id).await? {
            return Ok(FoundMultipart::Described);
        }
        let Some(bytes) = self.bytes_in(&multipart.key, &multipart.upload_id).await? else {
            return Ok(FoundMultipart::Nothing);
        };
        let name = format!("{MULTIPART}{} of {}", multipart.upload_id, multipart.key);
        let reason = "a multipart upload without a description";
        let mut orphan = Orphan::new(name, reason, bytes, modified);
        orphan.id = UploadId::new(&format!("{object}+{}", multipart.upload_id)).ok();
        orphan.removable = bytes == 0;
        Ok(FoundMultipart::Orphan(orphan))
    }

    /// The bytes in the first parts of a multipart upload; `None` if it is gone.
    async fn bytes_in(&self, key: &str, multipart: &str) -> Result<Option<u64>> {
        let place = Place::new(&self.layout.bucket, key);
        match self.client.list_parts(&place, multipart, 0).await {
            Ok(page) => Ok(Some(page.parts.iter().map(|part| part.size).sum())),
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => Ok(None),
            Err(error) => Err(listing(error)),
        }
    }

    /// Whether others see to what is at this key.
    fn is_left(&self, key: &str) -> bool {
        let mut leave = self.options.leave.iter();
        leave.any(|prefix| !prefix.is_empty() && key.starts_with(prefix.as_str()))
    }

    /// The object id in the key of an upload's bytes: the whole of it, or what looks like one.
    fn object_in<'a>(&self, key: &'a str) -> Option<&'a str> {
        let name = key.strip_prefix(&self.layout.prefix)?;
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        words.into_iter().find(|word| layout::is_random(word))
    }

    /// Whether the description of an object names a multipart upload.
    async fn names(&self, object: &str, multipart: &str) -> Result<bool> {
        Ok(match self.described(object).await? {
            Description::Missing => false,
            Description::Read(info) => {
                look::multipart_of(&info, object).as_deref() == Some(multipart)
            }
            // It may name any.
            Description::Unreadable(_) => true,
        })
    }

    async fn remove_orphan(&self, orphan: &Orphan) -> Result<()> {
        if !orphan.removable {
            return Ok(());
        }
        let name = orphan.name.strip_prefix(MULTIPART);
        if let Some((upload, key)) = name.and_then(|name| name.split_once(" of ")) {
            let named = match self.object_in(key) {
                Some(object) => self.names(object, upload).await?,
                None => true,
            };
            if named || self.bytes_in(key, upload).await? != Some(0) {
                return Ok(());
            }
            let place = Place::new(&self.layout.bucket, key);
            return self
                .client
                .abort_multipart(&place, upload)
                .await
                .map_err(listing);
        }
        // Once more: somebody may have made an upload of it since.
        if let Some(name) = self.layout.object_of(&orphan.name, INFO) {
            let Description::Read(info) = self.described(name).await? else {
                return Ok(());
            };
            if !matches!(
                self.inspect(&info.upload.id).await,
                Err(StoreError::NotFound(_))
            ) {
                return Ok(());
            }
        } else if let Some(name) = self.layout.object_of(&orphan.name, PART)
            && !matches!(self.described(name).await?, Description::Missing)
        {
            return Ok(());
        }
        let place = Place::new(&self.layout.bucket, &orphan.name);
        self.client.delete_object(&place).await.map_err(listing)
    }
}
