//! Downloads, passed through or by a URL of S3's.

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

use super::{Inner, S3Store, failure::failed, session::Known};
use crate::client::{ErrorKind, Object, Place};

#[async_trait]
impl Read for S3Store {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        let store = &self.0;
        let place = place_of(store, upload);
        if let Some(object) = store.fetch(upload, &place, &range).await? {
            return Ok(object);
        }
        // Perhaps all bytes are there and nobody has completed it.
        store.forget(&upload.id).await;
        store.load(&upload.id).await?;
        match store.fetch(upload, &place, &range).await? {
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
        let place = place_of(&self.0, upload);
        let query = [
            ("response-content-disposition", content_disposition),
            ("response-content-type", content_type),
        ];
        let headers = HeaderMap::new();
        let signed = self
            .0
            .client
            .presign(Method::GET, &place, &query, &headers, lifetime);
        let url = signed
            .await
            .map_err(|error| failed(&upload.id, "signing a URL for the download", error))?;
        Ok(Some(url))
    }
}

/// Where the bytes of a finished upload are.
pub(super) fn place_of(store: &Inner, upload: &Upload) -> Place {
    let object = super::layout::split(&upload.id).map_or(upload.id.as_str(), |(object, _)| object);
    super::look::place_in(&store.layout, object, &upload.storage)
}

impl Inner {
    /// The bytes; `None` if there is no object.
    async fn fetch(
        &self,
        upload: &Upload,
        place: &Place,
        range: &Range<u64>,
    ) -> Result<Option<ByteStream>> {
        let id = &upload.id;
        let doing = "reading";
        if range.is_empty() {
            return match self.client.head_object(place).await {
                Ok(_) => Ok(Some(Box::pin(Nothing))),
                Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
                Err(error) => Err(failed(id, doing, error)),
            };
        }
        let all = upload.length == Some(range.end) && range.start == 0;
        let asked = (!all).then(|| range.clone());
        match self.client.get_object(place, asked).await {
            Ok(object) => Ok(Some(Box::pin(Bytestream {
                object,
                left: range.end - range.start,
                id: id.clone(),
            }))),
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
            Err(error) => Err(failed(id, doing, error)),
        }
    }

    /// What is known of an upload turned out to be wrong.
    async fn forget(&self, id: &UploadId) {
        if let Some(session) = self.sessions.get(id)
            && !session.is_written()
        {
            let mut known = session.known.lock().await;
            if let Known::State(_) = *known {
                *known = Known::Nothing;
            }
        }
    }
}

struct Nothing;

impl Stream for Nothing {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

/// The bytes of an object; one that ends early is an error.
struct Bytestream {
    object: Object,
    left: u64,
    id: UploadId,
}

impl Stream for Bytestream {
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
                Err(super::failure::damaged(&this.id, "its object ended early"))
            }
        }))
    }
}
