//! Crash and power-loss tests of the file store, at every single change it makes on the disk.
//!
//! Each [`Script`] uses a store as an upload server does, and records what a client would have been
//! acknowledged. After a crash, [`check`] opens the directory as a new process, compares it with
//! the acknowledgements, and completes the upload, which must then have the right bytes.

mod crash;
pub(super) mod journal;
mod power;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Durability, FileOptions, FileStore};
use crate::{
    lease::Fence,
    removal::{self, RemovalClock},
    store::{
        ByteStream, Concatenate, DeferLength, Enumerate, Finish, OrphanKind, Read, Store,
        StoreError,
    },
    upload::{Metadata, Upload, UploadId, UploadKind},
};

/// An acknowledgement to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledged {
    Created,
    Length,
    /// This many bytes are stored.
    Offset(u64),
    Complete,
}

/// The lengths of the chunks a client sends.
const CHUNK_LENGTHS: [usize; 4] = [5_000, 300, 70_000, 9_001];
const TOTAL: usize = 5_000 + 300 + 70_000 + 9_001;

/// Returns the bytes of an upload; adjacent bytes differ.
fn content() -> Bytes {
    (0..TOTAL).map(|n| (n * 31 % 251) as u8).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Creation with upload, then PATCHes with and without a checksum, one of them wrong.
    Patches,
    /// A path chosen by a hook, a deferred length, a new process for each chunk.
    Placed,
    /// Two partial uploads, concatenated.
    Concatenated,
    /// Two uploads whose completion nothing tracks: a creation, then a PATCH; a creation with all bytes.
    Untracked,
}

impl Script {
    const ALL: [Self; 4] = [
        Self::Patches,
        Self::Placed,
        Self::Concatenated,
        Self::Untracked,
    ];

    fn id(self) -> UploadId {
        UploadId::new(match self {
            Self::Patches => "a/deep/patches",
            Self::Placed => "placed",
            Self::Concatenated => "b/concatenated",
            Self::Untracked => "untracked",
        })
        .unwrap()
    }

    async fn run(self, dir: &Path, durability: Durability, ack: &dyn Fn(Acknowledged)) {
        let store = open(dir, durability);
        match self {
            Self::Patches => patches(&store, self.id(), ack).await,
            Self::Placed => placed(dir, durability, self.id(), ack).await,
            Self::Concatenated => concatenated(&store, self.id(), ack).await,
            Self::Untracked => untracked(&store, self.id(), ack).await,
        }
    }
}

fn open(dir: &Path, durability: Durability) -> FileStore {
    let options = FileOptions {
        durability,
        orphan_age: Duration::ZERO,
        ..FileOptions::default()
    };
    FileStore::open(dir, options).unwrap()
}

async fn patches(store: &FileStore, id: UploadId, ack: &dyn Fn(Acknowledged)) {
    let content = content();
    let [first, second, third, fourth] = CHUNK_LENGTHS;
    let mut upload = Upload::new(id, Some(TOTAL as u64));
    upload.metadata = Metadata::from_header("filename YS5wbmc=,empty ").unwrap();
    let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
    append
        .write(&mut vec![content.slice(..first)])
        .await
        .unwrap();
    let offset = append.commit().await.unwrap();
    ack(Acknowledged::Created);
    ack(Acknowledged::Offset(offset));

    // A chunk with a wrong checksum in two writes, and then the right one.
    append.begin_unverified().await.unwrap();
    append
        .write(&mut vec![Bytes::from(vec![0xff; 100])])
        .await
        .unwrap();
    append
        .write(&mut vec![Bytes::from(vec![0xff; 200])])
        .await
        .unwrap();
    append.discard_unverified().await.unwrap();
    assert_eq!(append.offset(), offset);
    append.begin_unverified().await.unwrap();
    append
        .write(&mut vec![content.slice(first..first + second)])
        .await
        .unwrap();
    append.accept_unverified().await.unwrap();
    ack(Acknowledged::Offset(append.commit().await.unwrap()));
    drop(append);

    // An aborted chunk, and the chunk after it.
    let upload = store.load(&upload.id).await.unwrap().upload;
    let mut append = store.resume(&upload.id, Fence(2)).await.unwrap().1;
    append.begin_unverified().await.unwrap();
    append
        .write(&mut vec![Bytes::from(vec![0xee; 5_000])])
        .await
        .unwrap();
    drop(append);
    let snapshot = store.load(&upload.id).await.unwrap();
    assert_eq!(snapshot.offset, (first + second) as u64);
    let mut append = store.resume(&upload.id, Fence(3)).await.unwrap().1;
    let pieces = content.slice(first + second..first + second + third);
    append
        .write(&mut pieces.chunks(999).map(Bytes::copy_from_slice).collect())
        .await
        .unwrap();
    ack(Acknowledged::Offset(append.commit().await.unwrap()));
    append
        .write(&mut vec![content.slice(TOTAL - fourth..)])
        .await
        .unwrap();
    append.commit().await.unwrap();
    complete(store, &upload, Fence(3), ack).await;
}

