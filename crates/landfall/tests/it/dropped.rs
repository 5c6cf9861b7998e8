//! Requests that are dropped during slow writes: by an HTTP/2 stream reset, or by a timeout around the
//! handler.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use landfall::{
    Composer, Config,
    lease::{Fence, Locker},
    store::{
        Append, Capabilities, Result, Store,
        file::{FileOptions, FileStore},
    },
    upload::{Snapshot, Upload, UploadId},
};
use landfall_test_services::until;
use tokio::{
    net::TcpStream,
    sync::{Mutex, Semaphore},
};
use tower_service::Service as _;

use crate::harness::{DATA, Site};

const LENGTH: usize = 900_000;

fn bytes() -> String {
    (0..LENGTH / 9).map(|n| format!("{n:08} ")).collect()
}

/// A file store whose disk writes only on command; a write outlives its request.
#[derive(Clone)]
struct SlowStore {
    inner: FileStore,
    /// A permit for each write.
    disk: Arc<Semaphore>,
    /// Held during a write.
    gate: Arc<Mutex<()>>,
    writing: Arc<AtomicUsize>,
    resuming: Arc<AtomicUsize>,
}

impl fmt::Debug for SlowStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlowStore")
    }
}

#[async_trait]
impl Store for SlowStore {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        self.inner.create(upload).await
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.inner.load(id).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        self.resuming.fetch_add(1, Ordering::SeqCst);
        let _gate = self.gate.lock().await;
        let (snapshot, inner) = self.inner.resume(id, fence).await?;
        let append = SlowAppend {
            offset: inner.offset(),
            inner: Arc::new(Mutex::new(inner)),
            store: self.clone(),
        };
        Ok((snapshot, Box::new(append)))
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        self.inner.save(upload, fence).await
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let inner = self.inner.capabilities();
        Capabilities {
            reader: inner.reader,
            ..Capabilities::default()
        }
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        self.inner.locker()
    }
}

#[derive(Debug)]
struct SlowAppend {
    inner: Arc<Mutex<Box<dyn Append>>>,
    offset: u64,
    store: SlowStore,
}

#[async_trait]
impl Append for SlowAppend {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<()> {
        let gate = Arc::clone(&self.store.gate).lock_owned().await;
        let (store, inner) = (self.store.clone(), Arc::clone(&self.inner));
        let mut taken = std::mem::take(chunks);
        store.writing.fetch_add(1, Ordering::SeqCst);
        let written = tokio::spawn(async move {
            let _gate = gate;
            store.disk.acquire().await.unwrap().forget();
            let mut inner = inner.lock().await;
            let written = inner.write(&mut taken).await;
            (inner.offset(), written)
        });
        let (offset, written) = written.await.unwrap();
        self.offset = offset;
        written
    }

    async fn commit(&mut self) -> Result<u64> {
        self.inner.lock().await.commit().await
    }
    async fn begin_unverified(&mut self) -> Result<()> {
        self.inner.lock().await.begin_unverified().await
    }
    async fn accept_unverified(&mut self) -> Result<()> {
        self.inner.lock().await.accept_unverified().await
    }
    async fn discard_unverified(&mut self) -> Result<()> {
        self.inner.lock().await.discard_unverified().await
    }
}

/// Drops a request during its first write, starts the next one before that write ends, and resumes at
/// the offset of the response, like a client.
async fn dropped_and_continued(drop_request: impl AsyncFn(&Site, &SlowStore, &str)) {
    let dir = tempfile::tempdir().unwrap();
    let store = slow_store(&dir);
    let site = Site::start(Config::new(Composer::join(store.clone())), Some(dir)).await;
    let path = site.create(LENGTH as u64).await;
    drop_request(&site, &store, &path).await;
    assert_eq!(site.offset(&path).await, 0, "nothing is written yet");

    let bytes = bytes();
    let next = site.patching(&path, 0).body(&bytes).send();
    let let_go = async {
        until(async || store.resuming.load(Ordering::SeqCst) >= 2).await;
        store.disk.add_permits(1000);
    };
    let (reply, ()) = tokio::join!(next, let_go);
    assert_ne!(reply.status, 204, "other bytes came before these");
    for _ in 0..50 {
        let offset = site.offset(&path).await;
        assert!(offset > 0, "the dropped write has ended");
        let rest = &bytes[offset as usize..];
        if rest.is_empty() {
            break;
        }
        site.patch(&path, offset, rest).await.expect(204);
    }
    assert!(
        site.bytes(&path).await == bytes,
        "not the bytes that were sent"
    );
}

/// Its client may have disconnected: all that it sent is received before HEAD reports the offset.
#[tokio::test]
async fn head_waits_for_a_request_that_starts() {
    let dir = tempfile::tempdir().unwrap();
    let store = slow_store(&dir);
    store.disk.add_permits(10);
    let site = Site::start(Config::new(Composer::join(store.clone())), Some(dir)).await;
    let path = site.create(100).await;
    let gate = store.gate.lock().await;
    let patch = site.patching(&path, 0).body("0123456789").send();
    let head = async {
        until(async || store.resuming.load(Ordering::SeqCst) >= 1).await;
        tokio::join!(site.offset(&path), async {
            // As long as a store takes that limits writes of an object to one a second.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            drop(gate);
        })
    };
    let (reply, (offset, ())) = tokio::join!(patch, head);
    assert_eq!((reply.status, offset), (204, 10));
}

fn slow_store(dir: &tempfile::TempDir) -> SlowStore {
    SlowStore {
        inner: FileStore::open(dir.path(), FileOptions::default()).unwrap(),
        disk: Arc::new(Semaphore::new(0)),
        gate: Arc::default(),
        writing: Arc::default(),
        resuming: Arc::default(),
    }
}

fn patch(site: &Site, path: &str) -> Request<Full<Bytes>> {
    Request::patch(format!("http://{}{path}", site.address))
        .header("Tus-Resumable", "1.0.0")
        .header("Content-Type", DATA)
        .header("Upload-Offset", "0")
        .body(Full::new(Bytes::from(bytes())))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_http_2_stream_leaves_the_bytes_right() {
    dropped_and_continued(async |site, store, path| {
        let stream = TcpStream::connect(site.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = tokio::spawn(sender.send_request(patch(site, path)));
        until(async || store.writing.load(Ordering::SeqCst) >= 1).await;
        // RST_STREAM; the connection stays.
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        std::mem::forget(sender);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timed_out_handler_leaves_the_bytes_right() {
    dropped_and_continued(async |site, store, path| {
        let mut handler = site.handler.clone();
        let mut answer = handler.call(patch(site, path));
        // Like a timeout around the handler.
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(_) => panic!("the disk is slow"),
            Poll::Pending if store.writing.load(Ordering::SeqCst) == 0 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(()),
        })
        .await;
        drop(answer);
    })
    .await;
}
