//! Uploads whose description cannot be read, or contradicts what is in S3: what they are, and their
//! removal.

use std::time::SystemTime;

use landfall::{
    store::{
        Damaged, Result, StoreError,
        info::{self, UploadInfo},
    },
    upload::UploadId,
};

use super::{Inner, failure::failed, layout, look::Located};
use crate::client::{ErrorKind, Place};

/// How many multipart uploads of one key are removed by one call.
const MAX_MULTIPARTS: u32 = 100;

/// What `.info` holds, whichever upload it belongs to.
#[derive(Debug)]
pub(super) enum Description {
    Missing,
    Read(Box<UploadInfo>),
    /// The upload that it belongs to, if that is proven.
    Unreadable(Option<UploadId>),
}

/// The description of one upload.
#[derive(Debug)]
pub(super) enum Found {
    Missing,
    Read(Box<Located>),
    Unreadable { object: String, reason: String },
}

/// The upload that an unreadable description belongs to. It is ours if its text begins with the id, as
/// ours and tusd's do, or if its key has a random id, which nobody else has chosen.
fn owner(object: &str, text: &[u8]) -> Option<UploadId> {
    let stated = text.strip_prefix(b"{\"ID\":\"").and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'"')?;
        UploadId::new(std::str::from_utf8(&rest[..end]).ok()?).ok()
    });
    let names_object = |id: &UploadId| {
        id.as_str() == object || layout::split(id).is_some_and(|(named, _)| named == object)
    };
    let own = || {
        UploadId::new(object)
            .ok()
            .filter(|_| layout::is_random(object))
    };
    stated.filter(names_object).or_else(own)
}

impl Inner {
    /// Reads the description of an object.
    pub(super) async fn described(&self, object: &str) -> Result<Description> {
        let place = self.layout.info(object);
        let doing = |error| StoreError::Other {
            action: format!("reading {place}"),
            source: crate::client::Error::into(error),
        };
        let read = match self.client.get_object(&place, None).await {
            Ok(read) => read,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => return Ok(Description::Missing),
            Err(error) => return Err(doing(error)),
        };
        let max = usize::try_from(info::MAX_LEN).unwrap_or(usize::MAX);
        if read.head.size > info::MAX_LEN {
            return Ok(Description::Unreadable(owner(object, b"")));
        }
        let text = read.bytes(max).await.map_err(doing)?;
        let Ok(unnamed) = UploadId::new("unnamed") else {
            return Ok(Description::Missing);
        };
        let decoded = UploadInfo::decode(&unnamed, &text).ok();
        let named = decoded.and_then(|mut info| {
            info.upload.id = UploadId::new(&info.stated_id).ok()?;
            Some(Box::new(info))
        });
        Ok(match named {
            Some(info) => Description::Read(info),
            None => Description::Unreadable(owner(object, &text)),
        })
    }

    /// A damaged upload for the listing; `None` if all of its bytes are there, as a finished object is
    /// never removed without its client.
    pub(super) async fn damaged(
        &self,
        id: UploadId,
        data: &Place,
        modified: SystemTime,
    ) -> Result<Option<Damaged>> {
        match self.client.head_object(data).await {
            Ok(_) => Ok(None),
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(Some(Damaged {
                id,
                size: 0,
                modified,
            })),
            Err(error) => Err(failed(&id, "looking for the object", error)),
        }
    }

    /// Removes an upload whose description cannot be read: all that its id leads to, the description
    /// last. Bytes at a place that only the description knew stay.
    pub(super) async fn remove_unreadable(&self, id: &UploadId, object: &str) -> Result<bool> {
        let removing = |error| failed(id, "removing", error);
        let data = self.layout.data(object);
        if let Some((_, multipart)) = layout::split(id) {
            let aborted = self.client.abort_multipart(&data, multipart).await;
            aborted.map_err(removing)?;
        }
        let mut is_own = layout::is_random(object);
        if is_own {
            self.abort_multiparts(id, &data).await?;
        } else {
            // Any key may hold an object of the application.
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
        let part = self.layout.part(object);
        self.client.delete_object(&part).await.map_err(removing)?;
        let info = self.layout.info(object);
        let deleted = self.client.delete_object(&info).await;
        deleted.map(|()| true).map_err(removing)
    }

    /// Aborts the multipart uploads of a key that holds a random id.
    async fn abort_multiparts(&self, id: &UploadId, data: &Place) -> Result<()> {
        let listed = self
            .client
            .list_multiparts(&data.bucket, &data.key, None, MAX_MULTIPARTS);
        let listed = match listed.await {
            Ok(listed) => listed,
            // The sweeper needs this right, uploads do not.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AccessDenied | ErrorKind::NotImplemented
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(failed(id, "listing its multipart uploads", error)),
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
    use super::*;

    #[test]
    fn the_owner_of_an_unreadable_description_is_proven_or_unknown() {
        let random = "14b1c4c77771671a8479bc0444bbc5ce";
        let owner = |object: &str, text: &str| {
            owner(object, text.as_bytes()).map(|id| id.as_str().to_owned())
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
