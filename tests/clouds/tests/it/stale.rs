//! Two nodes: of the one that lost its lease, no byte gets into the file, whenever its writes arrive.

use landfall::{lease::Fence, store::Store as _};
use landfall_test_clouds::{
    Service, append, assert_same, create, finish, on_each_cloud, options, pattern, pieces, read,
    store,
};

async fn a_stale_node_changes_nothing(service: &impl Service) {
    let bucket = service.bucket("stale");
    let mut options = options(&bucket);
    options.shared = true;
    let bytes = pattern(1, 500_000);
    let wrong = pattern(2, 500_000);
    for (n, (taken, stale)) in [
        (10_000, 20_000),
        (10_000, 200_000),
        (130_000, 1),
        (131_072, 70_000),
        (200_000, 200_000),
    ]
    .into_iter()
    .enumerate()
    {
        let (first, second) = (
            store(service, options.clone()),
            store(service, options.clone()),
        );
        let upload = create(&first, &format!("stale-{n}"), 500_000).await;
        append(&first, &upload.id, 1, &bytes.slice(..taken)).await;
        let (_, mut old) = first.resume(&upload.id, Fence(2)).await.unwrap();
        let (half, rest) = (stale / 2, stale - stale / 2);
        let _ = old.write(&mut pieces(&wrong.slice(..half))).await;
        // The other node takes over, and writes.
        let (snapshot, mut new) = second.resume(&upload.id, Fence(3)).await.unwrap();
        let at = usize::try_from(snapshot.offset).unwrap();
        assert!(at >= taken, "{at}");
        // Bytes of the old node that arrived before are the upload's.
        let mut wanted = bytes.to_vec();
        wanted[taken..at].copy_from_slice(&wrong[..at - taken]);
        let next = at + 90_000;
        new.write(&mut pieces(&bytes.slice(at..next)))
            .await
            .unwrap();
        // The old one wakes up.
        let woken = async {
            old.write(&mut pieces(&wrong.slice(half..half + rest)))
                .await?;
            old.commit().await
        };
        let woken = woken.await;
        assert_eq!(new.commit().await.unwrap(), next as u64);
        drop((old, new));
        let _ = woken;
        let third = store(service, options.clone());
        assert_eq!(
            third.load(&upload.id).await.unwrap().offset,
            next as u64,
            "row {n}"
        );
        append(&third, &upload.id, 4, &bytes.slice(next..)).await;
        finish(&third, &upload, 4).await;
        assert_same(&read(&third, &upload, 0..500_000).await, &wanted);
    }
}

/// The bytes that it discards may have been counted by the node that has taken over.
async fn a_stale_node_discards_nothing(service: &impl Service) {
    let bucket = service.bucket("discard");
    let mut options = options(&bucket);
    options.shared = true;
    let bytes = pattern(3, 300_000);
    let (first, second) = (
        store(service, options.clone()),
        store(service, options.clone()),
    );
    let upload = create(&first, "discard", 300_000).await;
    let (_, mut old) = first.resume(&upload.id, Fence(1)).await.unwrap();
    old.write(&mut pieces(&bytes.slice(..150_000)))
        .await
        .unwrap();
    // Its parts arrive.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let (snapshot, mut new) = second.resume(&upload.id, Fence(2)).await.unwrap();
    let at = usize::try_from(snapshot.offset).unwrap();
    assert_eq!(at, 2 * 65_536, "the test is about parts that count");
    new.write(&mut pieces(&bytes.slice(at..200_000)))
        .await
        .unwrap();
    assert_eq!(new.commit().await.unwrap(), 200_000);
    let _ = old.discard_unverified().await;
    drop((old, new));
    let third = store(service, options);
    assert_eq!(third.load(&upload.id).await.unwrap().offset, 200_000);
    append(&third, &upload.id, 3, &bytes.slice(200_000..)).await;
    finish(&third, &upload, 3).await;
    assert_same(&read(&third, &upload, 0..300_000).await, &bytes);
}

on_each_cloud!(a_stale_node_changes_nothing, a_stale_node_discards_nothing);