async fn placed(dir: &Path, durability: Durability, id: UploadId, ack: &dyn Fn(Acknowledged)) {
    let content = content();
    let mut upload = Upload::new(id.clone(), None);
    upload
        .storage
        .insert("Path".into(), "else/where/file.bin".into());
    open(dir, durability).create(upload).await.unwrap();
    ack(Acknowledged::Created);
    let mut offset = 0;
    for (n, len) in CHUNK_LENGTHS.into_iter().enumerate() {
        let store = open(dir, durability);
        let fence = Fence(n as u64);
        let snapshot = store.load(&id).await.unwrap();
        assert_eq!(snapshot.offset, offset as u64);
        let mut upload = snapshot.upload;
        if n == 2 {
            upload = store
                .declare_length(&upload, TOTAL as u64, fence)
                .await
                .unwrap();
            ack(Acknowledged::Length);
        }
        let mut append = store.resume(&upload.id, fence).await.unwrap().1;
        append
            .write(&mut vec![content.slice(offset..offset + len)])
            .await
            .unwrap();
        offset += len;
        ack(Acknowledged::Offset(append.commit().await.unwrap()));
        if offset == TOTAL {
            complete(&store, &upload, fence, ack).await;
        }
    }
}

async fn concatenated(store: &FileStore, id: UploadId, ack: &dyn Fn(Acknowledged)) {
    let content = content();
    let mut parts = Vec::new();
    for (name, bytes) in [
        ("b/one", content.slice(..40_000)),
        ("b/two", content.slice(40_000..)),
    ] {
        let mut upload = Upload::new(UploadId::new(name).unwrap(), Some(bytes.len() as u64));
        upload.kind = UploadKind::Partial;
        let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
        append.write(&mut vec![bytes]).await.unwrap();
        append.commit().await.unwrap();
        store.finish(&upload, Fence(1)).await.unwrap();
        parts.push(upload);
    }
    let mut upload = Upload::new(id, Some(TOTAL as u64));
    upload.kind = UploadKind::Final {
        parts: parts.iter().map(|part| part.id.clone()).collect(),
        header: "final;/files/b/one /files/b/two".into(),
        concatenated: false,
    };
    let mut upload = (*store.create(upload).await.unwrap()).clone();
    store.concatenate(&upload, &parts, Fence(1)).await.unwrap();
    if let UploadKind::Final { concatenated, .. } = &mut upload.kind {
        *concatenated = true;
    }
    store.save(&upload, Fence(1)).await.unwrap();
    ack(Acknowledged::Created);
    ack(Acknowledged::Complete);
}

async fn untracked(store: &FileStore, id: UploadId, ack: &dyn Fn(Acknowledged)) {
    let content = content();
    let upload = Upload::new(UploadId::new("patched").unwrap(), Some(TOTAL as u64));
    let patched = store.create(upload).await.unwrap();
    let mut append = store.resume(&patched.id, Fence(1)).await.unwrap().1;
    append.write(&mut vec![content.clone()]).await.unwrap();
    append.commit().await.unwrap();
    drop(append);
    store.finish(&patched, Fence(1)).await.unwrap();

    let upload = Upload::new(id, Some(TOTAL as u64));
    let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
    for bytes in [content.slice(..9_000), content.slice(9_000..)] {
        append.write(&mut vec![bytes]).await.unwrap();
    }
    append.commit().await.unwrap();
    drop(append);
    store.finish(&upload, Fence(1)).await.unwrap();
    ack(Acknowledged::Created);
    ack(Acknowledged::Complete);
    assert!(
        store
            .load(&patched.id)
            .await
            .unwrap()
            .upload
            .completion
            .is_done()
    );
}

