//! Uploads whose description cannot be read or contradicts S3: detection and removal.

use std::time::SystemTime;

use landfall::{
    store::{
        Damaged, Result, StoreError,
        info::{self, UploadInfo},
    },
    upload::UploadId,
};

use super::{Inner, error::failed, layout, remote_state::StoredInfo};
use crate::client::{ErrorKind, ObjectRef};

/// Maximum number of multipart uploads of one key that a removal aborts.
const MAX_MULTIPARTS: u32 = 100;

/// The content of an `.info` object, of whichever upload.
#[derive(Debug)]
pub(super) enum InfoContent {
    Missing,
    Read(Box<UploadInfo>),
    /// With the upload it belongs to, if that is certain.
    Unreadable(Option<UploadId>),
}

#[derive(Debug)]
pub(super) enum InfoLookup {
    Missing,
    Read(Box<StoredInfo>),
    Unreadable { object_id: String, reason: String },
}

/// Returns the upload that an unreadable description belongs to.
///
/// It is certain if the text begins with the id, as tusd's and ours do, or if the key is a random
/// id.
fn owner(object_id: &str, text: &[u8]) -> Option<UploadId> {
    let stated = text.strip_prefix(b"{\"ID\":\"").and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'"')?;
        UploadId::new(std::str::from_utf8(&rest[..end]).ok()?).ok()
    });
    let names_object = |id: &UploadId| {
        id.as_str() == object_id || layout::split(id).is_some_and(|(named, _)| named == object_id)
    };
    let own = || {
        UploadId::new(object_id)
            .ok()
            .filter(|_| layout::is_random(object_id))
    };
    stated.filter(names_object).or_else(own)
}

impl Inner {
    pub(super) async fn load_info(&self, object_id: &str) -> Result<InfoContent> {
        let object_ref = self.layout.info(object_id);
        let action = |error| StoreError::Other {
            action: format!("reading {object_ref}"),
            source: crate::client::Error::into(error),
        };
        let read = match self.client.get_object(&object_ref, None).await {
            Ok(read) => read,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => return Ok(InfoContent::Missing),
            Err(error) => return Err(action(error)),
        };
        let max = usize::try_from(info::MAX_LEN).unwrap_or(usize::MAX);
        if read.head.size > info::MAX_LEN {
            return Ok(InfoContent::Unreadable(owner(object_id, b"")));
        }
        let text = read.bytes(max).await.map_err(action)?;
        let Ok(placeholder) = UploadId::new("unnamed") else {
            return Ok(InfoContent::Missing);
        };
        let decoded = UploadInfo::decode(&placeholder, &text).ok();
        let named = decoded.and_then(|mut info| {
            info.upload.id = UploadId::new(&info.stated_id).ok()?;
            Some(Box::new(info))
        });
        Ok(match named {
            Some(info) => InfoContent::Read(info),
            None => InfoContent::Unreadable(owner(object_id, &text)),
        })
    }

    /// Returns a damaged upload for the listing; `None` if its object exists.
    ///
    /// A completed object is never removed without a request of its client.
    pub(super) async fn damaged(
        &self,
        id: UploadId,
        data: &ObjectRef,
        modified: SystemTime,
    ) -> Result<Option<Damaged>> {
        match self.client.head_object(data).await {
            Ok(_) => Ok(None),
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(Some(Damaged {
                id,
                size: 0,
                modified,
            })),
            Err(error) => Err(failed(&id, "reading the metadata of the object", error)),
        }
    }

    /// Removes an upload with an unreadable description: everything its id leads to, the
    /// description last.
    ///
    /// Bytes under a key that only the description contained stay.
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
            is_own = match self.client.head_object(&data).await {
                Ok(head) => head
                    .metadata
                    .get(layout::OWNER)
                    .is_some_and(|own| own == id.as_str()),
                Err(error) if *error.kind() == ErrorKind::NoSuchKey => false,
                Err(error) => return Err(removing(error)),
            };
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

    /// Aborts the multipart uploads of a key that contains a random id.
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

#[cfg(test)]
mod tests {
    #[test]
    fn owner_of_unreadable_description_is_certain_or_unknown() {
        let random = "14b1c4c77771671a8479bc0444bbc5ce";
        let owner = |object_id: &str, text: &str| {
            super::owner(object_id, text.as_bytes()).map(|id| id.as_str().to_owned())
        };
        let tusd = format!("{random}+mp");
        for (object, text, wanted) in [
            (random, "", Some(random)),
            (random, "nonsense", Some(random)),
            (
                random,
                &format!("{{\"ID\":\"{random}+mp\",\"Si"),
                Some(&*tusd),
            ),
            (random, &format!("{{\"ID\":\"{random}+m"), Some(random)),
            (random, "{\"ID\":\"other\",", Some(random)),
            ("a/b", "{\"ID\":\"a/b\",\"Size\":", Some("a/b")),
            ("a/b", "{\"ID\":\"a/b+mp\",\"Size\":", Some("a/b+mp")),
            ("a/b", "{\"ID\":\"a/c\",\"Size\":", None),
            ("a/b", "{\"id\":\"a/b\"}", None),
            ("notes", "my notes", None),
            ("notes", "", None),
        ] {
            assert_eq!(owner(object, text).as_deref(), wanted, "{object} {text}");
        }
    }
}
