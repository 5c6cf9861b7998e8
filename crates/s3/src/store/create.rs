//! New uploads: their ids, their places, their descriptions.

use std::{sync::Arc, time::SystemTime};

use landfall::{
    lease::Fence,
    store::{Result, StoreError, info::UploadInfo},
    upload::{Upload, UploadId},
};

use super::{
    Inner,
    failure::failed,
    layout::{self, BUCKET, KEY, MULTIPART},
    look::{Standing, note_plan},
    plan::{Counted, Plan, Segment},
    session::{Known, Session, State},
};
use crate::{
    UploadIds,
    client::{ErrorKind, Place},
};

impl Inner {
    /// Begins the multipart upload of an object.
    pub(super) async fn begin(&self, upload: &Upload, place: &Place) -> Result<String> {
        let headers = if layout::split(&upload.id).is_none() {
            self.layout.owned_headers(upload)
        } else {
            self.layout.headers(upload)
        };
        let begun = self.client.create_multipart(place, &headers).await;
        begun.map_err(|error| failed(&upload.id, "beginning the multipart upload", error))
    }

    /// Chooses the place of a new upload, and begins its multipart upload if it gets its name from it.
    pub(super) async fn assign(&self, upload: &mut Upload) -> Result<()> {
        if let Some(length) = upload.length {
            self.fits(length)?;
        }
        if self.options.ids == UploadIds::Plain {
            return Ok(());
        }
        let place = self.layout.place(upload, SystemTime::now())?;
        let multipart = self.begin(upload, &place).await?;
        // One that is no id, or too long for it, is noted in the description only.
        if let Ok(id) = UploadId::new(&format!("{}+{multipart}", upload.id)) {
            upload.id = id;
        }
        upload.storage.insert(BUCKET.into(), place.bucket);
        upload.storage.insert(KEY.into(), place.key);
        upload.storage.insert(MULTIPART.into(), multipart);
        Ok(())
    }

    pub(super) async fn create(
        &self,
        mut upload: Upload,
        fence: Option<Fence>,
    ) -> Result<Arc<Session>> {
        if let Some(length) = upload.length {
            self.fits(length)?;
        }
        let id = upload.id.clone();
        let multipart = upload.storage.get(MULTIPART).cloned();
        let object = match (layout::split(&id), &multipart) {
            (Some((object, named)), Some(multipart)) if named == multipart => object,
            _ => id.as_str(),
        };
        let place = self.layout.place(&upload, SystemTime::now())?;
        upload.storage.insert(BUCKET.into(), place.bucket.clone());
        upload.storage.insert(KEY.into(), place.key.clone());
        upload.storage.insert("Type".into(), "s3store".into());

        let session = self.sessions.enter(&id);
        let mut known = session.known.lock().await;
        let mut info = UploadInfo::new(upload);
        let mut plan = Plan::default();
        let upload = &info.upload;
        if let Some(size) = self.sizes.next(1, 0, upload.length, None) {
            plan.push(Segment {
                number: 1,
                offset: 0,
                size,
            });
        }
        note_plan(&mut info, &plan);
        let is_signed = fence.is_some() || !self.options.shared;
        if is_signed {
            self.sign(&mut info, fence.unwrap_or(Fence(0)));
        }
        let made = self.make(&info, object).await;
        let etag = match made {
            Ok(etag) => etag,
            Err(error) => {
                if let Some(multipart) = &multipart {
                    let _ = self.client.abort_multipart(&place, multipart).await;
                }
                return Err(error);
            }
        };
        let at = Standing {
            object: object.to_owned(),
            counted: Counted {
                next: 1,
                ..Counted::default()
            },
            rest: None,
            rest_counts: 0,
            complete: false,
            object_etag: None,
            modified: SystemTime::now(),
            info,
            etag,
            place,
            multipart,
            plan,
            is_in_doubt: false,
        };
        let fence = fence.unwrap_or(Fence(0));
        let mut state = State::new(at, fence, self.gather(), &session);
        state.is_signed = is_signed;
        if self.options.shared && is_signed {
            session.claim(fence);
        }
        session.publish(state.snapshot());
        session.weigh(state.memory_size());
        *known = Known::State(Box::new(state));
        drop(known);
        session.touch(0);
        Ok(session)
    }

    /// Writes the description of a new upload, where there must be none.
    async fn make(&self, info: &UploadInfo, object: &str) -> Result<String> {
        let id = &info.upload.id;
        if !self.options.conditional_writes {
            match self.client.head_object(&self.layout.info(object)).await {
                Ok(_) => return Err(StoreError::AlreadyExists(id.clone())),
                Err(error) if *error.kind() == ErrorKind::NoSuchKey => {}
                Err(error) => return Err(failed(id, "looking for the description", error)),
            }
        }
        match self.put_info(info, object, None).await {
            Err(StoreError::LeaseLost(id)) => Err(StoreError::AlreadyExists(id)),
            other => other,
        }
    }
}
