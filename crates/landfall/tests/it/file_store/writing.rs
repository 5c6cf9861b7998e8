//! Writing, beyond the conformance tests.

use std::{
    fs,
    future::{Future, poll_fn},
    os::unix::fs::MetadataExt,
    pin::pin,
    task::Poll,
};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{
        Finish, Store, StoreError,
        file::{Durability, FileOptions, FileStore},
    },
    upload::Upload,
};
use landfall_testkit::test_data;

use super::{id, make, open, read};

/// Polls a future once and drops it.
async fn poll_once_and_drop<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn on_threads(dir: &std::path::Path, durability: Durability) -> FileStore {
    let mut options = FileOptions::default();
    options.durability = durability;
    options.always_on_threads = true;
    FileStore::open(dir, options).unwrap()
}

/// Calls are cancelled while their I/O waits for the pool or runs there. Whatever its outcome, the next writer must
/// find a correct offset, and the cancelled one acknowledges nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_leave_a_correct_offset() {
    let dir = tempfile::tempdir().unwrap();
    for durability in [Durability::None, Durability::Every] {
        let store = on_threads(dir.path(), durability);
        let name = format!("{durability:?}");
        let bytes = test_data::bytes(3, 4 * 1024 * 1024);
        let upload = Upload::new(id(&name), Some(bytes.len() as u64));
        let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
        let mut dropped = 0;
        for round in 0_u64.. {
            let offset = usize::try_from(append.commit().await.unwrap()).unwrap();
            assert_eq!(append.offset(), offset as u64);
            assert_eq!(
                fs::metadata(dir.path().join(&name)).unwrap().len(),
                offset as u64
            );
            if offset == bytes.len() {
                break;
            }
            let end = bytes.len().min(offset + 40_000);
            let mut chunks = vec![bytes.slice(offset..end)];
            let written = poll_once_and_drop(append.write(&mut chunks)).await;
            if written.is_none() {
                dropped += 1;
                assert_eq!(append.readable(), None);
                append.commit().await.unwrap_err();
            }
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            append = store.resume(&upload.id, Fence(1)).await.unwrap().1;
        }
        assert!(dropped > 0, "no call was dropped in the middle");
        let snapshot = store.load(&upload.id).await.unwrap();
        assert_eq!(read(&store, &snapshot).await, bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_with_unverified_bytes_leave_a_correct_offset() {
    let dir = tempfile::tempdir().unwrap();
    let store = on_threads(dir.path(), Durability::None);
    let bytes = test_data::bytes(3, 400_000);
    let upload = Upload::new(id("x"), Some(bytes.len() as u64));
    let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
    for round in 0_u64.. {
        let offset = usize::try_from(append.commit().await.unwrap()).unwrap();
        if offset == bytes.len() {
            break;
        }
        let end = bytes.len().min(offset + 9_000);
        append.begin_unverified().await.unwrap();
        let mut wrong = vec![Bytes::from(vec![0; 5_000])];
        let written = poll_once_and_drop(append.write(&mut wrong)).await;
        match round % 3 {
            0 => drop(poll_once_and_drop(append.discard_unverified()).await),
            1 => assert_eq!(store.load(&upload.id).await.unwrap().offset, offset as u64),
            _ => {}
        }
        if written.is_none() {
            append.accept_unverified().await.unwrap_err();
            append.discard_unverified().await.unwrap_err();
        }
        append = store.resume(&upload.id, Fence(1)).await.unwrap().1;
        assert_eq!(append.offset(), offset as u64, "round {round}");
        append.begin_unverified().await.unwrap();
        append
            .write(&mut vec![bytes.slice(offset..end)])
            .await
            .unwrap();
        let _ = poll_once_and_drop(append.accept_unverified()).await;
        append = store.resume(&upload.id, Fence(1)).await.unwrap().1;
        assert!([offset as u64, end as u64].contains(&append.offset()));
    }
    let snapshot = store.load(&upload.id).await.unwrap();
    assert_eq!(read(&store, &snapshot).await, bytes);
}

#[tokio::test]
async fn many_small_chunks_are_written_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = test_data::bytes(5, 50_000);
    let upload = Upload::new(id("x"), Some(bytes.len() as u64));
    let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
    // More than one system call accepts.
    let mut chunks: Vec<_> = (0..bytes.len()).map(|n| bytes.slice(n..=n)).collect();
    chunks.insert(7, Bytes::new());
    let capacity = chunks.capacity();
    append.write(&mut chunks).await.unwrap();
    assert!(
        chunks.is_empty() && chunks.capacity() == capacity,
        "the list is the caller's"
    );
    assert_eq!(append.offset(), bytes.len() as u64);
    let snapshot = store.load(&upload.id).await.unwrap();
    assert_eq!(read(&store, &snapshot).await, bytes);
}

/// Bytes verified before they are written need no mark on the disk.
#[tokio::test]
async fn verified_bytes_need_no_mark() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let upload = make(&store, "x", 10, &Bytes::from_static(b"hello"))
        .await
        .upload;
    let before = fs::metadata(dir.path().join("x.info")).unwrap();
    let mut append = store.resume(&upload.id, Fence(2)).await.unwrap().1;
    append.begin_unverified().await.unwrap();
    append.discard_unverified().await.unwrap();
    append.begin_unverified().await.unwrap();
    append.accept_unverified().await.unwrap();
    append
        .write(&mut vec![Bytes::from_static(b"world")])
        .await
        .unwrap();
    let after = fs::metadata(dir.path().join("x.info")).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );
    assert!(store.load(&upload.id).await.unwrap().is_complete());
}

