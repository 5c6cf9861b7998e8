//! The file store, proven by the suite that every store must pass.

use landfall::store::file::{Durability, FileOptions, FileStore};

async fn conforms(options: impl Fn(&mut FileOptions)) {
    let base = tempfile::tempdir().unwrap();
    let next = std::cell::Cell::new(0);
    let report = landfall_testkit::store::conformance(async || {
        let mut chosen = FileOptions::default();
        options(&mut chosen);
        next.set(next.get() + 1);
        FileStore::open(base.path().join(next.get().to_string()), chosen).unwrap()
    })
    .await;
    report.assert_complete();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_without_syncing() {
    conforms(|options| options.durability = Durability::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_with_complete_uploads_synced() {
    conforms(|options| options.durability = Durability::Complete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_with_every_offset_synced() {
    conforms(|options| options.durability = Durability::Every).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_with_space_reserved() {
    conforms(|options| options.preallocate = true).await;
}
