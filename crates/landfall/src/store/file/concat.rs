//! Concatenation of uploads.
//!
//! The kernel copies the bytes where it can (`copy_file_range`), and shares blocks where the file system can.
//! All of it runs on the blocking pool, in steps of bounded size and with bounded concurrency. A part is open only
//! during its steps, however many there are.

use std::{fs::File, os::fd::AsFd, sync::Arc};

use async_trait::async_trait;

use super::{
    Durability, FileStore, Inner, cache::WriterState, failure::failed, io_pool::StepKind, sys,
};
use crate::{
    lease::Fence,
    store::{Concatenate, Result, StoreError},
    upload::{Upload, UploadId},
};

const STEP_BYTES: u64 = 64 * 1024 * 1024;

struct Part {
    id: UploadId,
    data_path: Arc<str>,
    size: u64,
}

#[async_trait]
impl Concatenate for FileStore {
    async fn concatenate(
        &self,
        target: &Upload,
        parts: &[Arc<Upload>],
        fence: Fence,
    ) -> Result<u64> {
        let inner = &self.0;
        let id = &target.id;
        let entry = inner.cache.get_or_insert(id);
        let step = {
            let (inner, id) = (Arc::clone(inner), id.clone());
            let parts: Vec<_> = parts.iter().map(|part| part.id.clone()).collect();
            move |state: &mut WriterState| {
                let epoch = state.start_epoch(&id, fence)?;
                state.lease().map_or(Ok(()), |lease| lease.check_writes())?;
                let data_path = inner.data_path(&id)?;
                let (data, _) = inner.open_data(&id, &data_path)?;
                let owned = inner.owned(&id, state, &data_path, &data)?;
                let parts = parts.into_iter().map(|part| inner.part(part));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                sys::truncate(data.as_fd(), 0)
                    .map_err(|error| failed(&id, "truncating the data", error))?;
                Ok((epoch, data_path, Arc::new(File::from(data)), parts, owned))
            }
        };
        let (epoch, data_path, data, parts, owned) =
            inner.io.run_locked(&entry, StepKind::Long, step).await?;
        let mut sum = 0;
        for part in parts {
            let part = Arc::new(part);
            let mut done = 0;
            while done < part.size {
                let (inner, name) = (Arc::clone(inner), id.clone());
                let (part, target) = (Arc::clone(&part), Arc::clone(&data));
                let step = move |state: &mut WriterState| {
                    state.check_epoch(&name, fence, epoch)?;
                    inner.copy(&part, done, &target, sum + done)
                };
                match self.0.io.run_locked(&entry, StepKind::Long, step).await {
                    Ok(count) => done += count,
                    Err(error) => {
                        let id = id.clone();
                        let empty = move |state: &mut WriterState| {
                            state.check_epoch(&id, fence, epoch)?;
                            Ok(sys::truncate(data.as_fd(), 0))
                        };
                        if !matches!(error, StoreError::LeaseLost(_)) {
                            let _ = self.0.io.run_locked(&entry, StepKind::Long, empty).await?;
                        }
                        return Err(error);
                    }
                }
            }
            sum += part.size;
        }
        if inner.options.durability != Durability::None {
            inner.sync_upload(id, &data_path, u64::MAX).await?;
        }
        if let Some(owned) = owned {
            let (this, id) = (Arc::clone(inner), id.clone());
            let check = move || owned.check(&this, &id);
            inner.io.run(StepKind::Short(0), check).await?;
        }
        Ok(sum)
    }
}

impl Inner {
    fn part(&self, id: UploadId) -> Result<Part> {
        let state = self.inspect(&id)?;
        Ok(Part {
            id,
            data_path: state.record.data_path.clone(),
            size: state.offset,
        })
    }

    /// Copies a step from here on, and returns how many bytes that were.
    fn copy(&self, part: &Part, from: u64, target: &File, to: u64) -> Result<u64> {
        let (id, size) = (&part.id, part.size);
        let opened = self.open_versioned(&part.data_path, sys::open_read);
        let (source, version) = opened.map_err(|error| failed(id, "opening a part", error))?;
        if version.size != size {
            let what = format!("it has {} bytes instead of {size}", version.size);
            return Err(StoreError::damaged(id, what));
        }
        let len = (size - from).min(STEP_BYTES);
        let copied = sys::copy(source.into(), from, target, to, len);
        let copied = copied.map_err(|error| failed(id, "copying a part", error))?;
        if copied < len {
            let what = "its data was truncated while it was copied";
            return Err(StoreError::damaged(id, what));
        }
        Ok(copied)
    }
}
