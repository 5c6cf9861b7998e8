//! Downloads, through the server or by presigned URL.

use std::{
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, Method};
use landfall::{
    store::{ByteStream, Read, Result, StoreError},
    upload::{Upload, UploadId},
};

use super::{Inner, S3Store, error::failed, session::CachedState};
use crate::client::{ErrorKind, Object, ObjectRef};

#[async_trait]
impl Read for S3Store {
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
        let query = [
            ("response-content-disposition", content_disposition),
            ("response-content-type", content_type),
        ];
        let headers = HeaderMap::new();
        let signed = self
            .0
            .client
            .presign(Method::GET, &object_ref, &query, &headers, lifetime);
        let url = signed
            .await
            .map_err(|error| failed(&upload.id, "presigning the download", error))?;
        Ok(Some(url))
    }
}

impl Inner {
    async fn fetch(
        &self,
        upload: &Upload,
        object_ref: &ObjectRef,
        range: &Range<u64>,
    ) -> Result<Option<ByteStream>> {
        let id = &upload.id;
        let action = "reading";
        if range.is_empty() {
            return match self.client.head_object(object_ref).await {
                Ok(_) => Ok(Some(Box::pin(EmptyStream))),
                Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
                Err(error) => Err(failed(id, action, error)),
            };
        }
        let all = upload.length == Some(range.end) && range.start == 0;
        let part = (!all).then(|| range.clone());
        match self.client.get_object(object_ref, part).await {
            Ok(object) => Ok(Some(Box::pin(ObjectStream {
                object,
                left: range.end - range.start,
                id: id.clone(),
            }))),
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
            Err(error) => Err(failed(id, action, error)),
        }
    }

    async fn invalidate(&self, id: &UploadId) {
        if let Some(session) = self.sessions.get(id)
            && !session.is_being_written()
        {
            let mut cached = session.cached.lock().await;
            if let CachedState::Known(_) = *cached {
                *cached = CachedState::Unknown;
            }
        }
    }
}

struct EmptyStream;

impl Stream for EmptyStream {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

/// The bytes of an object; fails if they end early.
struct ObjectStream {
    object: Object,
    left: u64,
    id: UploadId,
}

impl Stream for ObjectStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(Pin::new(&mut this.object.body).poll_next(cx));
        Poll::Ready(Some(match piece {
            Some(Ok(mut bytes)) => {
                bytes.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
                this.left -= bytes.len() as u64;
                Ok(bytes)
            }
            Some(Err(error)) => {
                this.left = 0;
                Err(failed(&this.id, "reading", error))
            }
            None => {
                this.left = 0;
                Err(super::error::damaged(&this.id, "its object ended early"))
            }
        }))
    }
}
