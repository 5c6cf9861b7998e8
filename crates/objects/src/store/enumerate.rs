//! Lists uploads and orphans of the bucket, page by page, for the sweeper, for which it keeps idle parts. It removes
//! nothing but parts of complete uploads, and nothing in a dry run.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use landfall::{
    Lifetimes,
    removal::{ClockMemory, Removable},
    store::{
        Cursor, Damaged, DueFilter, DueIndex, Enumerate, Orphan, OrphanKind, Page, Result,
        StoreError, SweepClaim,
    },
    upload::{Snapshot, UploadId},
};

use super::{
    During as _, Inner, ObjectStore,
    description::InfoLookup,
    layout::{self, IMPLICIT, INFO, PART},
};
use crate::cloud::Cloud;
use crate::{Error, ErrorKind, ListedObject, MultipartUpload, ObjectRef, if_exists};

pub(super) const MAX_CONCURRENCY: usize = 8;
/// Azure drops the blocks of an upload that is idle for seven days.
pub(super) const PART_KEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
const OBJECTS: &str = "objects ";
const MULTIPARTS: &str = "multiparts ";
const SEPARATOR: char = '\u{0}';

const MULTIPART: &str = "multipart upload ";

#[async_trait]
impl<C: Cloud> Enumerate for ObjectStore<C> {
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.0.page(cursor, limit, None).await
    }

    async fn page_due(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        filter: &DueFilter<'_>,
    ) -> Result<Page> {
        match has_index(Some(filter)) {
            true => self.0.page_of_sweep(cursor, limit, filter).await,
            false => self.0.page(cursor, limit, Some(filter)).await,
        }
    }

    async fn claim_sweep(&self, interval: Duration) -> Result<SweepClaim> {
        self.0.claim_sweep(interval).await
    }

    async fn finish_sweep(&self, next: Duration) -> Result<()> {
        self.0.finish_sweep(next).await
    }

    fn due_index(&self) -> Option<&dyn DueIndex> {
        Some(self)
    }

    /// The clock of the service is the other one, so nothing has to be remembered.
    async fn load_clock(&self) -> Result<Option<ClockMemory>> {
        let layout = &self.0.layout;
        let page = self
            .0
            .client
            .list_objects(&layout.bucket, &layout.prefix, None, 1)
            .await
            .map_err(listing_error)?;
        Ok(page.time.map(|time| ClockMemory {
            passed: Some(Duration::ZERO),
            ..ClockMemory::last_used(time)
        }))
    }

    /// Nothing proves that what belongs to no description is ours.
    async fn remove_orphan(&self, _: &Orphan, _: Removable) -> Result<bool> {
        Ok(false)
    }
}

impl<C: Cloud> Inner<C> {
    pub(super) async fn page(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        filter: Option<&DueFilter<'_>>,
    ) -> Result<Page> {
        let limit = u32::try_from(limit.clamp(1, 1000)).unwrap_or(1000);
        let cursor = cursor.map(|cursor| cursor.0).unwrap_or_default();
        if let Some(after) = cursor.strip_prefix(MULTIPARTS) {
            let after = after.split_once(SEPARATOR);
            return self.multiparts(after, limit, filter).await;
        }
        let after = cursor.strip_prefix(OBJECTS);
        let after = after.and_then(|after| after.split_once(SEPARATOR));
        self.objects(after, limit, filter).await
    }
}

/// Logs that a sweep could not delete something, which it tries again.
fn log_failure(id: &UploadId, swept: Result<()>) {
    if let Err(error) = swept {
        tracing::debug!(%id, %error, "failed to delete parts of a completed upload");
    }
}

pub(super) fn listing_error(error: Error) -> StoreError {
    match error.kind() {
        ErrorKind::Unavailable { .. } => StoreError::Unavailable(error.into()),
        _ => StoreError::other("listing the bucket", error),
    }
}

/// Returns whether a sweep goes by the index of due times.
fn has_index(filter: Option<&DueFilter<'_>>) -> bool {
    filter.is_some_and(|filter| !filter.all && !filter.dry_run)
}

/// Returns whether complete uploads may be due. Partial ones have the lifetime of unfinished uploads.
fn expires(lifetimes: &Lifetimes) -> bool {
    lifetimes.finished.is_some() || lifetimes.unfinished.is_some()
}

pub(super) enum ListedEntry {
    Upload(Box<Snapshot>),
    Orphan(Orphan),
    Damaged(Damaged),
    Nothing,
}

