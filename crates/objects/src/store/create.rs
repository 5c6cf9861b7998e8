//! Creates uploads: their key, their multipart upload and their description. It overwrites none.

use std::{sync::Arc, time::SystemTime};

use landfall::{
    lease::Fence,
    store::{Result, StoreError, info::UploadInfo},
    upload::{Upload, UploadId},
};
use tokio_util::task::TaskTracker;

use super::{
    During as _, Inner,
    description::{InfoLookup, StoredInfo},
    layout::{self, MULTIPART},
    remote_state::{RemoteState, store_plan},
    session::{CachedState, UploadSession, UploadState},
};
use crate::cloud::Cloud;
use crate::{PartPlan, Segment};
use crate::{call::if_exists, object::ObjectRef, options::UploadIds};

impl<C: Cloud> Inner<C> {
    pub(super) async fn create_multipart(
        &self,
        upload: &Upload,
        object_ref: &ObjectRef,
    ) -> Result<String> {
        let headers = match self.layout.split(&upload.id) {
            None => self.layout.headers_with_owner(upload),
            Some(_) => self.layout.headers(upload),
        };
        let created = self.client.create_multipart(object_ref, &headers).await;
        created.during("creating the multipart upload", &upload.id)
    }

    pub(super) async fn assign_key(&self, upload: &mut Upload) -> Result<()> {
        if let Some(length) = upload.length {
            self.check_size(length)?;
        }
        if self.options.ids == UploadIds::Plain || self.rules.implicit_multipart {
            return Ok(());
        }
        let object_ref = self.layout.object_ref(upload, SystemTime::now())?;
        let multipart = self.create_multipart(upload, &object_ref).await?;
        // Otherwise invalid or too long for an id; then only the description contains it.
        if let Ok(id) = UploadId::new(&format!("{}+{multipart}", upload.id)) {
            upload.id = id;
        }
        self.layout.record(&object_ref, &mut upload.storage);
        upload.storage.insert(MULTIPART.into(), multipart);
        Ok(())
    }

    pub(super) async fn create(
        &self,
        mut upload: Upload,
        fence: Option<Fence>,
    ) -> Result<Arc<UploadSession>> {
        if let Some(length) = upload.length {
            self.check_size(length)?;
        }
        let id = upload.id.clone();
        let mut multipart = upload.storage.get(MULTIPART).cloned();
        let object_id = match (self.layout.split(&id), &multipart) {
            (Some((object_id, named)), Some(multipart)) if named == multipart => object_id,
            _ => id.as_str(),
        };
        let object_ref = self.layout.object_ref(&upload, SystemTime::now())?;
        let storage = &mut upload.storage;
        self.layout.record(&object_ref, storage);
        storage.insert("Type".into(), self.rules.store_type.into());

        // Its completion would be refused, or take the bytes of an earlier upload with the same id for its own.
        if self.rules.implicit_multipart
            && !layout::is_random(object_id)
            && self.find_object(&id, &object_ref).await?.is_some()
        {
            return Err(StoreError::AlreadyExists(id));
        }

        let session = self.sessions.get_or_insert(&id);
        let mut cached = session.lock().await;
        let mut info = UploadInfo::new(upload);
        let mut plan = PartPlan::default();
        if let Some(size) = self.part_sizes.next_size(1, 0, info.upload.length, None)
            && !self.rules.versioned_parts
        {
            plan.push(Segment {
                number: 1,
                offset: 0,
                size,
            });
        }
        store_plan(&mut info, &plan);
        let writer_recorded = fence.is_some() || !self.options.shared;
        if writer_recorded {
            self.set_writer(&mut info, fence.unwrap_or(Fence(0)));
        }
        let written = self.write_info(&info, object_id, &session.writes).await;
        let etag = match written {
            Ok(etag) => etag,
            Err(error) => {
                if let Some(multipart) = &multipart {
                    let _ = self.client.abort_multipart(&object_ref, multipart).await;
                }
                return Err(self.name_existing(error, object_id).await);
            }
        };
        // For one with bytes it is created with its first part, if it needs one.
        if self.rules.implicit_multipart && fence.is_none() {
            match self.create_multipart(&info.upload, &object_ref).await {
                Ok(created) => multipart = Some(created),
                Err(error) => {
                    let info = self.layout.info(object_id);
                    let _ = self.client.delete_object(&info).await;
                    return Err(error);
                }
            }
        }
        let stored = StoredInfo {
            info,
            etag,
            object_id: object_id.to_owned(),
            modified: SystemTime::now(),
            writer: None,
        };
        let remote = RemoteState::new(stored, object_ref, multipart, plan);
        let fence = fence.unwrap_or(Fence(0));
        let mut state = UploadState::new(remote, fence, self.new_buffer(), &session);
        state.writer_recorded = writer_recorded;
        if self.options.shared && writer_recorded {
            session.status().owned_fence = fence.0;
        }
        session.publish(state.snapshot());
        session.set_memory_size(state.memory_size());
        *cached = CachedState::Known(Box::new(state));
        drop(cached);
        session.touch(0);
        Ok(session)
    }

    /// The object may belong to an upload with another multipart upload in its id.
    async fn name_existing(&self, error: StoreError, object_id: &str) -> StoreError {
        if let StoreError::AlreadyExists(_) = &error
            && let Ok(InfoLookup::Read(existing)) = self.read_info(object_id).await
        {
            return StoreError::AlreadyExists(existing.info.upload.id.clone());
        }
        error
    }

    async fn write_info(
        &self,
        info: &UploadInfo,
        object_id: &str,
        writes: &TaskTracker,
    ) -> Result<String> {
        let id = &info.upload.id;
        if !self.options.conditional_writes {
            let head = self.client.head_object(&self.layout.info(object_id)).await;
            let head = if_exists(head).during("checking for a description", id)?;
            if head.is_some() {
                return Err(StoreError::AlreadyExists(id.clone()));
            }
        }
        match self.put_info(info, object_id, None, writes).await {
            Err(StoreError::LeaseLost(id)) => Err(StoreError::AlreadyExists(id)),
            other => other,
        }
    }
}
