//! Removes uploads, the description last. It deletes no object that might be of another program.

use async_trait::async_trait;
use landfall::{
    lease::Fence,
    removal::Removable,
    store::{Result, Store as _, StoreError, Terminate},
    upload::{Upload, UploadId},
};

use super::{
    During as _, Inner, ObjectStore,
    description::{InfoLookup, StoredInfo},
    enumerate::cannot_list,
    layout,
    remote_state::is_part,
    session::{CachedState, UploadSession},
};
use crate::cloud::Cloud;
use crate::{OWNER, ObjectHead, ObjectRef};

const REMOVING: &str = "removing";
const MAX_MULTIPARTS: u32 = 100;

#[async_trait]
impl<C: Cloud> Terminate for ObjectStore<C> {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        self.0.terminate(&upload.id, fence).await
    }

    /// An unfinished upload has no object: an object at its key is another program's.
    async fn expire(&self, upload: &Upload, fence: Fence, _: Removable) -> Result<bool> {
        let id = &upload.id;
        let is_complete = match self.load(id).await {
            Err(StoreError::Gone(_)) => false,
            loaded => loaded?.is_complete(),
        };
        if !is_complete {
            let data = match self.0.find_info(id).await? {
                InfoLookup::Read(stored) => {
                    let storage = &stored.info.upload.storage;
                    let data = self.0.layout.stored_object(&stored.object_id, storage);
                    self.0.find_object(id, &data).await?
                }
                // Another process has removed it, and this one may keep it in memory.
                InfoLookup::Missing => None,
                InfoLookup::Unreadable { .. } => return Ok(false),
            };
            if data.is_some() {
                return Err(StoreError::damaged(
                    id,
                    "an object that is not its own has its key",
                ));
            }
        }
        self.0.terminate(id, fence).await
    }
}

/// Returns whether the mark of an object is that of the upload; `None`: it has none.
fn is_marked(stored: &StoredInfo, head: &ObjectHead) -> Option<bool> {
    let owner = head.metadata.get(OWNER)?;
    Some(*owner == stored.object_id || *owner == stored.info.upload.id.as_str())
}

impl<C: Cloud> Inner<C> {
    pub(super) async fn terminate(&self, id: &UploadId, fence: Fence) -> Result<bool> {
        let session = self.sessions.get_or_insert(id);
        let mut cached = session.lock_for(fence).await?;
        // Do not wait for parts in flight: the multipart upload is aborted.
        *cached = CachedState::Deleted;
        session.status().published = None;
        let removed = self.remove(&session, fence).await;
        let removed = cached.discard_if_failed(removed);
        if removed.is_ok() {
            self.record_due(id, None);
        }
        drop(cached);
        session.touch(0);
        self.sessions.remove_if_unused(session);
        removed
    }

    async fn remove(&self, session: &UploadSession, fence: Fence) -> Result<bool> {
        let id = &session.id;
        let stored = match self.find_info(id).await? {
            InfoLookup::Read(stored) => stored,
            InfoLookup::Missing => return Ok(false),
            InfoLookup::Unreadable { object_id, .. } => {
                return self.remove_unreadable(id, &object_id).await;
            }
        };
        if self.options.shared {
            let writer = stored.writer.as_deref();
            self.check_writer(session, fence, writer)?;
            // Another process has started to write since this one loaded the upload.
            let is_other = !self.is_own_writer(&stored.info);
            let recorded = session.status().last_writer.take();
            if is_other && recorded.is_some_and(|recorded| recorded.as_deref() != writer) {
                return Err(StoreError::LeaseLost(id.clone()));
            }
        }
        let storage = &stored.info.upload.storage;
        let object_ref = self.layout.stored_object(&stored.object_id, storage);
        // Before the abort, after which an upload that has a file of others at its key would look complete.
        let found = self.find_object(id, &object_ref).await?;
        let mut is_own = match &found {
            Some(head) => self.is_own_object(&stored, head).await?,
            None => false,
        };
        if let Some(multipart) = self.layout.multipart(&stored.info, &stored.object_id) {
            self.abort(id, &object_ref, &multipart).await?;
            if found.is_none() {
                // A completion of a process that was killed may have ended meanwhile.
                let made = self.find_object(id, &object_ref).await?;
                is_own = made.is_some_and(|head| is_marked(&stored, &head) == Some(true));
            }
        }
        let data = is_own.then_some(&object_ref);
        self.delete_objects(id, data, &stored.object_id).await
    }

