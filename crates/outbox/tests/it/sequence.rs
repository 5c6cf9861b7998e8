//! Sequence numbers grow over restarts, whatever the clock shows.

use landfall::event::{EventKind, EventSink as _, next_sequence};
use landfall_database::{Connections, Durability, Statement};

use super::harness::{Harness, event, on_each_database, upload};

/// Far ahead of any clock: an earlier process may have had a wrong one.
const AHEAD: i64 = 9_000_000_000_000_000;

async fn recorded(database: &Connections) -> i64 {
    let rows = database.read(Statement::new("SELECT last FROM outbox_sequence"));
    rows.await.unwrap()[0].number("last").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_start_from_the_largest_that_was_assigned() {
    on_each_database(async |database| {
        let settings = database.settings();
        let connections = settings.database.open(Durability::PowerLoss).await.unwrap();
        let first = Harness::start(database.settings()).await;
        let upload = upload();
        first.outbox.emit(event(EventKind::Created, &upload)).await;
        first.receiver.until(1).await;
        // Delivered events are deleted; the number stays.
        let start = std::time::Instant::now();
        while !connections.is_postgres() && recorded(&connections).await == 0 {
            assert!(start.elapsed() < super::harness::TIMEOUT);
            tokio::task::yield_now().await;
        }
        first.outbox.close().await;
        let ahead = Statement::new("UPDATE outbox_sequence SET last = $1").with(AHEAD);
        connections.execute(ahead).await.unwrap();
        let second = Harness::start(database.settings()).await;
        let next = i64::try_from(next_sequence()).unwrap();
        assert!(next > AHEAD, "{next}");
        second
            .outbox
            .emit(event(EventKind::Completed, &upload))
            .await;
        let received = second.receiver.until(1).await;
        assert!(received[0].sequence > AHEAD.unsigned_abs());
        second.outbox.close().await;
        connections.close().await;
    })
    .await;
}
