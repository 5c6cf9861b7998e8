//! Removal: everything goes, the description last, so that a repeat finishes what was cut short.

use async_trait::async_trait;
use landfall::{
    lease::Fence,
    store::{Result, StoreError, Terminate},
    upload::{Upload, UploadId},
};

use super::{
    Inner, S3Store,
    damaged::Found,
    failure::failed,
    look,
    session::{Known, Session},
};

#[async_trait]
impl Terminate for S3Store {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        self.0.terminate(&upload.id, fence).await
    }
}

impl Inner {
    /// Removes everything, the description last.
    pub(super) async fn terminate(&self, id: &UploadId, fence: Fence) -> Result<bool> {
        let session = self.sessions.enter(id);
        if !session.admits(fence) {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        let mut known = session.known.lock().await;
        if !session.is_newest(fence) {
            return Err(StoreError::LeaseLost(id.clone()));
        }
        // Whatever is on its way is not waited for: the multipart upload goes.
        *known = Known::Gone;
        session.unpublish();
        let removed = self.remove(&session, fence).await;
        if removed.is_err() {
            *known = Known::Nothing;
        }
        drop(known);
        session.touch(0);
        self.sessions.leave(session);
        removed
    }

    async fn remove(&self, session: &Session, fence: Fence) -> Result<bool> {
        let id = &session.id;
        let located = match self.find(id).await? {
            Found::Read(located) => located,
            Found::Missing => return Ok(false),
            Found::Unreadable { object, .. } => return self.remove_unreadable(id, &object).await,
        };
        if self.options.shared {
            let writer = located.writer.as_deref();
            self.check_writer(session, fence, writer)?;
            // Another process has begun to write since this one loaded the upload for its removal.
            let is_other = !self.is_signed(&located.info);
            let seen = session.take_seen();
            if is_other && seen.is_some_and(|seen| seen.as_deref() != writer) {
                return Err(StoreError::LeaseLost(id.clone()));
            }
        }
        let removing = |error| failed(id, "removing", error);
        let place = look::place_of(&self.layout, &located.object, &located.info);
        if let Some(multipart) = look::multipart_of(&located.info, &located.object) {
            let aborted = self.client.abort_multipart(&place, &multipart).await;
            aborted.map_err(removing)?;
        }
        let part = self.layout.part(&located.object);
        let data = self.client.delete_object(&place);
        let rest = self.client.delete_object(&part);
        futures_util::future::try_join(data, rest)
            .await
            .map_err(removing)?;
        let info = self.layout.info(&located.object);
        let deleted = self.client.delete_object(&info).await;
        deleted.map(|()| true).map_err(removing)
    }
}
