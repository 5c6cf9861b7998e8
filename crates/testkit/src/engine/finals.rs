//! Checks what clients see of a final upload: before, during and after its concatenation.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use landfall::{Config, Handler, upload::UploadId};
use tokio::time::timeout;

use super::{assert_content, client, open};
use crate::{store::poll_times, test_data};

const LENGTH: u64 = 40_000;
const READER_WAIT: Duration = Duration::from_millis(500);

async fn create_partials(handler: &Handler, count: usize) -> Vec<UploadId> {
    let mut partials = Vec::new();
    for _ in 0..count {
        partials.push(client::create_partial(handler, LENGTH).await);
    }
    partials
}

async fn complete(handler: &Handler, partial: &UploadId, seed: u64) {
    let bytes = test_data::bytes(seed, LENGTH as usize);
    let appended = client::append(handler, partial, 0, LENGTH, client::body(bytes));
    appended.await.expect(204);
}

pub(super) async fn the_length_of_a_final_upload_is_stored_at_its_creation(config: &Config) {
    let (handler, other) = (open(config), open(config));
    let partials = create_partials(&handler, 3).await;
    complete(&handler, &partials[0], 0).await;
    let id = client::create_final(&handler, &partials).await;
    let stored = config.store.store().load(&id).await.expect("load");
    assert_eq!(stored.upload.length, Some(3 * LENGTH), "what the store has");
    for reader in [&handler, &other] {
        let found = client::head(reader, &id).await.expect(200);
        assert_eq!(found.number("upload-length"), Some(3 * LENGTH));
        assert_eq!(found.number("upload-offset"), None, "it has no bytes yet");
    }
}

pub(super) async fn a_final_upload_is_inspected_while_it_is_concatenated(config: &Config) {
    let handler = open(config);
    let partials = create_partials(&handler, 2).await;
    let id = client::create_final(&handler, &partials).await;
    let (store, concatenator) = (config.store.store(), config.store.concatenator());
    let concatenator = concatenator.expect("a concatenator");
    let mut parts = Vec::new();
    for (seed, partial) in partials.iter().enumerate() {
        let lease = config.store.locker().acquire(partial, client::LIMIT).await;
        let lease = lease.expect("a lease");
        let (snapshot, mut append) = store.resume(partial, lease.fence()).await.expect("resume");
        let bytes = test_data::bytes(seed as u64, LENGTH as usize);
        append.write(&mut vec![bytes]).await.expect("write");
        append.commit().await.expect("commit");
        drop(append);
        if let Some(finisher) = config.store.finisher() {
            let finished = finisher.finish(&snapshot.upload, lease.fence()).await;
            finished.expect("finish");
        }
        parts.push(snapshot.upload);
    }
    let target = store.load(&id).await.expect("load").upload;
    for polls in 1..8 {
        let lease = config.store.locker().acquire(&id, client::LIMIT).await;
        let lease = lease.expect("a lease");
        let mut concatenating = Box::pin(concatenator.concatenate(&target, &parts, lease.fence()));
        if poll_times(polls, &mut concatenating).await.is_some() {
            client::head(&handler, &id).await.expect(200);
            break;
        }
        // It may just hold what a reader waits for, but not until its end.
        let mut reader = pin!(client::head(&handler, &id));
        let found = loop {
            if let Ok(found) = timeout(READER_WAIT, &mut reader).await {
                break found;
            }
            let is_done = poll_times(1, &mut concatenating).await.is_some();
            assert!(!is_done, "a reader waits for the end of a concatenation");
        };
        found.expect(200);
    }
}

pub(super) async fn a_concatenated_upload_has_the_fields_of_a_complete_one(config: &Config) {
    let mut config = config.clone();
    config.lifetimes.unfinished = Some(Duration::from_secs(3600));
    config.lifetimes.finished = None;
    let (handler, other) = (open(&config), open(&config));
    let partials = create_partials(&handler, 2).await;
    complete(&handler, &partials[0], 0).await;
    let waiting = client::create_final(&handler, &partials).await;
    complete(&handler, &partials[1], 1).await;
    let late = client::create_final(&handler, &partials).await;
    let concat = format!("final;/files/{} /files/{}", partials[0], partials[1]);
    let wanted = [
        ("upload-offset", (2 * LENGTH).to_string()),
        ("upload-length", (2 * LENGTH).to_string()),
        ("upload-concat", concat),
    ];
    let bytes = [0, 1].map(|seed| test_data::bytes(seed, LENGTH as usize));
    for id in [late, waiting] {
        let begun = Instant::now();
        while client::head(&handler, &id)
            .await
            .number("upload-offset")
            .is_none()
        {
            assert!(begun.elapsed() < client::LIMIT, "{id} is not concatenated");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for reader in [&handler, &other] {
            assert_eq!(client::head(reader, &id).await.expect(200).state(), wanted);
        }
        assert_content(&config, &other, &id, &bytes.concat()).await;
    }
    for part in &partials {
        let state = client::head(&other, part).await.expect(200).state();
        let wanted = [
            ("upload-offset", LENGTH.to_string()),
            ("upload-length", LENGTH.to_string()),
            ("upload-expires", "some time".to_owned()),
            ("upload-concat", "partial".to_owned()),
        ];
        assert_eq!(state, wanted, "a complete partial upload expires");
    }
}
