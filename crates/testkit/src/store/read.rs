//! Checks of reading: any range, while bytes are appended, by many readers at once, and of a missing upload.

use std::future::poll_fn;

use landfall::{
    lease::Fence,
    upload::{Upload, UploadId},
};

use super::{
    Subject,
    support::{append, assert_not_found, assert_same, create, read, resume, uploaded},
};
use crate::test_data;

pub(super) async fn any_range_can_be_read(store: &Subject) {
    const KIB: u64 = 1024;
    let len = 1100 * KIB + 13;
    let bytes = test_data::bytes(1, len as usize);
    let upload = uploaded(store, &bytes).await;
    for (start, end) in [
        (0, len),
        (0, 0),
        (len, len),
        (len / 2, len / 2),
        (0, 1),
        (len - 1, len),
        (1, len - 1),
        (64 * KIB - 1, 64 * KIB + 1),
        (256 * KIB - 1, 512 * KIB + 1),
        (1024 * KIB - 1, 1024 * KIB + 2),
        (777, 778),
    ] {
        let got = read(store, &upload, start..end).await;
        assert_same(&got, &bytes[start as usize..end as usize]);
    }
}

pub(super) async fn an_unfinished_upload_can_be_read_while_it_grows(store: &Subject) {
    let bytes = test_data::bytes(2, 90_000);
    let upload = create(store, None).await;
    append(store, &upload, Fence(1), &bytes.slice(..30_000)).await;
    let mut writer = resume(store, &upload, Fence(2)).await;
    let mut end = 30_000;
    for piece in test_data::chunks(&bytes.slice(30_000..), 20_000, 3) {
        writer.write(&mut vec![piece.clone()]).await.expect("write");
        assert_same(&read(store, &upload, 0..end).await, &bytes[..end as usize]);
        end = writer.commit().await.expect("commit");
        assert_same(&read(store, &upload, 0..end).await, &bytes[..end as usize]);
    }
}

pub(super) async fn many_can_read_at_once(store: &Subject) {
    let bytes = test_data::bytes(3, 600_000);
    let upload = uploaded(store, &bytes).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20_u64 {
        let (store, upload, bytes) = (store.clone(), upload.clone(), bytes.clone());
        tasks.spawn(async move {
            let reader = store.capabilities().reader.expect("a reader");
            if n % 4 == 0 {
                // A reader that disconnects in the middle.
                let mut stream = reader.read(&upload, 0..600_000).await.expect("read");
                let first = poll_fn(|cx| stream.as_mut().poll_next(cx)).await;
                let first = first.expect("a piece").expect("a piece");
                assert_same(&first, &bytes[..first.len()]);
            } else {
                let start = n * 1000;
                let got = read(&store, &upload, start..600_000).await;
                assert_same(&got, &bytes[start as usize..]);
            }
        });
    }
    tasks.join_all().await;
}

pub(super) async fn a_missing_upload_cannot_be_read(store: &Subject) {
    let missing = Upload::new(UploadId::random(), Some(10));
    let reader = store.capabilities().reader.expect("a reader");
    assert_not_found("read", reader.read(&missing, 0..10).await.map(drop));
}
