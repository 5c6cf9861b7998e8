//! Proofs that the file store keeps its promises: the process is killed, and the power cut, at every
//! single change it makes on the disk.
//!
//! Each [`Script`] does to a store what an upload server does, and tells what a client would have
//! been told. Whatever happened then, [`check`] opens what is left as a new process would, compares
//! it with what was told, goes on from there, and must end with the right bytes.

mod crash;
pub(super) mod journal;
mod power;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Durability, FileOptions, FileStore};
use crate::{
    lease::Fence,
    store::{ByteStream, Concatenate, DeferLength, Enumerate, Finish, Read, Store, StoreError},
    upload::{Completion, Metadata, Upload, UploadId, UploadKind},
};

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The upload exists.
    Created,
    /// Its length is known from now on.
    Length,
    /// So many bytes are kept.
    Offset(u64),
    /// All bytes are kept.
    Complete,
}

/// The lengths of the pieces a client sends.
const PIECES: [usize; 4] = [5_000, 300, 70_000, 9_001];
const TOTAL: usize = 5_000 + 300 + 70_000 + 9_001;

/// All the bytes of an upload, none like its neighbours.
fn content() -> Bytes {
    (0..TOTAL).map(|n| (n * 31 % 251) as u8).collect()
}

/// What is done to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Creation with the first bytes, PATCHes with and without a checksum, one of them wrong.
    Patches,
    /// A place chosen by a hook, the length told late, a new process for each piece.
    Placed,
    /// Two partial uploads joined.
    Joined,
}

impl Script {
    const ALL: [Self; 3] = [Self::Patches, Self::Placed, Self::Joined];

    fn id(self) -> UploadId {
        UploadId::new(match self {
            Self::Patches => "a/deep/patches",
            Self::Placed => "placed",
            Self::Joined => "b/joined",
        })
        .unwrap()
    }

    async fn run(self, dir: &Path, durability: Durability, tell: &dyn Fn(Told)) {
        let store = open(dir, durability);
        match self {
            Self::Patches => patches(&store, self.id(), tell).await,
            Self::Placed => placed(dir, durability, self.id(), tell).await,
            Self::Joined => joined(&store, self.id(), tell).await,
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

async fn patches(store: &FileStore, id: UploadId, tell: &dyn Fn(Told)) {
    let content = content();
    let [first, second, third, fourth] = PIECES;
    let mut upload = Upload::new(id, Some(TOTAL as u64));
    upload.metadata = Metadata::from_header("filename YS5wbmc=,empty ").unwrap();
    let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
    append
        .write(&mut vec![content.slice(..first)])
        .await
        .unwrap();
    let offset = append.commit().await.unwrap();
    tell(Told::Created);
    tell(Told::Offset(offset));

    // A chunk whose checksum is wrong, in two writes, and then the right one.
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
    tell(Told::Offset(append.commit().await.unwrap()));
    drop(append);

    // A chunk that never ends, and what comes after it.
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
    tell(Told::Offset(append.commit().await.unwrap()));
    append
        .write(&mut vec![content.slice(TOTAL - fourth..)])
        .await
        .unwrap();
    append.commit().await.unwrap();
    complete(store, &upload, Fence(3), tell).await;
}

async fn placed(dir: &Path, durability: Durability, id: UploadId, tell: &dyn Fn(Told)) {
    let content = content();
    let mut upload = Upload::new(id.clone(), None);
    upload
        .storage
        .insert("Path".into(), "else/where/file.bin".into());
    open(dir, durability).create(upload).await.unwrap();
    tell(Told::Created);
    let mut offset = 0;
    for (n, len) in PIECES.into_iter().enumerate() {
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
            tell(Told::Length);
        }
        let mut append = store.resume(&upload.id, fence).await.unwrap().1;
        append
            .write(&mut vec![content.slice(offset..offset + len)])
            .await
            .unwrap();
        offset += len;
        tell(Told::Offset(append.commit().await.unwrap()));
        if offset == TOTAL {
            complete(&store, &upload, fence, tell).await;
        }
    }
}

async fn joined(store: &FileStore, id: UploadId, tell: &dyn Fn(Told)) {
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
    if let UploadKind::Final {
        concatenated: joined,
        ..
    } = &mut upload.kind
    {
        *joined = true;
    }
    store.save(&upload, Fence(1)).await.unwrap();
    tell(Told::Created);
    tell(Told::Complete);
}

/// Finishes an upload as an engine does, and records that it did.
async fn complete(store: &FileStore, upload: &Upload, fence: Fence, tell: &dyn Fn(Told)) {
    store.finish(upload, fence).await.unwrap();
    tell(Told::Complete);
    let mut upload = upload.clone();
    upload.completion = crate::upload::Completion::Done(None);
    store.save(&upload, fence).await.unwrap();
}

/// Compares what is left in a directory with what was told, and brings the upload to its end.
async fn check(script: Script, dir: &Path, told: &[Told]) {
    let store = open(dir, Durability::None);
    let content = content();
    let id = script.id();
    let snapshot = match store.load(&id).await {
        Ok(snapshot) => snapshot,
        Err(StoreError::NotFound(_)) if !told.contains(&Told::Created) => {
            return nothing_is_in_the_way(&store, id).await;
        }
        Err(error) => panic!("told {told:?}: {error}"),
    };
    let complete = told.contains(&Told::Complete);
    if complete {
        assert!(snapshot.is_complete(), "told {told:?}: {snapshot:?}");
    }
    if told.contains(&Told::Length) {
        assert_eq!(snapshot.upload.length, Some(TOTAL as u64), "told {told:?}");
    }
    for told in told {
        if let Told::Offset(offset) = told {
            assert!(snapshot.offset >= *offset, "told {told:?}: {snapshot:?}");
        }
    }
    if !snapshot.upload.is_concatenated() {
        return; // Its bytes don't count; it is joined again from nothing, or removed.
    }
    let expected = &content[..usize::try_from(snapshot.offset).unwrap()];
    let kept = read(&store, &snapshot.upload, snapshot.offset).await;
    assert!(kept == expected, "told {told:?}: other bytes");
    if snapshot.is_complete() {
        return;
    }
    assert_ne!(
        script,
        Script::Joined,
        "told {told:?}: joined, but {snapshot:?}"
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
    assert!(kept == content, "told {told:?}: other bytes at the end");
}

/// What an interrupted creation left is found, goes, and the id can be had again. Bytes are only
/// reported: their description may be lost with the power.
async fn nothing_is_in_the_way(store: &FileStore, id: UploadId) {
    loop {
        let page = store.page(None, 100).await.unwrap();
        if page.orphans.is_empty() {
            break;
        }
        for orphan in &page.orphans {
            store.remove_orphan(orphan).await.unwrap();
            let path = store.dir().join(&orphan.name);
            assert_eq!(path.exists(), !orphan.removable, "{orphan:?}");
            if !orphan.removable {
                assert!(orphan.size > 0, "{orphan:?}");
                std::fs::remove_file(path).unwrap();
            }
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
