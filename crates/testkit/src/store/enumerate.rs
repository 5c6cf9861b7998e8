//! Checks of listing: each upload once, for any page size, and also while others are created and removed.
//!
//! They need a store without other uploads.

use std::collections::BTreeMap;

use landfall::{
    lease::Fence,
    store::Cursor,
    upload::{Snapshot, Upload, UploadId},
};

use super::{
    Subject,
    support::{append, create, described, remove},
};
use crate::test_data;

type Listed = BTreeMap<UploadId, Snapshot>;

async fn read_page(
    store: &Subject,
    cursor: Option<Cursor>,
    limit: usize,
    listed: &mut Listed,
) -> Option<Cursor> {
    let enumerator = store.capabilities().enumerator.expect("an enumerator");
    let page = enumerator.page(cursor, limit).await.expect("page");
    let entries = page.uploads.len() + page.orphans.len();
    assert!(entries <= limit, "{entries} entries on a page of {limit}");
    assert!(page.orphans.is_empty(), "orphans: {:?}", page.orphans);
    for snapshot in page.uploads {
        let id = snapshot.upload.id.clone();
        let again = listed.insert(id.clone(), snapshot);
        assert!(again.is_none(), "{id} was listed twice");
    }
    page.next
}

async fn list(store: &Subject, limit: usize) -> Listed {
    let mut listed = Listed::new();
    let mut cursor = None;
    for _ in 0..10_000 {
        cursor = read_page(store, cursor, limit, &mut listed).await;
        if cursor.is_none() {
            return listed;
        }
    }
    panic!("the list in pages of {limit} never ends");
}

pub(super) async fn every_upload_is_listed_once_whatever_the_page_size(store: &Subject) {
    let mut wanted = BTreeMap::new();
    for n in 0..23_usize {
        let name = UploadId::random();
        let id = match n % 4 {
            0 => format!("{name}"),
            1 => format!("shared/{name}"),
            2 => format!("shared/deeper/{name}"),
            _ => format!("own-{name}/file.bin"),
        };
        let upload = Upload::new(UploadId::new(&id).expect("a good id"), Some(30));
        let upload = store.create(upload).await.expect("create");
        append(store, &upload, Fence(1), &test_data::bytes(n as u64, n)).await;
        wanted.insert(upload.id.clone(), n as u64);
    }
    for limit in [1, 2, 3, 5, 22, 23, 24, 1000] {
        let listed = list(store, limit).await;
        let offsets = listed.into_iter().map(|(id, found)| (id, found.offset));
        let offsets: BTreeMap<_, _> = offsets.collect();
        assert_eq!(offsets, wanted, "in pages of {limit}");
    }
    let listed = list(store, 7).await;
    for (id, snapshot) in listed {
        assert_eq!(described(store, &id).await, snapshot.upload);
    }
}

pub(super) async fn an_empty_store_lists_nothing(store: &Subject) {
    assert!(list(store, 1).await.is_empty());
    assert!(list(store, 100).await.is_empty());
}

pub(super) async fn a_kept_upload_is_listed_once_while_others_are_removed(store: &Subject) {
    let mut stay = Vec::new();
    let mut go = Vec::new();
    for n in 0..40 {
        let upload = create(store, 10).await;
        match n % 2 {
            0 => stay.push(upload.id.clone()),
            _ => go.push(upload),
        }
    }
    let mut listed = Listed::new();
    let mut cursor = read_page(store, None, 3, &mut listed).await;
    while let Some(upload) = go.pop() {
        remove(store, &upload, Fence(2)).await;
        create(store, 10).await;
        if cursor.is_some() {
            cursor = read_page(store, cursor, 3, &mut listed).await;
        }
    }
    while cursor.is_some() {
        cursor = read_page(store, cursor, 3, &mut listed).await;
    }
    for id in stay {
        assert!(listed.contains_key(&id), "{id} was not listed");
    }
}
