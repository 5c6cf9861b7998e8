//! Network faults between an outbox and PostgreSQL.

use std::time::Duration;

use landfall::{
    BoxError,
    event::{Event, EventKind, EventSink},
};
use landfall_state::outbox::OutboxSettings;
use landfall_state::sql::Database;
use landfall_test_services::{FaultProxy, Postgres};

use super::harness::{Harness, event, upload};

#[tokio::test(flavor = "multi_thread")]
async fn network_faults_lose_no_event() {
    let database = Postgres::shared().database("faults");
    let (proxy, url) = FaultProxy::to_server_of(&database);
    let mut settings = OutboxSettings::new(Database::Postgres(url));
    settings.retry.min_backoff = Duration::from_millis(10);
    // A transaction with maintenance takes many round trips, of 200 ms each, and an event may wait for one.
    settings.write_timeout = Duration::from_secs(10);
    let harness = Harness::start(settings).await;
    let mut prepared: Option<Event> = None;
    let mut emitted = Vec::new();
    let prepare_and_emit = async || {
        // Prepared before the fault, emitted during it.
        if let Some(happened) = prepared.take() {
            emitted.push(happened.id());
            harness.outbox.emit(happened).await;
        }
        let next = event(EventKind::Created, &upload());
        harness.outbox.prepare(std::slice::from_ref(&next)).await?;
        prepared = Some(next);
        Ok::<_, BoxError>(())
    };
    proxy
        .under_each(Duration::from_secs(10), prepare_and_emit)
        .await;
    assert_eq!(emitted.len(), 9, "{emitted:?}");
    let received = harness.receiver.until(emitted.len()).await;
    for id in &emitted {
        assert!(received.iter().any(|message| message.id == *id), "{id}");
    }
    harness.close().await;
}
