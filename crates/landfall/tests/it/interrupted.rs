//! A store with a write that was interrupted, whose bytes it may lose again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use landfall::{
    Config, Handler,
    lease::{Fence, Locker},
    store::{Append, MemoryStore, Result, Store},
    upload::{Snapshot, Upload, UploadId},
};

/// Until a writer resumes it, an upload has one byte that the store may lose.
#[derive(Debug, Clone)]
struct Interrupted {
    inner: MemoryStore,
    is_settled: Arc<AtomicBool>,
}

#[async_trait]
impl Store for Interrupted {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        self.inner.create(upload).await
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        let mut found = self.inner.load(id).await?;
        found.is_settled = self.is_settled.load(Ordering::SeqCst);
        if !found.is_settled {
            found.offset += 1;
        }
        Ok(found)
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        self.is_settled.store(true, Ordering::SeqCst);
        self.inner.resume(id, fence).await
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        self.inner.save(upload, fence).await
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        self.inner.locker()
    }
}

#[tokio::test]
async fn clients_see_the_offset_that_a_writer_has_settled() {
    let store = Interrupted {
        inner: MemoryStore::new(),
        is_settled: Arc::default(),
    };
    let id = UploadId::random();
    let upload = Upload::new(id.clone(), Some(5));
    store.create(upload).await.unwrap();
    let locker = store.locker().unwrap();
    let uploads = Handler::new(Config::new(store)).unwrap();
    let head = async || {
        let request = Request::head("/").header("Tus-Resumable", "1.0.0");
        let request = request.body(Full::new(Bytes::new())).unwrap();
        uploads.inspect(id.as_str(), request).await
    };

    let lease = locker.try_acquire(&id).await.unwrap();
    assert_eq!(head().await.status(), StatusCode::LOCKED, "has a writer");
    drop(lease);
    for _ in 0..2 {
        assert_eq!(head().await.headers()["upload-offset"], "0");
    }
}
