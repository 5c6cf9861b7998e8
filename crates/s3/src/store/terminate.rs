use async_trait::async_trait;
use landfall::{
    lease::Fence,
    removal::Removable,
    store::{Result, Store as _, StoreError, Terminate},
    upload::{Upload, UploadId},
};

use super::{
    Inner, S3Store,
    description::{InfoLookup, multipart_of},
    enumerate::cannot_list,
    failed, layout,
    session::{CachedState, UploadSession},
};
use crate::client::{ObjectRef, if_exists};

#[async_trait]
impl Terminate for S3Store {
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
            let InfoLookup::Read(stored) = self.0.find_info(id).await? else {
                return Ok(false);
            };
            let storage = &stored.info.upload.storage;
            let data = self.0.layout.stored_object(&stored.object_id, storage);
            if self.0.has_object(id, &data).await? {
                return Err(StoreError::damaged(
                    id,
                    "an object that is not its own has its key",
                ));
            }
        }
        self.0.terminate(id, fence).await
    }
}

impl Inner {
    pub(super) async fn terminate(&self, id: &UploadId, fence: Fence) -> Result<bool> {
        let session = self.sessions.get_or_insert(id);
        let mut cached = session.lock_for(fence).await?;
        // Do not wait for parts in flight: the multipart upload is aborted.
        *cached = CachedState::Deleted;
        session.unpublish();
        let removed = self.remove(&session, fence).await;
        if removed.is_err() {
            *cached = CachedState::Unknown;
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
            let recorded = session.take_recorded_writer();
            if is_other && recorded.is_some_and(|recorded| recorded.as_deref() != writer) {
                return Err(StoreError::LeaseLost(id.clone()));
            }
        }
        let removing = |error| failed(id, "removing", error);
        let object_ref = self
            .layout
            .stored_object(&stored.object_id, &stored.info.upload.storage);
        if let Some(multipart) = multipart_of(&stored.info, &stored.object_id) {
            let aborted = self.client.abort_multipart(&object_ref, &multipart).await;
            aborted.map_err(removing)?;
        }
        let part = self.layout.part(&stored.object_id);
        let data = self.client.delete_object(&object_ref);
        let part_deleted = self.client.delete_object(&part);
        futures_util::future::try_join(data, part_deleted)
            .await
            .map_err(removing)?;
        let info = self.layout.info(&stored.object_id);
        let deleted = self.client.delete_object(&info).await;
        deleted.map(|()| true).map_err(removing)
    }
}

const MAX_MULTIPARTS: u32 = 100;

impl Inner {
    pub(super) async fn has_object(&self, id: &UploadId, data: &ObjectRef) -> Result<bool> {
        let head = if_exists(self.client.head_object(data).await)
            .map_err(|error| failed(id, "reading the metadata of the object", error))?;
        Ok(head.is_some())
    }

    /// Removes an upload with an unreadable description: everything its id leads to, the
    /// description last.
    pub(super) async fn remove_unreadable(&self, id: &UploadId, object_id: &str) -> Result<bool> {
        let removing = |error| failed(id, "removing", error);
        let data = self.layout.data(object_id);
        if let Some((_, multipart)) = layout::split(id) {
            let aborted = self.client.abort_multipart(&data, multipart).await;
            aborted.map_err(removing)?;
        }
        let mut is_own = layout::is_random(object_id);
        if is_own {
            self.abort_multiparts(id, &data).await?;
        } else {
            // The application may have an object under any key.
            let head = if_exists(self.client.head_object(&data).await).map_err(removing)?;
            let owner = head.and_then(|mut head| head.metadata.remove(layout::OWNER));
            is_own = owner.is_some_and(|owner| owner == id.as_str());
        }
        if is_own {
            self.client.delete_object(&data).await.map_err(removing)?;
        }
        let part = self.layout.part(object_id);
        self.client.delete_object(&part).await.map_err(removing)?;
        let info = self.layout.info(object_id);
        let deleted = self.client.delete_object(&info).await;
        deleted.map(|()| true).map_err(removing)
    }

    async fn abort_multiparts(&self, id: &UploadId, data: &ObjectRef) -> Result<()> {
        let client = &self.client;
        let listed = client.list_multiparts(&data.bucket, &data.key, None, MAX_MULTIPARTS);
        let listed = match listed.await {
            Ok(listed) => listed,
            // Only the sweeper requires this permission.
            Err(error) if cannot_list(&error) => return Ok(()),
            Err(error) => return Err(failed(id, "listing the multipart uploads", error)),
        };
        for multipart in listed.uploads {
            if multipart.key == data.key {
                let aborted = client.abort_multipart(data, &multipart.upload_id).await;
                aborted.map_err(|error| failed(id, "removing", error))?;
            }
        }
        Ok(())
    }
}