/// True without the permission to list multipart uploads, or if the service cannot list them.
pub(super) fn cannot_list(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AccessDenied | ErrorKind::NotImplemented
    )
}

impl<C: Cloud> Inner<C> {
    /// `after`: the position, and the key before it.
    async fn objects(
        &self,
        after: Option<(&str, &str)>,
        limit: u32,
        filter: Option<&DueFilter<'_>>,
    ) -> Result<Page> {
        let (bucket, prefix) = (&self.layout.bucket, &self.layout.prefix);
        let next = after.map(|(next, _)| next.to_owned());
        let listed = self.client.list_objects(bucket, prefix, next, limit);
        let listed = listed.await.map_err(listing_error)?;
        let mut page = Page::default();
        // An object and its description are neighbors in the listing. So a completed upload, of
        // which there may be millions, costs no request.
        let keys = listed.objects.iter().map(|object| &*object.key);
        let keys: HashSet<_> = keys.chain(after.map(|(_, last)| last)).collect();
        let mut checks = Vec::new();
        let (mut with_tails, mut with_parts) = (HashSet::new(), HashSet::new());
        for object in &listed.objects {
            let data = object.key.strip_suffix(INFO);
            let is_done = data.is_some_and(|data| keys.contains(data));
            let was_examined =
                has_index(filter) && self.was_examined(&object.key, object.modified, is_done);
            let (tail, part) = (
                self.tail_owner(&object.key),
                self.left_part(&object.key, &keys),
            );
            if tail.is_some() || part.is_some() {
                if filter.is_some_and(|filter| !filter.dry_run)
                    && (!was_examined || self.checks_left_parts())
                {
                    with_tails.extend(tail);
                    with_parts.extend(part);
                }
                continue;
            }
            if filter.is_some_and(|filter| is_done && !expires(&filter.lifetimes)) {
                continue;
            }
            let part = object.key.strip_suffix(PART);
            if part.is_some_and(|name| keys.contains(&*format!("{name}{INFO}"))) {
                continue;
            }
            if data.is_some() && was_examined {
                continue;
            }
            // A complete upload that is not partial has no lifetime then.
            let partial_only = is_done
                && filter.is_some_and(|filter| !filter.all && filter.lifetimes.finished.is_none());
            checks.push(self.classify(object, partial_only));
        }
        let mut found = stream::iter(checks).buffer_unordered(MAX_CONCURRENCY);
        while let Some(entry) = found.next().await {
            self.add_entry(&mut page, entry?, filter).await;
        }
        for id in with_tails {
            log_failure(&id, self.sweep_tails(&id).await);
        }
        for id in with_parts {
            log_failure(&id, self.sweep_parts(&id).await);
        }
        let last = listed.objects.last().map_or("", |last| &*last.key);
        page.next = Some(Cursor(match listed.next {
            Some(next) => format!("{OBJECTS}{next}{SEPARATOR}{last}"),
            None => MULTIPARTS.to_owned(),
        }));
        Ok(page)
    }

    /// Returns the complete upload that this may be a part of: a process died before it could delete the part, or
    /// stored it after another process had completed the upload.
    fn left_part(&self, key: &str, keys: &HashSet<&str>) -> Option<UploadId> {
        let (data, number) = key.rsplit_once('_')?;
        let is_left = self.rules.versioned_parts
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && keys.contains(data)
            && keys.contains(&*format!("{data}{INFO}"))
            && !keys.contains(&*format!("{key}{INFO}"));
        // Another program may have an object whose name is that of an upload and a number.
        let id = data.strip_prefix(&self.layout.prefix)?;
        let is_left = is_left && layout::is_random(id);
        is_left.then(|| UploadId::new(id).ok()).flatten()
    }

    /// Removes the parts of an upload if it is complete.
    async fn sweep_parts(&self, id: &UploadId) -> Result<()> {
        let Some(stored) = self.get_info(id).await? else {
            return Ok(());
        };
        let remote = self.load_remote_state(stored).await?;
        if !remote.complete {
            return Ok(());
        }
        self.check_owner(&remote).await?;
        let dropped = self.client.abort_multipart(&remote.object_ref, IMPLICIT);
        dropped.await.during("deleting left parts", id)
    }

