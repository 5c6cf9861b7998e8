//! The description of an upload: reading, writing, and the writer that it names.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Result, StoreError, info::UploadInfo},
    upload::UploadId,
};
use tokio_util::task::TaskTracker;

use super::{
    During as _, Inner,
    layout::{self, Layout},
    tails::{set_tail_writers, tail_name, tail_writers},
};
use crate::call::{self, if_exists};
use crate::cloud::Cloud;

/// Description extension: last change of the upload, in milliseconds since 1970.
///
/// Only present if the last write of the description did not change the upload.
const CHANGED: &str = "Changed";
const WRITER: &str = "Writer";

#[derive(Debug)]
pub(super) struct StoredInfo {
    pub(super) info: UploadInfo,
    pub(super) etag: String,
    pub(super) object_id: String,
    pub(super) modified: SystemTime,
    pub(super) writer: Option<String>,
}

#[derive(Debug)]
pub(super) enum InfoLookup {
    Missing,
    /// Without a valid id in it, the upload's is a random one.
    Read(Box<StoredInfo>),
    Unreadable {
        object_id: String,
        owner: Option<UploadId>,
        reason: String,
    },
}

/// Returns the upload that an unreadable description belongs to.
///
/// It is certain if the text begins with the id, as tusd's and ours do, or if the key is a random
/// id.
fn owner(layout: &Layout, object_id: &str, text: &[u8]) -> Option<UploadId> {
    let stated = text.strip_prefix(b"{\"ID\":\"").and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'"')?;
        UploadId::new(std::str::from_utf8(&rest[..end]).ok()?).ok()
    });
    let names_object = |id: &UploadId| {
        id.as_str() == object_id
            || layout
                .split(id)
                .is_some_and(|(named, _)| named == object_id)
    };
    let own = || {
        UploadId::new(object_id)
            .ok()
            .filter(|_| layout::is_random(object_id))
    };
    stated.filter(names_object).or_else(own)
}

pub(super) fn writer(info: &UploadInfo) -> Option<&str> {
    info.extensions.get(WRITER).map(String::as_str)
}

impl<C: Cloud> Inner<C> {
    pub(super) async fn get_info(&self, id: &UploadId) -> Result<Option<StoredInfo>> {
        match self.find_info(id).await? {
            InfoLookup::Read(stored) => Ok(Some(*stored)),
            InfoLookup::Missing => Ok(None),
            InfoLookup::Unreadable { reason, .. } => Err(StoreError::damaged(id, reason)),
        }
    }

    pub(super) async fn find_info(&self, id: &UploadId) -> Result<InfoLookup> {
        let named = self.layout.split(id).map(|(object_id, _)| object_id);
        for object_id in named.into_iter().chain([id.as_str()]) {
            let found = self.read_info(object_id).await;
            match found.during("reading the description", id)? {
                InfoLookup::Missing => {}
                // The ids `a+1` and `a+2` share a description, which belongs to one of them.
                InfoLookup::Read(stored) if stored.info.upload.id != *id => {}
                found => return Ok(found),
            }
        }
        Ok(InfoLookup::Missing)
    }

    /// Reads the description of an object, whichever upload it belongs to.
    pub(super) async fn read_info(&self, object_id: &str) -> call::Result<InfoLookup> {
        let object_ref = self.layout.info(object_id);
        let Some(read) = if_exists(self.client.get_object(&object_ref, None).await)? else {
            return Ok(InfoLookup::Missing);
        };
        let head = read.head.clone();
        let (text, decoded) = match usize::try_from(UploadInfo::MAX_LEN) {
            Ok(max) if head.size <= UploadInfo::MAX_LEN => {
                let text = read.bytes(max).await?;
                let decoded = UploadInfo::decode(&UploadId::random(), &text);
                (text, decoded.map_err(|broken| broken.to_string()))
            }
            _ => (Bytes::new(), Err("its description is too long".to_owned())),
        };
        let object_id = object_id.to_owned();
        let mut info = match decoded {
            Ok(info) => info,
            Err(reason) => {
                return Ok(InfoLookup::Unreadable {
                    owner: owner(&self.layout, &object_id, &text),
                    object_id,
                    reason,
                });
            }
        };
        let stated = info.stated_id.as_deref().map(UploadId::new);
        if let Some(Ok(id)) = stated {
            info.stated_id = None;
            Arc::make_mut(&mut info.upload).id = id;
        }
        let changed = info.extensions.get(CHANGED);
        let changed = changed.and_then(|changed| {
            let since = Duration::from_millis(changed.parse().ok()?);
            SystemTime::UNIX_EPOCH.checked_add(since)
        });
        let modified = changed.or(head.modified);
        Ok(InfoLookup::Read(Box::new(StoredInfo {
            etag: head.etag,
            object_id,
            modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
            writer: writer(&info).map(str::to_owned),
            info,
        })))
    }

    pub(super) async fn put_info(
        &self,
        info: &UploadInfo,
        object_id: &str,
        over: Option<&str>,
        writes: &TaskTracker,
    ) -> Result<String> {
        let condition = self.condition(over.map(str::to_owned));
        let payload = self.payload(info.encode());
        let headers = self.layout.internal_headers("application/json");
        let object_ref = self.layout.info(object_id);
        let (client, writes) = (&self.client, Some(writes));
        let put = client.put_object(&object_ref, payload, &headers, condition, writes);
        put.await.during("writing the description", &info.upload.id)
    }

    /// Names this process as the writer in the description.
    ///
    /// In a shared bucket each name is unique, and so is the entity tag.
    pub(super) fn set_writer(&self, info: &mut UploadInfo, Fence(number): Fence) {
        let mut writer = format!("{number}:{:016x}", self.incarnation);
        if self.options.shared {
            writer.push_str(&format!("{:016x}", rand::random::<u64>()));
        }
        if self.writes_once() {
            let mut writers = tail_writers(info);
            let own = tail_name(&writer);
            if writers.last() != Some(&own) {
                writers.push(own);
                set_tail_writers(info, &writers);
            }
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
}

pub(super) fn mark_changed(info: &mut UploadInfo) {
    info.extensions.remove(CHANGED);
}

pub(super) fn preserve_change_time(stored: &mut StoredInfo) {
    set_change_time(&mut stored.info, stored.modified);
}

pub(super) fn set_change_time(info: &mut UploadInfo, changed: SystemTime) {
    let changed = changed.duration_since(SystemTime::UNIX_EPOCH);
    let changed = changed.unwrap_or_default().as_millis().to_string();
    info.extensions.insert(CHANGED.into(), changed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_of_unreadable_description_is_certain_or_unknown() {
        let layout = Layout::new(&crate::StoreOptions::new("b"));
        let random = "14b1c4c77771671a8479bc0444bbc5ce";
        let owner = |object_id: &str, text: &str| {
            super::owner(&layout, object_id, text.as_bytes()).map(|id| id.as_str().to_owned())
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