/// Completes an upload as the engine does.
async fn complete(store: &FileStore, upload: &Upload, fence: Fence, ack: &dyn Fn(Acknowledged)) {
    store.finish(upload, fence).await.unwrap();
    ack(Acknowledged::Complete);
    let mut upload = upload.clone();
    upload.completion = crate::upload::Completion::Done(None);
    store.save(&upload, fence).await.unwrap();
}

/// Compares a directory with the acknowledgements, then completes the upload.
async fn check(script: Script, dir: &Path, acknowledged: &[Acknowledged]) {
    let store = open(dir, Durability::None);
    let content = content();
    let id = script.id();
    let snapshot = match store.load(&id).await {
        Ok(snapshot) => snapshot,
        Err(StoreError::NotFound(_)) if !acknowledged.contains(&Acknowledged::Created) => {
            return check_interrupted_creation(&store, id).await;
        }
        Err(error) => panic!("acknowledged {acknowledged:?}: {error}"),
    };
    let complete = acknowledged.contains(&Acknowledged::Complete);
    if complete {
        assert!(
            snapshot.is_complete(),
            "acknowledged {acknowledged:?}: {snapshot:?}"
        );
    }
    if acknowledged.contains(&Acknowledged::Length) {
        assert_eq!(
            snapshot.upload.length,
            Some(TOTAL as u64),
            "acknowledged {acknowledged:?}"
        );
    }
    for acknowledged in acknowledged {
        if let Acknowledged::Offset(offset) = acknowledged {
            assert!(
                snapshot.offset >= *offset,
                "acknowledged {acknowledged:?}: {snapshot:?}"
            );
        }
    }
    if !snapshot.upload.is_concatenated() {
        return; // Its bytes don't count; it is concatenated again, or removed.
    }
    let expected = &content[..usize::try_from(snapshot.offset).unwrap()];
    let kept = read(&store, &snapshot.upload, snapshot.offset).await;
    assert!(
        kept == expected,
        "acknowledged {acknowledged:?}: other bytes"
    );
    if snapshot.is_complete() {
        return;
    }
    assert_ne!(
        script,
        Script::Concatenated,
        "acknowledged {acknowledged:?}: concatenated, but {snapshot:?}"
    );
    let mut upload = snapshot.upload;
    if upload.length.is_none() {
        upload = store
            .declare_length(&upload, TOTAL as u64, Fence(9))
            .await
            .unwrap();
    }
    let mut append = store.resume(&upload.id, Fence(9)).await.unwrap().1;
    assert_eq!(append.offset(), snapshot.offset);
    append
        .write(&mut vec![content.slice(expected.len()..)])
        .await
        .unwrap();
    assert_eq!(append.commit().await.unwrap(), TOTAL as u64);
    store.finish(&upload, Fence(9)).await.unwrap();
    assert!(store.load(&id).await.unwrap().is_complete());
    let kept = read(&store, &upload, TOTAL as u64).await;
    assert!(
        kept == content,
        "acknowledged {acknowledged:?}: other bytes at the end"
    );
}

/// Checks that an interrupted creation leaves nothing that keeps its id from being used again, but files with
/// bytes or without a proof of their owner, which are only reported.
async fn check_interrupted_creation(store: &FileStore, id: UploadId) {
    let page = store.page(None, 100).await.unwrap();
    for orphan in &page.orphans {
        let now = RemovalClock::new().now();
        if let Ok(permission) =
            removal::Removable::orphan(orphan.kind, orphan.modified, Duration::ZERO, now)
        {
            store.remove_orphan(orphan, permission).await.unwrap();
        }
        let path = store.dir().join(&orphan.name);
        let is_kept = orphan.kind == OrphanKind::Unproven;
        assert_eq!(path.exists(), is_kept, "{orphan:?}");
        if is_kept && orphan.size > 0 {
            std::fs::remove_file(path).unwrap();
        }
    }
    for damaged in page.damaged {
        let info = format!("{}.info", damaged.id);
        for name in [damaged.id.as_str(), &info] {
            let _ = std::fs::remove_file(store.dir().join(name));
        }
    }
    store.create(Upload::new(id, Some(1))).await.unwrap();
}

async fn read(store: &FileStore, upload: &Arc<Upload>, offset: u64) -> Vec<u8> {
    let mut stream: ByteStream = store.read(upload, 0..offset).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}