    /// Adds an entry to the page of a sweep, and records when an upload is due again.
    pub(super) async fn add_entry(
        &self,
        page: &mut Page,
        entry: ListedEntry,
        filter: Option<&DueFilter<'_>>,
    ) {
        match entry {
            ListedEntry::Upload(snapshot) => {
                if let Some(filter) = filter.filter(|filter| !filter.dry_run) {
                    let kept = self.keep_parts(&snapshot).await;
                    if !filter.all {
                        let due = (filter.due)(&snapshot);
                        let due = due.into_iter().chain(kept).min();
                        self.record_due(&snapshot.upload.id, due);
                    }
                }
                page.uploads.push(*snapshot);
            }
            ListedEntry::Orphan(orphan) => {
                if has_index(filter) {
                    self.record_reported(&orphan.name);
                }
                page.orphans.push(orphan);
            }
            ListedEntry::Damaged(damaged) => {
                if !has_index(filter) || self.record_damaged(&damaged.id) {
                    page.damaged.push(damaged);
                }
            }
            ListedEntry::Nothing => {}
        }
    }

    /// Returns whether the cloud drops the parts of an upload that is idle for some days.
    pub(super) fn loses_parts(&self, snapshot: &Snapshot) -> bool {
        let rules = &self.rules;
        rules.implicit_multipart && !rules.versioned_parts && !snapshot.is_complete()
    }

    /// Keeps the parts of an idle upload where the cloud drops them after some days. Returns when to do so again.
    async fn keep_parts(&self, snapshot: &Snapshot) -> Option<SystemTime> {
        if !self.loses_parts(snapshot) {
            return None;
        }
        let is_idle = |age| age >= PART_KEEP_INTERVAL;
        if snapshot.modified.elapsed().is_ok_and(is_idle) {
            let object_ref = self.layout.uploaded_object(&snapshot.upload);
            if let Err(error) = self.client.keep_parts(&object_ref).await {
                tracing::warn!(id = %snapshot.upload.id, %error, "failed to keep the parts of an idle upload");
            }
        }
        Some(SystemTime::now() + PART_KEEP_INTERVAL)
    }

    /// With `partial_only`, no other upload is due.
    async fn classify(&self, object: &ListedObject, partial_only: bool) -> Result<ListedEntry> {
        // Without a date it counts as new.
        let modified = object.modified.unwrap_or_else(SystemTime::now);
        let orphan = |id: Option<UploadId>, reason, kind| {
            let mut orphan = Orphan::new(object.key.clone(), reason, object.size, modified);
            (orphan.id, orphan.kind) = (id, kind);
            ListedEntry::Orphan(orphan)
        };
        if self.is_excluded(&object.key) {
            return Ok(ListedEntry::Nothing);
        }
        if let Some(name) = self.layout.object_of(&object.key, INFO) {
            let owner = match self.read_info(name).await.map_err(listing_error)? {
                InfoLookup::Missing => return Ok(ListedEntry::Nothing),
                InfoLookup::Read(stored) if partial_only && !stored.info.upload.is_partial() => {
                    return Ok(ListedEntry::Nothing);
                }
                InfoLookup::Read(stored) => {
                    let is_named = stored.info.stated_id.is_none();
                    is_named.then(|| stored.info.upload.id.clone())
                }
                InfoLookup::Unreadable { owner, .. } => owner,
            };
            let Some(id) = owner else {
                // It may belong to another program.
                let why = "a description that cannot be read";
                return Ok(orphan(None, why, OrphanKind::Unproven));
            };
            return self.examine(&id, modified).await;
        }
        if let Some(name) = self.layout.part_of(&object.key) {
            let info = self.layout.info(name);
            let info = if_exists(self.client.head_object(&info).await).map_err(listing_error)?;
            if info.is_none() {
                // A removal deletes the description last, so another program deleted it, or its name alone is
                // that of one of ours.
                let id = UploadId::new(name).ok();
                return Ok(orphan(
                    id,
                    "bytes without a description",
                    OrphanKind::Unproven,
                ));
            }
        }
        Ok(ListedEntry::Nothing)
    }

    /// Loads an upload that may be due.
    pub(super) async fn examine(&self, id: &UploadId, modified: SystemTime) -> Result<ListedEntry> {
        match self.load_for_listing(id).await {
            Ok(snapshot) => Ok(ListedEntry::Upload(Box::new(snapshot))),
            Err(StoreError::NotFound(_)) => Ok(ListedEntry::Nothing),
            // Another node is writing it.
            Err(StoreError::LeaseLost(_)) => {
                self.record_due(id, Some(SystemTime::UNIX_EPOCH));
                Ok(ListedEntry::Nothing)
            }
            // It expires as what its description says.
            Err(StoreError::Gone(remains)) => Ok(ListedEntry::Upload(remains)),
            Err(StoreError::Damaged { what, .. }) => Ok(ListedEntry::Damaged(Damaged {
                id: id.clone(),
                size: 0,
                modified,
                reason: what,
            })),
            Err(error) => Err(error),
        }
    }

