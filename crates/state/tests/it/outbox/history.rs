//! The history of delivered events.

use std::{sync::atomic::Ordering, time::Duration};

use landfall::event::EventKind;
use landfall_state::outbox::OutboxSettings;
use landfall_state::sql::{Connections, Durability, Statement};
use landfall_test_services::until;

use super::harness::{Harness, TestDatabase, on_each_database, upload};

#[tokio::test(flavor = "multi_thread")]
async fn delivered_events_are_listed_with_their_attempts() {
    on_each_database(async |database| {
        let harness = Harness::start(database.settings()).await;
        let (first, second) = (upload(), upload());
        // Of each two calls one fails; its event was not received, or only the response is lost.
        harness.receiver.fails_each.store(2, Ordering::Relaxed);
        let kinds = [EventKind::Created, EventKind::Completed];
        harness.prepare_and_emit(&first, &kinds).await;
        harness.until_idle().await;
        harness.receiver.fails_each.store(0, Ordering::Relaxed);
        harness.prepare_and_emit(&second, &kinds[..1]).await;
        harness.until_idle().await;
        let events = harness.outbox.events();
        let found = events.history(first.id.as_str(), 50).await.unwrap();
        let names: Vec<_> = found.iter().map(|event| &*event.event).collect();
        assert_eq!(names, ["post-finish", "post-create"]);
        assert!(found.iter().all(|event| event.attempts == 2), "{found:?}");
        for event in &found {
            assert_eq!(event.route, "http");
            assert!(event.error.is_some(), "{event:?}");
            assert!(event.created_at <= event.delivered_at);
        }
        let ids: Vec<_> = found.into_iter().rev().map(|event| event.id).collect();
        let mut received = harness.receiver.ids();
        received.dedup();
        assert_eq!(received[..2], ids);
        let newest = events.history(first.id.as_str(), 1).await.unwrap();
        assert_eq!(newest[0].id, ids[1]);
        let other = events.history(second.id.as_str(), 50).await.unwrap();
        let other: Vec<_> = other
            .iter()
            .map(|event| (&*event.event, event.attempts, event.error.as_deref()))
            .collect();
        assert_eq!(other, [("post-create", 1, None)]);
        harness.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_history_nothing_is_stored() {
    on_each_database(async |database| {
        let mut settings = database.settings();
        settings.history = Duration::ZERO;
        let harness = Harness::start(settings).await;
        let upload = upload();
        harness
            .prepare_and_emit(&upload, &[EventKind::Created])
            .await;
        harness.receiver.until(1).await;
        harness.until_idle().await;
        let found = harness
            .outbox
            .events()
            .history(upload.id.as_str(), 50)
            .await;
        assert_eq!(found.unwrap(), []);
        harness.close().await;
    })
    .await;
}

/// Delivers events until the lowest number and the count of the rows of the test are purged to these.
async fn purged(harness: &Harness, connections: &Connections, is_done: impl Fn(i64, i64) -> bool) {
    until(async || {
        let completed = [EventKind::Completed];
        harness.prepare_and_emit(&upload(), &completed).await;
        let filled = "SELECT MIN(number) AS first, COUNT(*) AS stored FROM outbox_history \
                      WHERE ordering_key = 'filled'";
        let found = connections.read(Statement::new(filled)).await.unwrap();
        let number = |column| found[0].number(column).unwrap();
        is_done(number("first"), number("stored"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_limited_by_age_and_count() {
    on_each_database(async |database: TestDatabase| {
        let settings: OutboxSettings = database.settings();
        let harness = Harness::start(settings).await;
        let connections = database.database.open(Durability::ProcessCrash).await.unwrap();
        let execute = async |sql: &str| {
            let mut transaction = connections.write().await.unwrap();
            transaction.execute(Statement::new(sql)).await.unwrap();
            transaction.commit().await.unwrap();
        };
        let numbers = match connections.is_postgres() {
            true => "SELECT n FROM generate_series(-999, 0) AS n",
            false => {
                "WITH RECURSIVE r AS (SELECT -999 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 0) \
                 SELECT n FROM r"
            }
        };
        // Delivered far in the future.
        let insert = format!(
            "INSERT INTO outbox_history (number, event_id, route, ordering_key, event_name, created_at, \
             delivered_at, attempts) SELECT n, 'e' || n, 'http', 'filled', 'post-finish', 0, 9000000000000, 1 \
             FROM ({numbers}) AS numbers"
        );
        execute(&insert).await;
        execute("UPDATE outbox_history SET delivered_at = 1 WHERE number <= -700").await;
        let by_age = |first, stored| (first, stored) == (-699, 700);
        purged(&harness, &connections, by_age).await;
        execute("UPDATE outbox_history SET number = 99600 WHERE number = 0").await;
        // Each further delivery removes another row.
        let by_count = |first, stored| first > -400 && stored == 1 - first;
        purged(&harness, &connections, by_count).await;
        harness.close().await;
        connections.close().await;
    })
    .await;
}
