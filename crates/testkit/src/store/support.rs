//! Steps that the checks of stores share, and ways to drop a call in the middle.
//!
//! Bytes are compared only where the store can read them: other stores are checked by their offsets.

use std::{
    future::{Future, poll_fn},
    ops::Range,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Append, ByteStream, StoreError},
    upload::{Upload, UploadId},
};

use super::Subject;
use crate::test_data;

pub(super) async fn create(store: &Subject, length: impl Into<Option<u64>>) -> Arc<Upload> {
    let upload = Upload::new(UploadId::random(), length.into());
    store.create(upload).await.expect("create")
}

pub(super) async fn uploaded(store: &Subject, bytes: &Bytes) -> Arc<Upload> {
    let upload = create(store, bytes.len() as u64).await;
    append(store, &upload, Fence(1), bytes).await;
    upload
}

pub(super) async fn append(store: &Subject, upload: &Arc<Upload>, fence: Fence, bytes: &Bytes) {
    let mut append = resume(store, upload, fence).await;
    let end = append.offset() + bytes.len() as u64;
    write(&mut *append, bytes).await;
    let committed = append.commit().await.expect("commit");
    assert_eq!(committed, end, "the offset after a commit");
}

pub(super) async fn resume(store: &Subject, upload: &Upload, fence: Fence) -> Box<dyn Append> {
    store.resume(&upload.id, fence).await.expect("resume").1
}

pub(super) async fn write(append: &mut dyn Append, bytes: &Bytes) {
    let mut chunks = test_data::chunks(bytes, 100_000, 7);
    append.write(&mut chunks).await.expect("write");
    assert!(chunks.is_empty(), "write must empty the list of chunks");
}

pub(super) async fn commit(
    mut append: Box<dyn Append>,
    store: &Subject,
    upload: &Upload,
    bytes: &[u8],
) {
    assert_eq!(append.commit().await.expect("commit"), bytes.len() as u64);
    drop(append);
    expect(store, upload, bytes).await;
}

pub(super) async fn write_refused(append: &mut dyn Append, bytes: &Bytes) -> StoreError {
    // A store may hold bytes back until the commit.
    let written = append.write(&mut vec![bytes.clone()]).await;
    let Err(error) = written.and(append.commit().await.map(drop)) else {
        panic!("write and commit succeeded for a lease that was overtaken");
    };
    error
}

pub(super) async fn described(store: &Subject, id: &UploadId) -> Arc<Upload> {
    store.load(id).await.expect("load").upload
}

pub(super) async fn terminate(
    store: &Subject,
    upload: &Upload,
    fence: Fence,
) -> Result<bool, StoreError> {
    let terminator = store.capabilities().terminator.expect("a terminator");
    terminator.terminate(upload, fence).await
}

pub(super) async fn remove(store: &Subject, upload: &Upload, fence: Fence) -> bool {
    terminate(store, upload, fence).await.expect("terminate")
}

pub(super) async fn declare_length(
    store: &Subject,
    upload: &Upload,
    length: u64,
    fence: Fence,
) -> Result<Arc<Upload>, StoreError> {
    let deferrer = store.capabilities().length_deferrer;
    let deferrer = deferrer.expect("a length deferrer");
    deferrer.declare_length(upload, length, fence).await
}

pub(super) async fn finish_if_able(store: &Subject, upload: &Upload, fence: Fence) {
    if let Some(finisher) = store.capabilities().finisher {
        finisher.finish(upload, fence).await.expect("finish");
    }
}

pub(super) async fn offset(store: &Subject, upload: &Upload) -> u64 {
    store.load(&upload.id).await.expect("load").offset
}

pub(super) async fn expect(store: &Subject, upload: &Upload, bytes: &[u8]) {
    let loaded = store.load(&upload.id).await.expect("load");
    let length = bytes.len() as u64;
    assert_eq!(loaded.offset, length, "the offset of {}", upload.id);
    // A joined upload is recorded as such by the engine.
    let is_whole = loaded.is_complete() || upload.is_final() && !bytes.is_empty();
    let reader = store.capabilities().reader;
    if reader.is_some_and(|reader| is_whole || reader.reads_unfinished()) {
        assert_same(&read(store, upload, 0..length).await, bytes);
    }
}

pub(super) async fn read(store: &Subject, upload: &Upload, range: Range<u64>) -> Vec<u8> {
    let reader = store.capabilities().reader.expect("a reader");
    collect(reader.read(upload, range).await.expect("read")).await
}

pub(super) async fn collect(mut stream: ByteStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        bytes.extend_from_slice(&piece.expect("a piece of a download"));
    }
    bytes
}

pub(super) fn assert_same(got: &[u8], wanted: &[u8]) {
    assert_eq!(got.len(), wanted.len(), "the number of bytes");
    if let Some(at) = got.iter().zip(wanted).position(|(a, b)| a != b) {
        let all = wanted.len();
        panic!("of {all} bytes, the one at {at} is the first that differs");
    }
}

pub(super) async fn poll_and_drop<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    poll_times(times, pin!(future)).await
}

pub(crate) async fn poll_times<T>(
    times: usize,
    mut future: impl Future<Output = T> + Unpin,
) -> Option<T> {
    for _ in 0..times {
        let poll = poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx))).await;
        if let Poll::Ready(value) = poll {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Differently each round, as a lost connection does.
pub(crate) async fn drop_midway<T>(round: usize, future: impl Future<Output = T>) -> Option<T> {
    match round % 3 {
        0 => poll_and_drop(1 + round / 3, future).await,
        _ => {
            let time = Duration::from_micros(200 << (round % 6));
            tokio::time::timeout(time, future).await.ok()
        }
    }
}

pub(super) fn assert_fenced(what: &str, result: Result<impl Sized, StoreError>) {
    match result {
        Err(StoreError::LeaseLost(_)) => {}
        Err(other) => panic!("{what} by an older lease must give LeaseLost, not: {other:?}"),
        Ok(_) => panic!("{what} by an older lease must be refused"),
    }
}

pub(super) fn assert_not_found(what: &str, result: Result<impl Sized, StoreError>) {
    match result {
        Err(StoreError::NotFound(_)) => {}
        Err(other) => panic!("{what} of a missing upload must give NotFound, not: {other:?}"),
        Ok(_) => panic!("{what} of a missing upload must fail"),
    }
}
