//! Checks of writing: order and offsets, chunks of any shape, and writes that are dropped before their end.
//!
//! A store may write later than `write` returns, so only an offset after a commit is compared exactly.

use std::time::Duration;

use bytes::Bytes;
use landfall::{
    lease::Fence,
    upload::{Upload, UploadId},
};

use super::{
    Subject,
    support::{
        append, commit, create, drop_midway, expect, finish_if_able, offset, poll_and_drop, resume,
        uploaded, write,
    },
};
use crate::test_data;

pub(super) async fn bytes_are_appended_in_order(store: &Subject) {
    let bytes = test_data::bytes(1, 300_000);
    let upload = create(store, 300_000).await;
    let mut append = resume(store, &upload, Fence(1)).await;
    assert_eq!(append.offset(), 0);
    let mut written = 0;
    let mut before = 0;
    for chunk in test_data::chunks(&bytes, 50_000, 2) {
        written += chunk.len() as u64;
        append.write(&mut vec![chunk]).await.expect("write");
        let now = append.offset();
        let is_possible = (before..=written).contains(&now);
        assert!(is_possible, "offset {now} after {before}, of {written}");
        before = now;
    }
    commit(append, store, &upload, &bytes).await;
    assert!(store.load(&upload.id).await.expect("load").is_complete());
}

pub(super) async fn appending_continues_at_the_offset(store: &Subject) {
    let bytes = test_data::bytes(2, 100_000);
    let upload = create(store, 100_000).await;
    let mut start = 0;
    for (n, piece) in test_data::chunks(&bytes, 30_000, 3).iter().enumerate() {
        let mut append = resume(store, &upload, Fence(n as u64 + 1)).await;
        assert_eq!(append.offset(), start, "the offset to continue at");
        write(&mut *append, piece).await;
        start += piece.len() as u64;
        assert_eq!(append.commit().await.expect("commit"), start);
        drop(append);
        expect(store, &upload, &bytes[..start as usize]).await;
    }
}

pub(super) async fn chunks_of_any_shape_are_taken(store: &Subject) {
    let many_small = test_data::bytes(3, 20_000);
    let one_large = test_data::bytes(4, 3_000_001);
    let upload = create(store, None).await;
    let mut append = resume(store, &upload, Fence(1)).await;
    let mut all = Vec::new();
    let mut list = Vec::new();
    for shape in [
        vec![],
        vec![Bytes::new()],
        test_data::chunks(&many_small, 7, 5), // far more chunks than one system call takes
        vec![one_large],
        ["", "a", "", "b"].map(Bytes::from).to_vec(),
        vec![Bytes::from_static(b"x"); 3000],
    ] {
        all.extend_from_slice(&shape.concat());
        list.extend(shape);
        append.write(&mut list).await.expect("write");
        assert!(list.is_empty(), "write must empty the list of chunks");
    }
    commit(append, store, &upload, &all).await;
}

pub(super) async fn an_upload_without_bytes_is_whole(store: &Subject) {
    let upload = Upload::new(UploadId::random(), Some(0));
    let created = store.create_append(upload, Fence(1)).await;
    let (upload, mut append) = created.expect("create_append");
    append.write(&mut Vec::new()).await.expect("write");
    assert_eq!(append.commit().await.expect("commit"), 0);
    drop(append);
    finish_if_able(store, &upload, Fence(1)).await;
    assert!(store.load(&upload.id).await.expect("load").is_complete());
    expect(store, &upload, b"").await;
}

pub(super) async fn ten_mebibytes_are_kept(store: &Subject) {
    let bytes = test_data::bytes(5, 10 << 20);
    let upload = uploaded(store, &bytes).await;
    finish_if_able(store, &upload, Fence(1)).await;
    expect(store, &upload, &bytes).await;
}

pub(super) async fn a_committed_offset_is_loaded(store: &Subject) {
    let upload = create(store, 40_000).await;
    let mut append = resume(store, &upload, Fence(1)).await;
    let mut end = 0;
    for piece in test_data::chunks(&test_data::bytes(6, 40_000), 9_000, 1) {
        end += piece.len() as u64;
        write(&mut *append, &piece).await;
        assert_eq!(append.commit().await.expect("commit"), end);
        let loaded = offset(store, &upload).await;
        assert_eq!(loaded, end, "load after a commit, in an open append");
    }
    assert_eq!(append.commit().await.expect("a second commit"), end);
}

pub(super) async fn opening_is_no_change(store: &Subject) {
    let upload = create(store, 5).await;
    append(store, &upload, Fence(10), &Bytes::from_static(b"abc")).await;
    let before = store.load(&upload.id).await.expect("load").modified;
    // Stores may keep whole seconds.
    tokio::time::sleep(Duration::from_millis(2200)).await;
    drop(resume(store, &upload, Fence(20)).await);
    let after = store.load(&upload.id).await.expect("load").modified;
    let later = after.duration_since(before).unwrap_or_default();
    let limit = Duration::from_millis(1100);
    assert!(later < limit, "it looks changed {later:?} later");
}

