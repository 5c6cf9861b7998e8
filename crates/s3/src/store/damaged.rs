use std::time::SystemTime;

use landfall::{
    store::{Damaged, Result},
    upload::UploadId,
};

use super::{Inner, error::failed, layout};
use crate::client::{ErrorKind, ObjectRef, if_exists};

const MAX_MULTIPARTS: u32 = 100;

impl Inner {
    pub(super) async fn damaged(
        &self,
        id: UploadId,
        data: &ObjectRef,
        modified: SystemTime,
    ) -> Result<Option<Damaged>> {
        let head = if_exists(self.client.head_object(data).await)
            .map_err(|error| failed(&id, "reading the metadata of the object", error))?;
        Ok(head.is_none().then_some(Damaged {
            id,
            size: 0,
            modified,
        }))
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
        let listed = self
            .client
            .list_multiparts(&data.bucket, &data.key, None, MAX_MULTIPARTS);
        let listed = match listed.await {
            Ok(listed) => listed,
            // Only the sweeper requires this permission.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AccessDenied | ErrorKind::NotImplemented
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(failed(id, "listing the multipart uploads", error)),
        };
        for multipart in listed
            .uploads
            .iter()
            .filter(|multipart| multipart.key == data.key)
        {
            let aborted = self
                .client
                .abort_multipart(data, &multipart.upload_id)
                .await;
            aborted.map_err(|error| failed(id, "removing", error))?;
        }
        Ok(())
    }
}
