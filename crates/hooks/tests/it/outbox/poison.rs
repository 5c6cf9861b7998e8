//! Events that the database rejects, and events that this version cannot read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use landfall::event::{EventKind, EventSink};
use landfall_hooks::outbox::{Connections, Durability, Outbox, Query, Statement};

use super::site::{PATIENCE, Place, Site, assert_in_order, event, everywhere, route, upload};

async fn execute(connections: &Connections, sql: impl Into<String>) {
    let mut transaction = connections.write().await.unwrap();
    transaction.execute(Statement::new(sql)).await.unwrap();
    transaction.commit().await.unwrap();
}

/// Lets the database reject rows of an upload.
async fn reject(connections: &Connections, place: &Place, upload: &str) {
    let is_sqlite = format!("{:?}", place.database).starts_with("Sqlite");
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

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_database_rejects_stops_no_other() {
    everywhere(async |place| {
        let connections = place.database.open(Durability::Power).await.unwrap();
        let site = Site::start(place.settings()).await;
        let poison = upload();
        reject(&connections, &place, poison.id.as_str()).await;
        let uploads: Vec<_> = (0..100).map(|_| upload()).collect();
        let good = uploads.iter().map(async |upload| {
            let kinds = [EventKind::Created, EventKind::Completed];
            site.announce_and_tell(upload, &kinds).await;
        });
        let bad = async {
            let prepared = [event(EventKind::Created, &poison)];
            let rejected = site.outbox.prepare(&prepared).await.unwrap_err();
            let rejected = rejected.to_string();
            assert!(
                rejected.starts_with("the database rejects the event: "),
                "{rejected}"
            );
            // One that was not prepared can be dropped only.
            site.outbox.emit(event(EventKind::Completed, &poison)).await;
        };
        tokio::join!(futures_util::future::join_all(good), bad);
        assert_in_order(&site.receiver.until(200).await);
        let began = Instant::now();
        while site.outbox.stats().rejected < 2 {
            assert!(began.elapsed() < PATIENCE / 2, "{:?}", site.outbox.stats());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let arrived = site.receiver.ids().len();
        assert_eq!(arrived, 200, "no delivery was made again");
        site.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_database_rejects_is_tried_once() {
    everywhere(async |place| {
        let connections = place.database.open(Durability::Power).await.unwrap();
        let outbox = Outbox::open(place.settings(), vec![route(&Arc::default())]);
        let outbox = outbox.await.unwrap();
        let poison = upload();
        reject(&connections, &place, poison.id.as_str()).await;
        let prepared = [event(EventKind::Created, &poison)];
        outbox.prepare(&prepared).await.unwrap_err();
        let stats = outbox.stats();
        assert_eq!((stats.failed_batches, stats.rejected), (1, 1), "{stats:?}");
        outbox.close().await;
    })
    .await;
}

/// The database ends the connection of each transaction that stores an event, and then some work.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_rejects_no_event() {
    let place = Place::postgres();
    let connections = place.database.open(Durability::Power).await.unwrap();
    let outbox = Outbox::open(place.settings(), vec![route(&Arc::default())]);
    let outbox = outbox.await.unwrap();
    // A sequence is not part of the transaction.
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
    assert_eq!((stats.failed_batches, stats.rejected), (6, 0), "{stats:?}");
    outbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_another_version_is_a_dead_letter_and_stops_no_other() {
    everywhere(async |place| {
        let connections = place.database.open(Durability::Power).await.unwrap();
        let site = Site::start(place.settings()).await;
        site.receiver.set_down(true);
        let upload = upload();
        let id = &upload.id;
        site.announce_and_tell(&upload, &[EventKind::Created]).await;
        // Between the two events of the upload, and in front of those of another.
        let other = super::site::upload();
        for (event, key) in [("new", id), ("newer", &other.id)] {
            let sequence = landfall::event::next_sequence();
            let insert = format!(
                "INSERT INTO outbox_deliveries (event_id, route, ordering_key, sequence, \
                 event_name, state, owner_node, due_at, created_at, attempts, message, bytes) \
                 VALUES ('{event}', 'http', '{key}', {sequence}, 'post-invented', 1, '', 0, 0, 0, \
                 '{{\"invented\": true}}', 18)"
            );
            execute(&connections, insert).await;
        }
        site.announce_and_tell(&upload, &[EventKind::Completed])
            .await;
        site.announce_and_tell(&other, &[EventKind::Created]).await;
        site.receiver.set_down(false);
        assert_in_order(&site.receiver.until(3).await);
        let began = Instant::now();
        while site.outbox.stats().routes[0].given_up < 2 {
            assert!(began.elapsed() < PATIENCE / 2, "{:?}", site.outbox.stats());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let dead = site.outbox.events().list(&Query::default()).await.unwrap();
        assert_eq!(dead.len(), 2);
        for one in dead {
            assert_eq!((one.hook.as_str(), &one.message), ("post-invented", &None));
            let error = one.error.unwrap();
            assert!(error.starts_with("the event cannot be read: "), "{error}");
        }
        site.close().await;
    })
    .await;
}
