//! The process that writes an upload, as the description names it.
//!
//! Writers are compared by name, never by the numbers of their leases: those come from clocks that may
//! once have been wrong. A process that has named itself under a lease and then finds another name has
//! lost that lease.

use landfall::{
    lease::Fence,
    store::{Result, StoreError, info::UploadInfo},
};

use super::{
    Inner,
    look::{Located, note_unchanged},
    session::Session,
};

/// In the description: who writes the upload, as `fence:token`.
const WRITER: &str = "Writer";

/// How often a description is claimed that late writes of the writer before change meanwhile.
const MAX_ATTEMPTS: u32 = 4;

/// The writer that a description names.
pub(super) fn writer(info: &UploadInfo) -> Option<&str> {
    info.extensions.get(WRITER).map(String::as_str)
}

impl Inner {
    /// Names this process in the description as the writer. Where other processes write, too, the
    /// name is never twice the same, so neither is the entity tag.
    pub(super) fn sign(&self, info: &mut UploadInfo, Fence(number): Fence) {
        let mut writer = format!("{number}:{:016x}", self.incarnation);
        if self.options.shared {
            writer.push_str(&format!("{:016x}", rand::random::<u64>()));
        }
        info.extensions.insert(WRITER.into(), writer);
    }

    /// Whether the description names this process.
    pub(super) fn is_signed(&self, info: &UploadInfo) -> bool {
        writer(info).is_some_and(|writer| self.is_own(writer))
    }

    /// Whether a writer is this process.
    pub(super) fn is_own(&self, writer: &str) -> bool {
        let token = writer.split_once(':').map_or("", |(_, token)| token);
        token.starts_with(&format!("{:016x}", self.incarnation))
    }

    /// Fails if this process has named itself under the lease with `fence`, and the description names
    /// another one now.
    pub(super) fn check_writer(
        &self,
        session: &Session,
        fence: Fence,
        writer: Option<&str>,
    ) -> Result<()> {
        if session.has_claimed(fence) && !writer.is_some_and(|writer| self.is_own(writer)) {
            return Err(StoreError::LeaseLost(session.id.clone()));
        }
        Ok(())
    }

    /// Names this process in the description, before it finds out where the upload stands: from then
    /// on whoever was named before cannot acknowledge anything.
    pub(super) async fn claim(
        &self,
        located: &mut Located,
        session: &Session,
        fence: Fence,
    ) -> Result<()> {
        for attempt in 1.. {
            self.check_writer(session, fence, located.writer.as_deref())?;
            self.sign(&mut located.info, fence);
            note_unchanged(located);
            let claimed = self
                .put_info(&located.info, &located.object, Some(&located.etag))
                .await;
            match claimed {
                Ok(etag) => {
                    located.etag = etag;
                    break;
                }
                Err(StoreError::LeaseLost(id)) if attempt < MAX_ATTEMPTS => {
                    let found = self.locate(&id).await?;
                    let mut found = found.ok_or(StoreError::NotFound(id.clone()))?;
                    // The answer was lost, and the call was repeated.
                    if found.writer.as_deref() == writer(&located.info) {
                        located.etag = found.etag;
                        break;
                    }
                    // A late write of the writer before; another name is another lease.
                    if found.writer != located.writer {
                        return Err(StoreError::LeaseLost(id));
                    }
                    std::mem::swap(located, &mut found);
                }
                Err(error) => return Err(error),
            }
        }
        session.claim(fence);
        Ok(())
    }
}
