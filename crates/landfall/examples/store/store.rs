//! A store written from nothing, with the core and two capabilities: reading and removal.

use std::{collections::HashMap, ops::Range, sync::Arc, time::SystemTime};

use landfall::store::{
    Append, ByteStream, Capabilities, Read, Result, Store, StoreError, Terminate,
};
use landfall::upload::{Snapshot, Upload, UploadId as Id};
use landfall::{async_trait, bytes::Bytes, lease::Fence};
use tokio::sync::Mutex;

/// Uploads in a hash map.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnStore(Arc<Mutex<HashMap<Id, Entry>>>);

#[derive(Debug)]
struct Entry {
    now: Snapshot,
    bytes: Vec<u8>,
    /// The newest lease that changed it.
    newest: Fence,
}

impl OwnStore {
    async fn with<T>(&self, id: &Id, work: impl FnOnce(&mut Entry) -> T) -> Result<T> {
        let found = self.0.lock().await.get_mut(id).map(work);
        found.ok_or_else(|| StoreError::NotFound(id.clone()))
    }

    /// Changes an upload, unless a newer lease has done so, and returns it.
    async fn change(&self, id: &Id, fence: Fence, by: impl FnOnce(&mut Entry)) -> Result<Snapshot> {
        let change = |kept: &mut Entry| {
            if fence < kept.newest {
                return Err(StoreError::LeaseLost(id.clone()));
            }
            by(kept);
            kept.newest = fence;
            if kept.now.offset != kept.bytes.len() as u64 {
                kept.now.offset = kept.bytes.len() as u64;
                kept.now.modified = SystemTime::now();
            }
            Ok(kept.now.clone())
        };
        self.with(id, change).await?
    }
}

#[async_trait]
impl Store for OwnStore {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        let (id, upload) = (upload.id.clone(), Arc::new(upload));
        let mut all = self.0.lock().await;
        if all.contains_key(&id) {
            return Err(StoreError::AlreadyExists(id));
        }
        let now = Snapshot::new(upload.clone(), 0, SystemTime::now());
        let (bytes, newest) = (Vec::new(), Fence(0));
        all.insert(id, Entry { now, bytes, newest });
        Ok(upload)
    }

    async fn load(&self, id: &Id) -> Result<Snapshot> {
        self.with(id, |kept| kept.now.clone()).await
    }

    async fn resume(&self, id: &Id, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        // One act: the append begins where the snapshot says.
        let snapshot = self.change(id, fence, |_| ()).await?;
        let append = OwnAppend {
            store: self.clone(),
            id: id.clone(),
            fence,
            kept: snapshot.offset,
            sure: snapshot.offset,
            held: None,
        };
        Ok((snapshot, Box::new(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        let new = Arc::new(upload.clone());
        let saved = self.change(&upload.id, fence, |kept| kept.now.upload = new);
        saved.await.map(drop)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities {
            reader: Some(self),
            terminator: Some(self),
            ..Capabilities::default()
        }
    }
}

#[derive(Debug)]
struct OwnAppend {
    store: OwnStore,
    id: Id,
    fence: Fence,
    kept: u64,
    /// The offset that `discard_unverified` restores.
    sure: u64,
    /// Unverified bytes, discarded on drop.
    held: Option<Vec<u8>>,
}

impl OwnAppend {
    async fn change(&mut self, by: impl FnOnce(&mut Entry)) -> Result<()> {
        self.kept = self.store.change(&self.id, self.fence, by).await?.offset;
        Ok(())
    }
}

#[async_trait]
impl Append for OwnAppend {
    fn offset(&self) -> u64 {
        self.kept + self.held.as_ref().map_or(0, |held| held.len() as u64)
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        let new = std::mem::take(chunks).concat();
        match &mut self.held {
            Some(held) => held.extend(new),
            None => self.change(|kept| kept.bytes.extend(new)).await?,
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<u64> {
        self.change(|_| ()).await.map(|()| self.kept)
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        (self.held, self.sure) = (Some(Vec::new()), self.kept);
        Ok(())
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        let held = self.held.take().unwrap_or_default();
        self.change(|kept| kept.bytes.extend(held)).await?;
        self.sure = self.kept;
        Ok(())
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        let sure = self.sure as usize;
        self.held = None;
        self.change(|kept| kept.bytes.truncate(sure)).await
    }
}

#[async_trait]
impl Read for OwnStore {
    async fn read(&self, upload: &Upload, range: Range<u64>) -> Result<ByteStream> {
        let range = range.start as usize..range.end as usize;
        let copy = |kept: &mut Entry| Bytes::copy_from_slice(&kept.bytes[range]);
        let piece = self.with(&upload.id, copy).await;
        Ok(Box::pin(futures_util::stream::iter([Ok(piece?)])))
    }
}

#[async_trait]
impl Terminate for OwnStore {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        match self.change(&upload.id, fence, |_| ()).await {
            Err(error @ StoreError::LeaseLost(_)) => Err(error),
            _ => Ok(self.0.lock().await.remove(&upload.id).is_some()),
        }
    }
}