#[tokio::test]
async fn offset_is_readable_without_commit_unless_durability_requires_it() {
    let dir = tempfile::tempdir().unwrap();
    for (durability, midway, at_the_end) in [
        (Durability::None, Some(5), Some(10)),
        (Durability::Complete, Some(5), None),
        (Durability::Every, None, None),
    ] {
        let mut options = FileOptions::default();
        options.durability = durability;
        let store = FileStore::open(dir.path(), options).unwrap();
        let upload = Upload::new(id(&format!("{durability:?}")), Some(10));
        let (_, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
        append
            .write(&mut vec![Bytes::from_static(b"hello")])
            .await
            .unwrap();
        assert_eq!(append.readable(), midway);
        append.begin_unverified().await.unwrap();
        append
            .write(&mut vec![Bytes::from_static(b"world")])
            .await
            .unwrap();
        assert_eq!(append.readable(), midway);
        append.accept_unverified().await.unwrap();
        assert_eq!(append.readable(), at_the_end);
    }
}

/// Space is reserved at the first bytes, the size stays the offset, and the excess is released.
#[tokio::test]
async fn space_is_reserved_where_the_file_system_can() {
    const LENGTH: u64 = 16 * 1024 * 1024;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut options = FileOptions::default();
    options.preallocate = true;
    let store = FileStore::open(dir.path(), options).unwrap();
    let upload = make(&store, "x", LENGTH as usize, &Bytes::from_static(b"hello"))
        .await
        .upload;
    let data = fs::metadata(dir.path().join("x")).unwrap();
    assert_eq!(data.len(), 5);
    fs::write(dir.path().join("probe"), "").unwrap();
    let can = std::process::Command::new("fallocate")
        .args(["-n", "-l", "1M"])
        .arg(dir.path().join("probe"))
        .status()
        .is_ok_and(|status| status.success());
    assert_eq!(
        data.blocks() * 512 >= LENGTH,
        can,
        "{} bytes taken",
        data.blocks() * 512
    );
    store.finish(&upload, Fence(2)).await.unwrap();
    assert!(fs::metadata(dir.path().join("x")).unwrap().blocks() * 512 < 1024 * 1024);
    assert_eq!(store.load(&id("x")).await.unwrap().offset, 5);
}

#[tokio::test]
async fn reservation_that_does_not_fit_fails_at_once() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut options = FileOptions::default();
    options.preallocate = true;
    let store = FileStore::open(dir.path(), options).unwrap();
    let upload = Upload::new(id("x"), Some(1 << 60));
    let (_, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
    let written = append.write(&mut vec![Bytes::from_static(b"hello")]).await;
    assert!(matches!(written, Err(StoreError::Full(_))), "{written:?}");
    assert_eq!(append.commit().await.unwrap(), 0);
}
