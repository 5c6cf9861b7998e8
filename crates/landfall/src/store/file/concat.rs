//! Concatenation of uploads.
//!
//! Avoids a second copy where the file system can. The first part shares all its blocks with the
//! target (`FICLONE`). The others use `copy_file_range`, which shares aligned blocks and copies the
//! rest within the kernel. Elsewhere the bytes are read and written. All of it runs on the blocking
//! pool, in steps of bounded size and with bounded concurrency.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use async_trait::async_trait;

use super::{
    Durability, FileStore, Inner,
    cache::{WriterEpoch, WriterState},
    files::failed,
    io_pool::StepKind,
    sys,
};
use crate::{
    lease::Fence,
    store::{Concatenate, Result, StoreError},
    upload::{Upload, UploadId},
};

const STEP_BYTES: u64 = 64 * 1024 * 1024;
const BUFFER_BYTES: usize = 1024 * 1024;
/// Later parts are checked, closed, and opened again for their copy.
const MAX_OPEN_PARTS: usize = 128;

struct Part {
    id: UploadId,
    data_path: Arc<str>,
    size: u64,
    file: Option<OwnedFd>,
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
                let data_path = inner.data_path(&id)?;
                let (data, _) = inner.open_data(&id, &data_path)?;
                let parts = inner.open_parts(parts)?;
                sys::truncate(data.as_fd(), 0)
                    .map_err(|error| failed(&id, "truncating the data", error))?;
                Ok((epoch, data_path, Arc::new(data), parts))
            }
        };
        let (epoch, data_path, data, parts) =
            inner.io.run_locked(&entry, StepKind::Long, step).await?;
        let copy = Copy {
            id: id.clone(),
            data: Arc::clone(&data),
            fence,
            epoch,
        };
        let mut sum = 0;
        for part in parts {
            let part = Arc::new(part);
            let mut done = 0;
            while done < part.size {
                let (inner, part, copy) = (Arc::clone(inner), Arc::clone(&part), copy.clone());
                let step = move |state: &mut WriterState| {
                    copy.step(state, &inner, &part, done, sum + done)
                };
                match self.0.io.run_locked(&entry, StepKind::Long, step).await {
                    Ok(count) => done += count,
                    Err(error) => {
                        let empty = move |_: &mut WriterState| Ok(sys::truncate(data.as_fd(), 0));
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
        Ok(sum)
    }
}

impl Inner {
    fn open_parts(&self, ids: Vec<UploadId>) -> Result<Vec<Part>> {
        let mut parts = Vec::with_capacity(ids.len());
        for (n, id) in ids.into_iter().enumerate() {
            let state = self.inspect(&id)?;
            let data_path = state.record.data_path.clone();
            let file = self.open_part(&id, &data_path, state.offset)?;
            parts.push(Part {
                id,
                data_path,
                size: state.offset,
                file: (n < MAX_OPEN_PARTS).then_some(file),
            });
        }
        Ok(parts)
    }

    fn open_part(&self, id: &UploadId, data_path: &str, size: u64) -> Result<OwnedFd> {
        let opened = self.open_versioned(data_path, sys::open_read);
        let (file, version) = opened.map_err(|error| failed(id, "opening a part", error))?;
        if !version.is_file || version.size != size {
            let what = format!("it has {} bytes instead of {size}", version.size);
            return Err(StoreError::damaged(id, what));
        }
        Ok(file)
    }
}

#[derive(Clone)]
struct Copy {
    id: UploadId,
    data: Arc<OwnedFd>,
    fence: Fence,
    epoch: WriterEpoch,
}

impl Copy {
    fn step(
        &self,
        state: &mut WriterState,
        inner: &Inner,
        part: &Part,
        from: u64,
        to: u64,
    ) -> Result<u64> {
        state.check_epoch(&self.id, self.fence, self.epoch)?;
        let opened;
        let source = match &part.file {
            Some(file) => file.as_fd(),
            None => {
                opened = inner.open_part(&part.id, &part.data_path, part.size)?;
                opened.as_fd()
            }
        };
        let target = self.data.as_fd();
        if from == 0 && to == 0 && sys::share(target, source) {
            return Ok(part.size);
        }
        let len = (part.size - from).min(STEP_BYTES);
        let fail = |error| failed(&self.id, "concatenating the parts", error);
        let short = || StoreError::damaged(&part.id, "its data was truncated while it was copied");
        let count = usize::try_from(len).unwrap_or(BUFFER_BYTES);
        if let Some(copied) = sys::copy_range(source, from, target, to, count).map_err(fail)? {
            return Ok(copied as u64);
        }
        let mut buffer = vec![0; BUFFER_BYTES.min(count)];
        let mut done = 0;
        while done < len {
            let want = usize::try_from(len - done)
                .unwrap_or(BUFFER_BYTES)
                .min(BUFFER_BYTES);
            let read = sys::read_at(source, &mut buffer[..want], from + done).map_err(fail)?;
            if read == 0 {
                return Err(short());
            }
            sys::write_from(target, &buffer[..read], to + done).map_err(fail)?;
            done += read as u64;
        }
        Ok(done)
    }
}
