//! Joining uploads.
//!
//! Without a second copy where the file system can: the first part by sharing all its blocks
//! (`FICLONE`), the others by `copy_file_range`, which shares blocks as far as they are aligned and
//! copies within the kernel otherwise; elsewhere by reading and writing. It runs on threads, in steps
//! of bounded size, a few at a time, so that other uploads go on meanwhile.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use async_trait::async_trait;

use super::{
    Durability, FileStore, Inner,
    files::failed,
    slots::{Gate, Turn},
    sys,
};
use crate::{
    lease::Fence,
    store::{Concatenate, Result, StoreError},
    upload::{Upload, UploadId},
};

/// The most bytes copied in one step.
const STEP: u64 = 64 * 1024 * 1024;
/// The buffer of a copy by reading and writing.
const BUFFER: usize = 1024 * 1024;
/// How many parts are kept open from the beginning on; the rest is only looked at, and opened again
/// when its turn comes.
const OPEN: usize = 128;

struct Part {
    id: UploadId,
    place: String,
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
        let slot = inner.slots.get(id);
        let step = {
            let (inner, id) = (Arc::clone(inner), id.clone());
            let parts: Vec<_> = parts.iter().map(|part| part.id.clone()).collect();
            move |gate: &mut Gate| {
                let turn = gate.begin(&id, fence)?;
                let place = inner.place(&id)?;
                let (data, _) = inner.open_data(&id, &place)?;
                let parts = inner.open_parts(parts)?;
                sys::truncate(data.as_fd(), 0)
                    .map_err(|error| failed(&id, "emptying the data", error))?;
                Ok((turn, place, Arc::new(data), parts))
            }
        };
        let (turn, place, data, parts) = inner.steps.gated_long(&slot, step).await?;
        let copy = Copy {
            id: id.clone(),
            data: Arc::clone(&data),
            fence,
            turn,
        };
        let mut sum = 0;
        for part in parts {
            let part = Arc::new(part);
            let mut done = 0;
            while done < part.size {
                let (inner, part, copy) = (Arc::clone(inner), Arc::clone(&part), copy.clone());
                let step = move |gate: &mut Gate| copy.step(gate, &inner, &part, done, sum + done);
                match self.0.steps.gated_long(&slot, step).await {
                    Ok(count) => done += count,
                    Err(error) => {
                        let empty = move |_: &mut Gate| Ok(sys::truncate(data.as_fd(), 0));
                        if !matches!(error, StoreError::LeaseLost(_)) {
                            let _ = self.0.steps.gated_long(&slot, empty).await?;
                        }
                        return Err(error);
                    }
                }
            }
            sum += part.size;
        }
        if inner.options.durability != Durability::None {
            inner.settle(id, &place).await?;
        }
        Ok(sum)
    }
}

impl Inner {
    fn open_parts(&self, ids: Vec<UploadId>) -> Result<Vec<Part>> {
        let mut parts = Vec::with_capacity(ids.len());
        for (n, id) in ids.into_iter().enumerate() {
            let look = self.look(&id)?;
            let place = look.record.place.clone();
            let file = self.open_part(&id, &place, look.offset)?;
            parts.push(Part {
                id,
                place,
                size: look.offset,
                file: (n < OPEN).then_some(file),
            });
        }
        Ok(parts)
    }

    fn open_part(&self, id: &UploadId, place: &str, size: u64) -> Result<OwnedFd> {
        let open = || {
            let (dir, name) = self.root.parent(place)?;
            let file = sys::open_read(dir.as_fd(), name)?;
            let stamp = sys::stat_open(file.as_fd())?;
            Ok((file, stamp))
        };
        let (file, stamp) = open().map_err(|error| failed(id, "opening a part", error))?;
        if !stamp.is_file() || stamp.size != size {
            let what = format!("it should have {size} bytes and has {}", stamp.size);
            return Err(StoreError::Damaged {
                id: id.clone(),
                what,
            });
        }
        Ok(file)
    }
}

#[derive(Clone)]
struct Copy {
    id: UploadId,
    data: Arc<OwnedFd>,
    fence: Fence,
    turn: Turn,
}

impl Copy {
    /// Copies some bytes of a part from `from` on to `to`, and returns how many.
    fn step(&self, gate: &mut Gate, inner: &Inner, part: &Part, from: u64, to: u64) -> Result<u64> {
        gate.go_on(&self.id, self.fence, self.turn)?;
        let opened;
        let source = match &part.file {
            Some(file) => file.as_fd(),
            None => {
                opened = inner.open_part(&part.id, &part.place, part.size)?;
                opened.as_fd()
            }
        };
        let target = self.data.as_fd();
        if from == 0 && to == 0 && sys::share(target, source) {
            return Ok(part.size);
        }
        let len = (part.size - from).min(STEP);
        let fail = |error| failed(&self.id, "joining the parts", error);
        let short = || StoreError::Damaged {
            id: part.id.clone(),
            what: "its data became shorter while it was copied".into(),
        };
        let count = usize::try_from(len).unwrap_or(BUFFER);
        if let Some(copied) = sys::copy_range(source, from, target, to, count).map_err(fail)? {
            return Ok(copied as u64);
        }
        let mut buffer = vec![0; BUFFER.min(count)];
        let mut done = 0;
        while done < len {
            let want = usize::try_from(len - done).unwrap_or(BUFFER).min(BUFFER);
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
