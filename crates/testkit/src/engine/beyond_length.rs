//! Checks that content beyond the length of an upload, sent without `Content-Length`, changes nothing.

use std::time::Duration;

use landfall::{Config, event::EventKind};

use super::{
    assert_content,
    client::{self, LIMIT},
    open,
};
use crate::{record::RecordingSink, test_data};

const LENGTH: u64 = 1_500_000;
const FRAME: usize = 200_000;

pub(super) async fn content_beyond_the_length_changes_nothing(config: &Config) {
    let record = RecordingSink::default();
    let config = config.clone().sink(record.clone());
    // The other one knows of the upload only from the store.
    let (handler, other) = (open(&config), open(&config));
    let bytes = test_data::bytes(1, LENGTH as usize);
    let third = LENGTH / 3;
    let id = client::create_empty(&handler, LENGTH).await;
    let body = client::body(bytes.slice(..third as usize));
    let first = client::append(&handler, &id, 0, third, body);
    first.await.expect(204);

    let (sender, body) = client::open_body();
    let (appending, target) = (handler.clone(), id.clone());
    let rejected =
        tokio::spawn(async move { client::append_unsized(&appending, &target, third, body).await });
    let mut rest = bytes.slice(third as usize..);
    while !rest.is_empty() {
        let frame = rest.split_to(FRAME.min(rest.len()));
        sender.send(frame).expect("a body that is read");
    }
    for _ in 0..20 {
        let found = config.store.store().load(&id).await.expect("load");
        assert!(!found.is_complete(), "the body has not ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sender.send(bytes.slice(..1)).expect("a body that is read");
    let rejected = tokio::time::timeout(LIMIT, rejected).await;
    rejected
        .expect("a response in time")
        .expect("a response")
        .expect(413);
    for reader in [&handler, &other] {
        assert_eq!(client::offset(reader, &id).await, Some(third));
    }
    let body = client::body(bytes.slice(third as usize..));
    let appended = client::append(&handler, &id, third, LENGTH - third, body);
    appended.await.expect(204);
    let completed = record.events().into_iter();
    let completed = completed.filter(|event| event.kind == EventKind::Completed);
    assert_eq!(completed.count(), 1);
    assert_content(&config, &other, &id, &bytes).await;
}
