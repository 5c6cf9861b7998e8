//! The writer of an upload: the process that the description names.
//!
//! Writers are compared by name, not by the fence in it: fences come from clocks, which may be
//! wrong. A process that has named itself under a lease and then finds another name has lost that
//! lease.

use landfall::{
    lease::Fence,
    store::{Result, StoreError, info::UploadInfo},
};

use super::{
    Inner,
    remote_state::{StoredInfo, preserve_change_time},
    session::UploadSession,
};

/// Description extension: the writer, as `fence:token`.
const WRITER: &str = "Writer";

/// Maximum number of attempts, if late writes of the previous writer change the description
/// meanwhile.
const MAX_ATTEMPTS: u32 = 4;

pub(super) fn writer(info: &UploadInfo) -> Option<&str> {
    info.extensions.get(WRITER).map(String::as_str)
}

impl Inner {
    /// Names this process as the writer in the description.
    ///
    /// In a shared bucket each name is unique, and so is the entity tag.
    pub(super) fn set_writer(&self, info: &mut UploadInfo, Fence(number): Fence) {
        let mut writer = format!("{number}:{:016x}", self.incarnation);
        if self.options.shared {
            writer.push_str(&format!("{:016x}", rand::random::<u64>()));
        }
        info.extensions.insert(WRITER.into(), writer);
    }

    pub(super) fn is_own_writer(&self, info: &UploadInfo) -> bool {
        writer(info).is_some_and(|writer| self.is_own_token(writer))
    }

    pub(super) fn is_own_token(&self, writer: &str) -> bool {
        let token = writer.split_once(':').map_or("", |(_, token)| token);
        token.starts_with(&format!("{:016x}", self.incarnation))
    }

    /// Fails if this process named itself under this lease and the description now names another
    /// writer.
    pub(super) fn check_writer(
        &self,
        session: &UploadSession,
        fence: Fence,
        writer: Option<&str>,
    ) -> Result<()> {
        if session.has_owned(fence) && !writer.is_some_and(|writer| self.is_own_token(writer)) {
            return Err(StoreError::LeaseLost(session.id.clone()));
        }
        Ok(())
    }

    /// Names this process in the description before it reads the state of the upload.
    ///
    /// From then on the previous writer cannot acknowledge an offset.
    pub(super) async fn take_ownership(
        &self,
        stored: &mut StoredInfo,
        session: &UploadSession,
        fence: Fence,
    ) -> Result<()> {
        for attempt in 1.. {
            self.check_writer(session, fence, stored.writer.as_deref())?;
            self.set_writer(&mut stored.info, fence);
            preserve_change_time(stored);
            let claimed = self
                .put_info(&stored.info, &stored.object_id, Some(&stored.etag))
                .await;
            match claimed {
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
        session.record_ownership(fence);
        Ok(())
    }
}
