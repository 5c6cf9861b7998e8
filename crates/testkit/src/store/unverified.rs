//! Checks that unverified bytes count only after they are accepted, however their append ends.

use bytes::Bytes;
use landfall::lease::Fence;

use super::{
    Subject,
    support::{append, commit, create, expect, offset, resume, write},
};
use crate::test_data;

pub(super) async fn discarded_bytes_are_gone(store: &Subject) {
    let good = test_data::bytes(1, 400_000);
    let bad = test_data::bytes(2, 300_000);
    let upload = create(store, 400_000).await;
    let mut append = resume(store, &upload, Fence(1)).await;
    write(&mut *append, &good.slice(..150_000)).await;
    append.commit().await.expect("commit");
    append.begin_unverified().await.expect("begin");
    write(&mut *append, &bad).await;
    write(&mut *append, &bad.slice(..10_000)).await;
    let loaded = offset(store, &upload).await;
    assert_eq!(loaded, 150_000, "the offset with unverified bytes");
    append.discard_unverified().await.expect("discard");
    assert_eq!(append.offset(), 150_000);
    assert_eq!(append.commit().await.expect("commit"), 150_000);
    expect(store, &upload, &good[..150_000]).await;

    write(&mut *append, &good.slice(150_000..)).await;
    commit(append, store, &upload, &good).await;
}

pub(super) async fn accepted_bytes_count(store: &Subject) {
    let bytes = test_data::bytes(3, 200_000);
    let upload = create(store, 200_000).await;
    let mut append = resume(store, &upload, Fence(1)).await;
    append.begin_unverified().await.expect("begin");
    write(&mut *append, &bytes.slice(..90_000)).await;
    write(&mut *append, &bytes.slice(90_000..130_000)).await;
    let loaded = offset(store, &upload).await;
    assert_eq!(loaded, 0, "the offset with unverified bytes");
    append.accept_unverified().await.expect("accept");
    assert_eq!(append.commit().await.expect("commit"), 130_000);
    expect(store, &upload, &bytes[..130_000]).await;
    write(&mut *append, &bytes.slice(130_000..)).await;
    commit(append, store, &upload, &bytes).await;
}

pub(super) async fn unverified_bytes_do_not_count_when_dropped(store: &Subject) {
    let bytes = test_data::bytes(4, 50_000);
    let upload = create(store, 50_000).await;
    append(store, &upload, Fence(1), &bytes.slice(..20_000)).await;
    let mut held = resume(store, &upload, Fence(2)).await;
    held.begin_unverified().await.expect("begin");
    write(&mut *held, &test_data::bytes(5, 30_000)).await;
    drop(held);
    expect(store, &upload, &bytes[..20_000]).await;
    let next = resume(store, &upload, Fence(3)).await;
    assert_eq!(next.offset(), 20_000);
    drop(next);
    append(store, &upload, Fence(4), &bytes.slice(20_000..)).await;
    expect(store, &upload, &bytes).await;
}

pub(super) async fn unverified_bytes_do_not_count_when_overtaken(store: &Subject) {
    let bytes = test_data::bytes(6, 50_000);
    let upload = create(store, 50_000).await;
    let mut held = resume(store, &upload, Fence(1)).await;
    write(&mut *held, &bytes.slice(..10_000)).await;
    held.commit().await.expect("commit");
    held.begin_unverified().await.expect("begin");
    write(&mut *held, &test_data::bytes(7, 45_000)).await;
    let mut newer = resume(store, &upload, Fence(2)).await;
    assert_eq!(newer.offset(), 10_000);
    write(&mut *newer, &bytes.slice(10_000..)).await;
    drop(held);
    commit(newer, store, &upload, &bytes).await;
}

pub(super) async fn beginning_unverified_without_bytes_changes_nothing(store: &Subject) {
    let upload = create(store, None).await;
    append(store, &upload, Fence(1), &Bytes::from_static(b"abc")).await;
    for way in 0..3 {
        let mut append = resume(store, &upload, Fence(2)).await;
        append.begin_unverified().await.expect("begin");
        match way {
            0 => append.accept_unverified().await.expect("accept"),
            1 => append.discard_unverified().await.expect("discard"),
            _ => {}
        }
        assert_eq!(append.offset(), 3);
        drop(append);
        expect(store, &upload, b"abc").await;
    }
    let mut after = resume(store, &upload, Fence(3)).await;
    write(&mut *after, &Bytes::from_static(b"def")).await;
    commit(after, store, &upload, b"abcdef").await;
}

pub(super) async fn unverified_bytes_can_be_begun_again(store: &Subject) {
    let upload = create(store, None).await;
    let mut append = resume(store, &upload, Fence(1)).await;
    let mut wanted = Vec::new();
    for round in 0..6_u8 {
        let bytes = test_data::bytes(u64::from(round), 5000);
        append.begin_unverified().await.expect("begin");
        write(&mut *append, &bytes).await;
        if round % 2 == 0 {
            append.accept_unverified().await.expect("accept");
            wanted.extend_from_slice(&bytes);
        } else {
            append.discard_unverified().await.expect("discard");
        }
        assert_eq!(append.commit().await.expect("commit"), wanted.len() as u64);
        expect(store, &upload, &wanted).await;
    }
}

pub(super) async fn discarding_without_unverified_bytes_restores_the_opening_offset(
    store: &Subject,
) {
    let good = test_data::bytes(8, 60_000);
    let upload = create(store, 60_000).await;
    append(store, &upload, Fence(1), &good.slice(..25_000)).await;
    let mut append = resume(store, &upload, Fence(2)).await;
    write(&mut *append, &test_data::bytes(9, 30_000)).await;
    append.discard_unverified().await.expect("discard");
    assert_eq!(append.offset(), 25_000);
    assert_eq!(append.commit().await.expect("commit"), 25_000);
    expect(store, &upload, &good[..25_000]).await;
    write(&mut *append, &good.slice(25_000..)).await;
    commit(append, store, &upload, &good).await;
}

pub(super) async fn readable_bytes_can_be_loaded(store: &Subject) {
    let upload = create(store, None).await;
    let mut append = resume(store, &upload, Fence(1)).await;
    let mut most = 0;
    for round in 0..8_u64 {
        let (is_held, start) = (round % 2 == 1, append.offset());
        if is_held {
            append.begin_unverified().await.expect("begin");
        }
        write(&mut *append, &test_data::bytes(round, 7000)).await;
        if let Some(readable) = append.readable() {
            let end = if is_held { start } else { append.offset() };
            assert!(readable <= end, "{readable} are readable, {end} count");
            assert!(readable >= most, "{readable} are readable after {most}");
            most = readable;
            let loaded = offset(store, &upload).await;
            assert!(loaded >= readable, "{readable} were readable: {loaded}");
        }
        if is_held {
            append.accept_unverified().await.expect("accept");
        }
    }
}
