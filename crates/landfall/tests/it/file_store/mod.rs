//! The file store, in real directories.

mod cleaning;
mod concatenation;
mod confinement;
mod damaged;
mod full;
mod layout;
mod listing;
mod taking;
mod writing;

use std::path::Path;

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{
        Read, Store,
        file::{Durability, FileOptions, FileStore},
    },
    upload::{Snapshot, Upload, UploadId},
};

async fn conforms(options: impl Fn(&mut FileOptions)) {
    let base = tempfile::tempdir().unwrap();
    let next = std::cell::Cell::new(0);
    let report = landfall_testkit::store::conformance(async || {
        let mut chosen = FileOptions::default();
        options(&mut chosen);
        next.set(next.get() + 1);
        FileStore::open(base.path().join(next.get().to_string()), chosen).unwrap()
    })
    .await;
    report.assert_complete();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_durability_none() {
    conforms(|options| options.durability = Durability::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_durability_complete() {
    conforms(|options| options.durability = Durability::Complete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_durability_every() {
    conforms(|options| options.durability = Durability::Every).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_preallocation() {
    conforms(|options| options.preallocate = true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_all_io_on_the_pool() {
    conforms(|options| options.always_on_threads = true).await;
}

fn id(id: &str) -> UploadId {
    UploadId::new(id).unwrap()
}

/// Opens a store that never syncs, which most of these tests do not need.
fn open(dir: &Path) -> FileStore {
    let mut options = FileOptions::default();
    options.durability = Durability::None;
    options.orphan_age = std::time::Duration::ZERO;
    FileStore::open(dir, options).unwrap()
}

/// Creates an upload of known length with its first bytes.
async fn make(store: &FileStore, name: &str, length: usize, bytes: &Bytes) -> Snapshot {
    let upload = Upload::new(id(name), Some(length as u64));
    let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
    append.write(&mut vec![bytes.clone()]).await.unwrap();
    append.commit().await.unwrap();
    store.load(&upload.id).await.unwrap()
}

/// Appends to an upload under the newest possible lease.
async fn append(store: &FileStore, name: &str, bytes: &Bytes) -> Snapshot {
    let upload = store.load(&id(name)).await.unwrap().upload;
    let mut append = store.resume(&upload.id, Fence(u64::MAX)).await.unwrap().1;
    append.write(&mut vec![bytes.clone()]).await.unwrap();
    append.commit().await.unwrap();
    store.load(&upload.id).await.unwrap()
}

async fn read(store: &FileStore, snapshot: &Snapshot) -> Vec<u8> {
    let range = 0..snapshot.offset;
    let mut stream = store.read(&snapshot.upload, range).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}
