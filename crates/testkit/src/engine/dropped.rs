//! Checks that the store and the emitted events agree after requests that were dropped in the middle.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use landfall::{
    Config, Handler,
    event::{Event, EventKind},
    store::StoreError,
    upload::UploadId,
};

use super::{
    client::{self, LIMIT},
    open,
};
use crate::{record::RecordingSink, store::drop_midway, test_data};

const ROUNDS: usize = 8;
const LENGTH: usize = 70_000;

/// An upload is there if it was created and not terminated, and its completion was emitted if all of its
/// bytes are there.
pub(super) async fn a_dropped_request_cuts_no_effect_from_its_event(config: &Config) {
    let record = RecordingSink::default();
    let config = config.clone().sink(record.clone());
    let handler = open(&config);
    for round in 0..ROUNDS {
        let bytes = test_data::bytes(round as u64, LENGTH);
        // Creation with all bytes, then with some; each is dropped a little later than the last.
        let created = client::create(&handler, LENGTH as u64, bytes.clone());
        drop_midway(round, created).await;
        let half = LENGTH / 2;
        let created = client::create(&handler, LENGTH as u64, bytes.slice(..half)).await;
        let id = created.expect(201).id();
        let rest = client::body(bytes.slice(half..));
        let appended = client::append(&handler, &id, half as u64, half as u64, rest);
        drop_midway(round, appended).await;
        drop_midway(round + 1, client::delete(&handler, &id)).await;
    }
    let ids = known_ids(&record);
    assert!(ids.len() >= ROUNDS, "{} uploads were prepared", ids.len());
    for id in ids {
        let begun = Instant::now();
        client::head(&handler, &id).await;
        while let Err(difference) = compare(&config, &record, &id).await {
            assert!(begun.elapsed() < LIMIT, "{id}: {difference}");
            tokio::time::sleep(Duration::from_millis(10)).await;
            client::head(&handler, &id).await;
        }
    }
    finish_all(&handler, &record).await;
}

fn known_ids(record: &RecordingSink) -> BTreeSet<UploadId> {
    let prepared = record.prepared().into_iter();
    prepared.map(|event| event.upload.id.clone()).collect()
}

async fn compare(config: &Config, record: &RecordingSink, id: &UploadId) -> Result<(), String> {
    let events = record.events();
    let has = |kind| {
        let is_it = |event: &&Event| event.upload.id == *id && event.kind == kind;
        events.iter().filter(is_it).count()
    };
    let (created, completed) = (has(EventKind::Created), has(EventKind::Completed));
    let terminated = has(EventKind::Terminated);
    let told =
        format!("emitted: {created} created, {completed} completed, {terminated} terminated");
    let consistent = match config.store.store().load(id).await {
        Ok(found) => {
            let is_complete = usize::from(found.is_complete());
            (created, completed, terminated) == (1, is_complete, 0)
        }
        Err(StoreError::NotFound(_)) => created == terminated && created <= 1,
        Err(error) => return Err(format!("load failed: {error}")),
    };
    if consistent {
        return Ok(());
    }
    let there = config.store.store().load(id).await;
    let there = there.map_or("nothing".into(), |at| format!("{} bytes", at.offset));
    Err(format!("{told}; the store has {there}"))
}

async fn finish_all(handler: &Handler, record: &RecordingSink) {
    for id in known_ids(record) {
        let left = client::head(handler, &id).await;
        if left.status.as_u16() == 404 {
            continue;
        }
        let offset = left.expect(200).number("upload-offset").expect("an offset");
        let rest = test_data::bytes(0, LENGTH).slice(offset as usize..);
        if !rest.is_empty() {
            let length = rest.len() as u64;
            let appended = client::append(handler, &id, offset, length, client::body(rest));
            appended.await.expect(204);
        }
        client::delete(handler, &id).await.expect(204);
    }
}
