//! The store as a node reaches it: every call is a request to the one store of all nodes, which carries it out even if
//! the caller no longer waits, or is dead.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use landfall::{
    lease::Fence,
    removal::Removable,
    store::{Append, Capabilities, Finish, Result, Store, StoreError, Terminate},
    upload::{Snapshot, Upload, UploadId},
};
use parking_lot::Mutex;

use crate::{
    settings::Mutant,
    world::{Port, Service, mix},
};

#[derive(Debug, Clone)]
pub(crate) struct RemoteStore(pub(crate) Port);

fn unavailable() -> StoreError {
    StoreError::Unavailable("the store does not answer".into())
}

impl RemoteStore {
    async fn call<T: Send + 'static>(
        &self,
        effect: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        // The store is in memory: it never waits.
        let effect = move || effect.now_or_never().unwrap_or_else(|| Err(unavailable()));
        let result = self.0.call(Service::Store, effect).await;
        result.unwrap_or_else(|| Err(unavailable()))
    }
}

#[async_trait]
impl Store for RemoteStore {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        let store = self.0.world.store.clone();
        self.call(async move { store.create(upload).await }).await
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        let (store, id) = (self.0.world.store.clone(), id.clone());
        self.call(async move { store.load(&id).await }).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        if self.0.world.is_mutant(Mutant::StarvedRequest) && hash(id, 0).is_multiple_of(40) {
            return std::future::pending().await;
        }
        let (store, own) = (self.0.world.store.clone(), id.clone());
        let resumed = self.call(async move { store.resume(&own, fence).await });
        let (snapshot, append) = resumed.await?;
        let append = RemoteAppend {
            store: self.clone(),
            id: id.clone(),
            offset: append.offset(),
            append: Arc::new(Mutex::new(append)),
        };
        Ok((snapshot, Box::new(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        let (store, upload) = (self.0.world.store.clone(), upload.clone());
        self.call(async move { store.save(&upload, fence).await })
            .await
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities {
            terminator: Some(self),
            finisher: Some(self),
            ..Capabilities::default()
        }
    }
}

#[async_trait]
impl Terminate for RemoteStore {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        let (store, upload) = (self.0.world.store.clone(), upload.clone());
        self.call(async move { store.terminate(&upload, fence).await })
            .await
    }

    async fn expire(&self, upload: &Upload, fence: Fence, _: Removable) -> Result<bool> {
        self.terminate(upload, fence).await
    }
}

#[async_trait]
impl Finish for RemoteStore {
    async fn finish(&self, upload: &Upload, fence: Fence) -> Result<Option<String>> {
        let (store, upload) = (self.0.world.store.clone(), upload.clone());
        self.call(async move { store.finish(&upload, fence).await })
            .await
    }
}

#[derive(Debug)]
struct RemoteAppend {
    store: RemoteStore,
    id: UploadId,
    append: Arc<Mutex<Box<dyn Append>>>,
    offset: u64,
}

impl RemoteAppend {
    /// Runs a call on the append in the store.
    async fn change<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut dyn Append) -> Option<Result<T>> + Send + 'static,
    ) -> Result<T> {
        let append = Arc::clone(&self.append);
        let effect = async move {
            let mut append = append.lock();
            let done = call(&mut **append).unwrap_or_else(|| Err(unavailable()));
            done.map(|done| (done, append.offset()))
        };
        let (done, offset) = self.store.call(effect).await?;
        self.offset = offset;
        Ok(done)
    }
}

#[async_trait]
impl Append for RemoteAppend {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        let mut sent = std::mem::take(chunks);
        if self.store.0.world.is_mutant(Mutant::LostBytes)
            && hash(&self.id, self.offset).is_multiple_of(50)
        {
            self.offset += sent.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
            return Ok(());
        }
        self.change(move |append| append.write(&mut sent).now_or_never())
            .await
    }

    async fn commit(&mut self) -> Result<u64> {
        let before = self.offset;
        let offset = self.change(|append| append.commit().now_or_never()).await?;
        let is_mutant = self.store.0.world.is_mutant(Mutant::LostBytes);
        self.offset = if is_mutant { before } else { offset };
        Ok(self.offset)
    }

    async fn begin_unverified(&mut self) -> Result<()> {
        self.change(|append| append.begin_unverified().now_or_never())
            .await
    }

    async fn accept_unverified(&mut self) -> Result<()> {
        self.change(|append| append.accept_unverified().now_or_never())
            .await
    }

    async fn discard_unverified(&mut self) -> Result<()> {
        self.change(|append| append.discard_unverified().now_or_never())
            .await
    }
}

fn hash(id: &UploadId, offset: u64) -> u64 {
    let bytes = id.as_str().bytes();
    bytes.fold(mix(offset), |hash, byte| mix(hash ^ u64::from(byte)))
}