    async fn multiparts(
        &self,
        after: Option<(&str, &str)>,
        limit: u32,
        filter: Option<&DueFilter<'_>>,
    ) -> Result<Page> {
        let after = after.map(|(key, upload)| (key.to_owned(), upload.to_owned()));
        let (bucket, prefix) = (&self.layout.bucket, &self.layout.prefix);
        let listed = self.client.list_multiparts(bucket, prefix, after, limit);
        let listed = match listed.await {
            Ok(listed) => listed,
            // Uploads do not need this permission, and small services lack the operation.
            Err(error) if cannot_list(&error) => {
                tracing::warn!(%error, "failed to list abandoned multipart uploads");
                return Ok(Page::default());
            }
            Err(error) => return Err(listing_error(error)),
        };
        let mut page = Page::default();
        for multipart in listed.uploads {
            let entry = self
                .classify_multipart(multipart, has_index(filter))
                .await?;
            self.add_entry(&mut page, entry, filter).await;
        }
        page.next = listed
            .next
            .map(|(key, upload)| Cursor(format!("{MULTIPARTS}{key}{SEPARATOR}{upload}")));
        Ok(page)
    }

    /// Returns a multipart upload that no description names, if it might be ours.
    async fn classify_multipart(
        &self,
        multipart: MultipartUpload,
        has_index: bool,
    ) -> Result<ListedEntry> {
        let Some(modified) = multipart.initiated else {
            return Ok(ListedEntry::Nothing);
        };
        let age = modified.elapsed().unwrap_or_default();
        if age < self.options.orphan_age || self.is_excluded(&multipart.key) {
            return Ok(ListedEntry::Nothing);
        }
        let name = format!("{MULTIPART}{} of {}", multipart.upload_id, multipart.key);
        let due = modified.checked_add(self.options.orphan_age);
        if has_index && self.was_examined(&name, due, false) {
            return Ok(ListedEntry::Nothing);
        }
        let Some(object) = self.object_id_in(&multipart.key) else {
            return Ok(ListedEntry::Nothing);
        };
        let described = self.describes_multipart(object, &multipart.upload_id);
        if described.await? {
            return Ok(ListedEntry::Nothing);
        }
        let Some(bytes) = self.bytes_in(&multipart.key, &multipart.upload_id).await? else {
            return Ok(ListedEntry::Nothing);
        };
        let reason = "a multipart upload without a description";
        let mut orphan = Orphan::new(name, reason, bytes, modified);
        orphan.id = UploadId::new(&format!("{object}+{}", multipart.upload_id)).ok();
        Ok(ListedEntry::Orphan(orphan))
    }

    async fn bytes_in(&self, key: &str, multipart: &str) -> Result<Option<u64>> {
        let object_ref = ObjectRef::new(&self.layout.bucket, key);
        match self.client.list_parts(&object_ref, multipart).await {
            Ok(parts) => Ok(Some(parts.iter().map(|part| part.size).sum())),
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => Ok(None),
            Err(error) => Err(listing_error(error)),
        }
    }

    fn is_excluded(&self, key: &str) -> bool {
        let mut prefixes = self.options.excluded_prefixes.iter();
        prefixes.any(|prefix| !prefix.is_empty() && key.starts_with(prefix.as_str()))
    }

    fn object_id_in<'a>(&self, key: &'a str) -> Option<&'a str> {
        let name = key.strip_prefix(&self.layout.prefix)?;
        let mut segments = name.split(|c: char| !c.is_ascii_alphanumeric());
        segments.find(|segment| layout::is_random(segment))
    }

    async fn describes_multipart(&self, object_id: &str, multipart: &str) -> Result<bool> {
        let found = self.read_info(object_id).await.map_err(listing_error)?;
        Ok(match found {
            InfoLookup::Missing => false,
            InfoLookup::Read(stored) => {
                self.layout.multipart(&stored.info, object_id).as_deref() == Some(multipart)
            }
            // It may name any.
            InfoLookup::Unreadable { .. } => true,
        })
    }
}
