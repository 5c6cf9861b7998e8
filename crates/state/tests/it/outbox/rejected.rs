//! Events that the database rejects, and rows that this version cannot parse.

use std::sync::Arc;

use landfall::event::{EventKind, EventSink};
use landfall_state::outbox::{Outbox, Query};
use landfall_state::sql::{Connections, Durability, Statement};

use super::harness::{
    Harness, TestDatabase, assert_in_order, event, on_each_database, route, upload,
};

async fn execute(connections: &Connections, sql: impl Into<String>) {
    let mut transaction = connections.write().await.unwrap();
    transaction.execute(Statement::new(sql)).await.unwrap();
    transaction.commit().await.unwrap();
}

/// Makes the database reject rows of an upload.
async fn reject(connections: &Connections, database: &TestDatabase, upload: &str) {
    let is_sqlite = format!("{:?}", database.database).starts_with("Sqlite");
    let sql = if is_sqlite {
        format!(
            "CREATE TRIGGER poison BEFORE INSERT ON outbox_deliveries \
             WHEN NEW.ordering_key = '{upload}' BEGIN SELECT RAISE(ABORT, 'poison'); END"
        )
    } else {
        format!("ALTER TABLE outbox_deliveries ADD CHECK (ordering_key <> '{upload}')")
    };
    execute(connections, sql).await;
}

/// That a batch is divided then is tested at the writer.
#[tokio::test(flavor = "multi_thread")]
async fn event_rejected_by_the_database_is_not_retried() {
    on_each_database(async |database| {
        let connections = database.database.open(Durability::PowerLoss).await.unwrap();
        let outbox = Outbox::open(database.settings(), vec![route(&Arc::default())]);
        let outbox = outbox.await.unwrap();
        let poison = upload();
        reject(&connections, &database, poison.id.as_str()).await;
        let prepared = [event(EventKind::Created, &poison)];
        let rejected = outbox.prepare(&prepared).await.unwrap_err().to_string();
        assert!(
            rejected.starts_with("the database rejects the event: "),
            "{rejected}"
        );
        // An unprepared event can only be dropped.
        outbox.emit(event(EventKind::Completed, &poison)).await;
        outbox
            .prepare(&[event(EventKind::Created, &upload())])
            .await
            .unwrap();
        let stats = outbox.stats();
        assert_eq!(stats.rejected_commands, 2, "{stats:?}");
        // A third one if the last two were one batch.
        assert!((2..=3).contains(&stats.failed_batches), "{stats:?}");
        outbox.close().await;
    })
    .await;
}

/// The database closes the connection of the first transactions that store an event.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn lost_connection_rejects_no_event() {
    let database = TestDatabase::postgres();
    let connections = database.database.open(Durability::PowerLoss).await.unwrap();
    let outbox = Outbox::open(database.settings(), vec![route(&Arc::default())]);
    let outbox = outbox.await.unwrap();
    // Sequences are not transactional.
    for sql in [
        "CREATE SEQUENCE inserts",
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('inserts') <= 6 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
         RETURN NEW; END $$",
        "CREATE TRIGGER lose BEFORE INSERT ON outbox_deliveries FOR EACH ROW EXECUTE FUNCTION lose()",
    ] {
        execute(&connections, sql).await;
    }
    let prepared = [event(EventKind::Created, &upload())];
    outbox.prepare(&prepared).await.unwrap();
    let stats = outbox.stats();
    assert_eq!(
        (stats.failed_batches, stats.rejected_commands),
        (6, 0),
        "{stats:?}"
    );
    outbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_row_becomes_a_dead_letter() {
    on_each_database(async |database| {
        let connections = database.database.open(Durability::PowerLoss).await.unwrap();
        let harness = Harness::start(database.settings()).await;
        harness.receiver.set_down(true);
        let upload = upload();
        let id = &upload.id;
        harness
            .prepare_and_emit(&upload, &[EventKind::Created])
            .await;
        // Between the events of one upload, and before those of another.
        let other = super::harness::upload();
        for (event, key) in [("new", id), ("newer", &other.id)] {
            let sequence = landfall::event::Event::next_sequence();
            let insert = format!(
                "INSERT INTO outbox_deliveries (event_id, route, ordering_key, sequence, \
                 event_name, state, owner_node, due_at, created_at, attempts, message, bytes) \
                 VALUES ('{event}', 'http', '{key}', {sequence}, 'post-invented', 1, '', 0, 0, 0, \
                 '{{\"invented\": true}}', 18)"
            );
            execute(&connections, insert).await;
        }
        harness
            .prepare_and_emit(&upload, &[EventKind::Completed])
            .await;
        harness
            .prepare_and_emit(&other, &[EventKind::Created])
            .await;
        harness.receiver.set_down(false);
        assert_in_order(&harness.receiver.until(3).await);
        harness.until_dead(2).await;
        let events = harness.outbox.events();
        let dead = events.list(&Query::default()).await.unwrap();
        assert_eq!(dead.len(), 2);
        for one in dead {
            assert_eq!((one.event.as_str(), &one.message), ("post-invented", &None));
            let error = one.error.unwrap();
            assert!(error.starts_with("the event cannot be read: "), "{error}");
        }
        harness.close().await;
    })
    .await;
}
