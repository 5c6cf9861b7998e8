//! Reads finished uploads, or presigns their download. It acquires no lease.

use std::ops::Range;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use landfall::{
    store::{ByteStream, Read, Result, StoreError},
    upload::{Upload, UploadId},
};

use super::{During as _, Inner, ObjectStore, session::CachedState};
use crate::cloud::Cloud;
use crate::{Object, ObjectRef, if_exists};

#[async_trait]
impl<C: Cloud> Read for ObjectStore<C> {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        let store = &self.0;
        let object_ref = store.layout.uploaded_object(upload);
        if let Some(object) = store.fetch(upload, &object_ref, &range).await? {
            return Ok(object);
        }
        // All bytes may be there without the upload having been completed.
        store.invalidate(&upload.id).await;
        store.load(&upload.id).await?;
        match store.fetch(upload, &object_ref, &range).await? {
            Some(object) => Ok(object),
            None => Err(StoreError::NotFound(upload.id.clone())),
        }
    }

    fn reads_unfinished(&self) -> bool {
        false
    }

    async fn link(
        &self,
        upload: &Upload,
        content_type: &str,
        content_disposition: &str,
    ) -> Result<Option<String>> {
        let Some(lifetime) = self.0.options.redirect else {
            return Ok(None);
        };
        let object_ref = self.0.layout.uploaded_object(upload);
        let client = &self.0.client;
        let signed =
            client.presign_download(&object_ref, content_type, content_disposition, lifetime);
        let signed = signed.await.during("presigning the download", &upload.id);
        signed.map(Some)
    }
}

impl<C: Cloud> Inner<C> {
    async fn fetch(
        &self,
        upload: &Upload,
        object_ref: &ObjectRef,
        range: &Range<u64>,
    ) -> Result<Option<ByteStream>> {
        let id = &upload.id;
        if range.is_empty() {
            let head = self.find_object(id, object_ref).await?;
            return Ok(head.map(|_| Box::pin(stream::empty()) as ByteStream));
        }
        let all = upload.length == Some(range.end) && range.start == 0;
        let part = (!all).then(|| range.clone());
        let object = if_exists(self.client.get_object(object_ref, part).await);
        let object = object.during("reading", id)?;
        let len = range.end - range.start;
        Ok(object.map(|object| stream_bytes(object, len, id.clone())))
    }

    async fn invalidate(&self, id: &UploadId) {
        if let Some(session) = self.sessions.get(id)
            && !session.status().is_being_written()
        {
            let mut cached = session.lock().await;
            if let CachedState::Known(_) = *cached {
                *cached = CachedState::Unknown;
            }
        }
    }
}

fn stream_bytes(object: Object, len: u64, id: UploadId) -> ByteStream {
    let state = (object.body, len, id);
    Box::pin(stream::try_unfold(state, async |(mut body, left, id)| {
        if left == 0 {
            return Ok(None);
        }
        let Some(bytes) = body.next().await else {
            return Err(StoreError::damaged(&id, "its object ended early"));
        };
        let mut bytes = bytes.during("reading", &id)?;
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - bytes.len() as u64;
        Ok(Some((bytes, (body, left, id))))
    }))
}
