//! Checks of concatenation: any order and repetition of parts, a missing part, and a repeated call.
//!
//! The parts must stay as they were, and the target must not depend on them afterwards.

use std::sync::Arc;

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::StoreError,
    upload::{Upload, UploadId, UploadKind},
};

use super::{
    Subject,
    support::{append, assert_not_found, drop_midway, expect, finish_if_able, remove},
};
use crate::test_data;

async fn part(store: &Subject, bytes: &Bytes) -> Arc<Upload> {
    let mut upload = Upload::new(UploadId::random(), Some(bytes.len() as u64));
    upload.kind = UploadKind::Partial;
    let upload = store.create(upload).await.expect("create");
    append(store, &upload, Fence(1), bytes).await;
    finish_if_able(store, &upload, Fence(1)).await;
    upload
}

async fn target(store: &Subject, parts: &[Arc<Upload>]) -> Arc<Upload> {
    let length = parts.iter().map(|part| part.length).sum();
    let mut upload = Upload::new(UploadId::random(), length);
    let paths = parts.iter().map(|part| format!("/files/{}", part.id));
    upload.kind = UploadKind::Final {
        parts: parts.iter().map(|part| part.id.clone()).collect(),
        header: format!("final;{}", paths.collect::<Vec<_>>().join(" ")),
        concatenated: false,
    };
    store.create(upload).await.expect("create")
}

async fn join(store: &Subject, target: &Upload, parts: &[Arc<Upload>]) -> Result<u64, StoreError> {
    let concatenator = store.capabilities().concatenator.expect("a concatenator");
    concatenator.concatenate(target, parts, Fence(2)).await
}

async fn check(store: &Subject, parts: &[Arc<Upload>], pieces: &[&Bytes]) -> Arc<Upload> {
    let target = target(store, parts).await;
    let wanted: Vec<u8> = pieces.iter().copied().flatten().copied().collect();
    let sum = join(store, &target, parts).await.expect("concatenate");
    assert_eq!(sum, wanted.len() as u64, "the returned sum");
    expect(store, &target, &wanted).await;
    for (part, piece) in parts.iter().zip(pieces) {
        expect(store, part, piece).await;
    }
    target
}

pub(super) async fn parts_are_concatenated_in_order(store: &Subject) {
    let [a, b, c] = [(1, 70_000), (2, 1), (3, 33_333)].map(|(seed, n)| test_data::bytes(seed, n));
    let (first, second) = (part(store, &a).await, part(store, &b).await);
    let parts = [first, second, part(store, &c).await];
    check(store, &parts, &[&a, &b, &c]).await;
    let [first, second, third] = parts;
    check(store, &[third, first, second], &[&c, &a, &b]).await;
}

pub(super) async fn empty_and_repeated_parts_are_concatenated(store: &Subject) {
    let (full, empty) = (test_data::bytes(4, 4097), Bytes::new());
    let (f, e) = (part(store, &full).await, part(store, &empty).await);
    check(store, std::slice::from_ref(&e), &[&empty]).await;
    let parts = [e.clone(), f.clone(), e.clone()];
    check(store, &parts, &[&empty, &full, &empty]).await;
    let parts = [f.clone(), f.clone(), e, f];
    check(store, &parts, &[&full, &full, &empty, &full]).await;
}

pub(super) async fn concatenating_nothing_is_empty(store: &Subject) {
    check(store, &[], &[]).await;
}

pub(super) async fn a_missing_part_fails_the_concatenation(store: &Subject) {
    let bytes = test_data::bytes(5, 5000);
    let there = part(store, &bytes).await;
    let mut missing = Upload::new(UploadId::random(), Some(10));
    missing.kind = UploadKind::Partial;
    let parts = [there.clone(), missing.into()];
    let target = target(store, &parts).await;
    assert_not_found("a part", join(store, &target, &parts).await);
    match store.load(&target.id).await {
        Ok(left) => assert_eq!(left.offset, 0, "half of the parts stayed in the target"),
        Err(error) => panic!("the target must be left, empty: {error:?}"),
    }
    expect(store, &there, &bytes).await;
}

pub(super) async fn concatenating_again_starts_empty(store: &Subject) {
    let (a, b) = (test_data::bytes(6, 3000), test_data::bytes(7, 2000));
    let parts = [part(store, &a).await, part(store, &b).await];
    let target = check(store, &parts, &[&a, &b]).await;
    let sum = join(store, &target, &parts).await.expect("concatenate");
    assert_eq!(sum, 5000);
    expect(store, &target, &[&a[..], &b[..]].concat()).await;
    // Fewer bytes than before must leave none of the old ones.
    let sum = join(store, &target, &parts[1..]).await;
    assert_eq!(sum.expect("concatenate"), 2000);
    expect(store, &target, &b).await;
}

pub(super) async fn large_parts_of_odd_size_are_concatenated(store: &Subject) {
    let sizes = [(8, 2 << 20), (9, (1 << 20) + 1), (10, 4095), (11, 1 << 20)];
    let pieces = sizes.map(|(seed, size)| test_data::bytes(seed, size));
    let mut parts = Vec::new();
    for piece in &pieces {
        parts.push(part(store, piece).await);
    }
    check(store, &parts, &pieces.each_ref()).await;
}

pub(super) async fn parts_can_be_removed_afterwards(store: &Subject) {
    let (a, b) = (test_data::bytes(12, 100_000), test_data::bytes(13, 8192));
    let parts = [part(store, &a).await, part(store, &b).await];
    let target = check(store, &parts, &[&a, &b]).await;
    for part in &parts {
        remove(store, part, Fence(3)).await;
    }
    expect(store, &target, &[&a[..], &b[..]].concat()).await;
}

pub(super) async fn a_dropped_concatenation_starts_again_empty(store: &Subject) {
    let (a, b) = (test_data::bytes(14, 300_000), test_data::bytes(15, 70_000));
    let parts = [part(store, &a).await, part(store, &b).await];
    let concatenator = store.capabilities().concatenator.expect("a concatenator");
    for round in 0..6_usize {
        let target = target(store, &parts).await;
        drop_midway(round, concatenator.concatenate(&target, &parts, Fence(2))).await;
        let sum = concatenator.concatenate(&target, &parts, Fence(3)).await;
        assert_eq!(sum.expect("concatenate"), 370_000);
        expect(store, &target, &[&a[..], &b[..]].concat()).await;
    }
}