    /// Returns whether the object at the key of an upload is its file. An upload that is not finished has none, and the
    /// client may have chosen the key (by a template with its metadata).
    async fn is_own_object(&self, stored: &StoredInfo, head: &ObjectHead) -> Result<bool> {
        let upload = &stored.info.upload;
        // The key of an upload `a_0` is also that of the first part of `a`.
        if is_part(head) {
            return Ok(false);
        }
        if let Some(is_own) = is_marked(stored, head) {
            return Ok(is_own);
        }
        // tusd writes no mark, and an application may change a finished object.
        if upload.completion.is_done() {
            return Ok(true);
        }
        match self.probe(&upload.id, None).await {
            Err(StoreError::Gone(_) | StoreError::Damaged { .. }) => Ok(false),
            remote => Ok(remote?.complete),
        }
    }

    /// Removes an upload with an unreadable description: everything its id leads to.
    async fn remove_unreadable(&self, id: &UploadId, object_id: &str) -> Result<bool> {
        let data = self.layout.data(object_id);
        if let Some((_, multipart)) = self.layout.split(id) {
            self.abort(id, &data, multipart).await?;
        }
        let mut is_own = layout::is_random(object_id);
        if is_own {
            self.abort_multiparts(id, &data).await?;
        } else {
            // The application may have an object under any key.
            let head = self.find_object(id, &data).await?;
            let owner = head.and_then(|mut head| head.metadata.remove(OWNER));
            is_own = owner.is_some_and(|owner| owner == id.as_str());
        }
        self.delete_objects(id, is_own.then_some(&data), object_id)
            .await
    }

    async fn abort_multiparts(&self, id: &UploadId, data: &ObjectRef) -> Result<()> {
        let (bucket, key) = (&data.bucket, &data.key);
        let listed = self
            .client
            .list_multiparts(bucket, key, None, MAX_MULTIPARTS);
        let listed = match listed.await {
            // Only the sweeper requires this permission.
            Err(error) if cannot_list(&error) => return Ok(()),
            listed => listed.during("listing the multipart uploads", id)?,
        };
        for multipart in listed.uploads {
            if multipart.key == *key {
                self.abort(id, data, &multipart.upload_id).await?;
            }
        }
        Ok(())
    }

    async fn abort(&self, id: &UploadId, data: &ObjectRef, multipart: &str) -> Result<()> {
        let aborted = self.client.abort_multipart(data, multipart).await;
        aborted.during(REMOVING, id)
    }

    /// Deletes the objects of an upload, the description last.
    async fn delete_objects(
        &self,
        id: &UploadId,
        data: Option<&ObjectRef>,
        object_id: &str,
    ) -> Result<bool> {
        let mut objects = vec![self.layout.part(object_id)];
        objects.extend(data.cloned());
        objects.extend(self.copies(object_id).into_iter().flatten());
        if self.writes_once() {
            let tails = self.list_tails(id, object_id).await?;
            objects.extend(tails.into_iter().map(|tail| tail.part.object));
        }
        let deletions = objects.iter().map(|one| self.client.delete_object(one));
        let deleted = futures_util::future::try_join_all(deletions).await;
        deleted.during(REMOVING, id)?;
        let info = self.layout.info(object_id);
        let deleted = self.client.delete_object(&info).await;
        deleted.during(REMOVING, id).map(|()| true)
    }
}