pub(super) async fn dropping_keeps_written_bytes(store: &Subject) {
    let bytes = test_data::bytes(7, 200_000);
    let upload = create(store, 200_000).await;
    let mut first = resume(store, &upload, Fence(1)).await;
    write(&mut *first, &bytes.slice(..150_000)).await;
    let kept = first.offset();
    drop(first);
    let second = resume(store, &upload, Fence(2)).await;
    let offset = second.offset();
    let is_possible = (kept..=150_000).contains(&offset);
    assert!(is_possible, "{offset}, but {kept} were kept");
    drop(second);
    append(store, &upload, Fence(3), &bytes.slice(offset as usize..)).await;
    expect(store, &upload, &bytes).await;
}

fn assert_kept(kept: usize, start: usize, bytes: &Bytes) {
    let possible = kept..=bytes.len();
    assert!(possible.contains(&start), "{start}, but {kept} were kept");
}

pub(super) async fn resuming_is_one_act(store: &Subject) {
    let bytes = test_data::bytes(9, 4 << 20);
    let upload = create(store, None).await;
    let mut kept = 0;
    for round in 0..12_usize {
        let fence = Fence(round as u64 / 2 + 1);
        let (snapshot, mut append) = store.resume(&upload.id, fence).await.expect("resume");
        assert_eq!(snapshot.offset, append.offset());
        assert_eq!(snapshot.upload.id, upload.id);
        let start = append.offset() as usize;
        assert_kept(kept, start, &bytes);
        let end = bytes.len().min(start + (512 << 10));
        let mut chunks = test_data::chunks(&bytes.slice(start..end), 64 << 10, 3);
        drop_midway(round, append.write(&mut chunks)).await;
        kept = append.offset() as usize;
    }
    let (snapshot, append) = store.resume(&upload.id, Fence(100)).await.expect("resume");
    assert_eq!(snapshot.offset, append.offset());
    drop(append);
    expect(store, &upload, &bytes[..snapshot.offset as usize]).await;
}

pub(super) async fn a_dropped_write_has_ended_before_the_next_append(store: &Subject) {
    let bytes = test_data::bytes(8, 8 << 20);
    let upload = create(store, None).await;
    let mut fence = 0;
    let mut kept = 0;
    while kept < bytes.len() {
        fence += 1;
        let mut append = resume(store, &upload, Fence(fence)).await;
        let start = append.offset() as usize;
        assert_kept(kept, start, &bytes);
        // Like a broken connection: a write that is never polled again.
        let mut chunks = test_data::chunks(&bytes.slice(start..), 1 << 20, fence);
        let polls = fence as usize % 5;
        if let Some(result) = poll_and_drop(polls, append.write(&mut chunks)).await {
            result.expect("write");
        }
        kept = append.offset() as usize;
        drop(append);
        if fence > 40 {
            break; // A store on a network may never reach this point.
        }
    }
    let mut bytes = bytes.to_vec();
    for fence in [fence, fence + 1] {
        let mut append = resume(store, &upload, Fence(fence)).await;
        let start = append.offset() as usize;
        bytes.truncate(start.max(8 << 20));
        bytes.extend_from_slice(&test_data::bytes(fence, 1 << 20));
        let rest = Bytes::copy_from_slice(&bytes[start..]);
        poll_and_drop(1, append.write(&mut vec![rest])).await;
        drop(append);
        let next = resume(store, &upload, Fence(fence)).await;
        let start = next.offset();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let later = offset(store, &upload).await;
        assert!(later <= start, "bytes came after the next append had begun");
    }
    let bytes = Bytes::from(bytes);
    let mut append = resume(store, &upload, Fence(fence + 2)).await;
    let start = append.offset();
    write(&mut *append, &bytes.slice(start as usize..)).await;
    commit(append, store, &upload, &bytes).await;
}

pub(super) async fn a_hundred_uploads_at_once(store: &Subject) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100_u64 {
        let store = store.clone();
        tasks.spawn(async move {
            let bytes = test_data::bytes(n, 10_000 + n as usize * 777);
            let upload = create(&store, bytes.len() as u64).await;
            for (turn, piece) in test_data::chunks(&bytes, 40_000, n).iter().enumerate() {
                let fence = Fence(turn as u64 + 1);
                let mut append = resume(&store, &upload, fence).await;
                write(&mut *append, piece).await;
                append.commit().await.expect("commit");
                tokio::task::yield_now().await;
            }
            finish_if_able(&store, &upload, Fence(1000)).await;
            expect(&store, &upload, &bytes).await;
            (upload, bytes)
        });
    }
    for (upload, bytes) in tasks.join_all().await {
        expect(store, &upload, &bytes).await;
    }
}
