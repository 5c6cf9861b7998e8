//! The writer of an upload: the process that the description names.

use landfall::{
    lease::Fence,
    store::{Result, StoreError},
    upload::UploadId,
};

use super::{
    Inner,
    description::{StoredInfo, preserve_change_time, writer},
    remote_state::RemoteState,
    session::{UploadSession, UploadState},
};
use crate::cloud::Cloud;

const MAX_ATTEMPTS: u32 = 4;

impl<C: Cloud> Inner<C> {
    pub(super) fn check_writer(
        &self,
        session: &UploadSession,
        fence: Fence,
        writer: Option<&str>,
    ) -> Result<()> {
        let has_owned = fence.0 > 0 && session.status().owned_fence == fence.0;
        if has_owned && !writer.is_some_and(|writer| self.is_own_token(writer)) {
            return Err(StoreError::LeaseLost(session.id.clone()));
        }
        Ok(())
    }

    pub(super) async fn take_ownership(
        &self,
        stored: &mut StoredInfo,
        session: &UploadSession,
        fence: Fence,
    ) -> Result<()> {
        for attempt in 1.. {
            self.check_writer(session, fence, stored.writer.as_deref())?;
            self.forget_tail_writers(&mut stored.info, &stored.object_id)
                .await?;
            self.set_writer(&mut stored.info, fence);
            preserve_change_time(stored);
            let etag = Some(&*stored.etag);
            let claim = self.put_info(&stored.info, &stored.object_id, etag, &session.writes);
            match claim.await {
                Ok(etag) => {
                    stored.etag = etag;
                    break;
                }
                Err(StoreError::LeaseLost(id)) if attempt < MAX_ATTEMPTS => {
                    let found = self.get_info(&id).await?;
                    let mut found = found.ok_or(StoreError::NotFound(id.clone()))?;
                    // The response was lost, and the call was retried.
                    if found.writer.as_deref() == writer(&stored.info) {
                        stored.etag = found.etag;
                        break;
                    }
                    // A late write of the previous writer may be overwritten; another name is
                    // another lease.
                    if found.writer != stored.writer {
                        return Err(StoreError::LeaseLost(id));
                    }
                    std::mem::swap(stored, &mut found);
                }
                Err(error) => return Err(error),
            }
        }
        session.status().owned_fence = fence.0;
        Ok(())
    }

    /// Reads which writes of dropped calls took effect, once they have ended.
    pub(super) async fn check_dropped_writes(&self, state: &mut UploadState) -> Result<()> {
        if !state.remote.is_write_in_doubt {
            return Ok(());
        }
        let remote = &mut state.remote;
        let id = remote.id().clone();
        let found = self.get_info(&id).await?;
        let found = found.ok_or_else(|| StoreError::NotFound(id.clone()))?;
        if self.options.shared && !self.is_own_writer(&found.info) {
            return Err(StoreError::LeaseLost(id));
        }
        // Otherwise the next one is another object.
        if !self.writes_once() {
            let tails = self.find_tails(&id, &remote.object_id).await?;
            remote.incomplete_part = remote.choose_copy(tails);
        }
        remote.etag = found.etag;
        remote.info.unverified_from = found.info.unverified_from;
        remote.is_write_in_doubt = false;
        state.plan_dirty = true;
        Ok(())
    }

    pub(super) async fn probe(
        &self,
        id: &UploadId,
        writer: Option<(&UploadSession, Fence)>,
    ) -> Result<RemoteState> {
        let Some(mut stored) = self.get_info(id).await? else {
            return Err(StoreError::NotFound(id.clone()));
        };
        if let Some(reason) = &stored.info.damaged {
            return Err(StoreError::damaged(id, reason.clone()));
        }
        if let (true, Some((session, fence))) = (self.options.shared, writer) {
            self.take_ownership(&mut stored, session, fence).await?;
        }
        self.load_remote_state(stored).await
    }
}
