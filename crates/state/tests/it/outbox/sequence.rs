//! Sequence numbers grow over restarts, whatever the clock shows.

use std::time::{Duration, UNIX_EPOCH};

use landfall::event::{Event, EventKind, EventSink as _};
use landfall_state::sql::{Clock, Connections, Durability, Statement};

use super::harness::{Harness, event, on_each_database, upload};

/// A later number, in microseconds, than any clock or earlier test gives.
fn far_ahead() -> u64 {
    Event::last_sequence().max(9_000_000_000_000_000) + 1_000_000_000_000
}

async fn recorded(database: &Connections) -> u64 {
    let rows = database.read(Statement::new("SELECT last FROM outbox_sequence"));
    let last = rows.await.unwrap()[0].number("last").unwrap();
    u64::try_from(last).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_start_from_the_largest_that_was_assigned() {
    on_each_database(async |database| {
        let settings = database.settings();
        let connections = settings.database.open(Durability::PowerLoss).await.unwrap();
        let first = Harness::start(database.settings()).await;
        let upload = upload();
        // The clock was wrong.
        let ahead = far_ahead();
        Event::skip_sequence(ahead);
        first.outbox.emit(event(EventKind::Created, &upload)).await;
        first.receiver.until(1).await;
        // Delivered events are deleted; the number stays, although the process may be killed now.
        assert!(recorded(&connections).await > ahead);
        first.outbox.close().await;
        let ahead = far_ahead();
        let last = i64::try_from(ahead).unwrap();
        let update = Statement::new("UPDATE outbox_sequence SET last = $1").with(last);
        connections.execute(update).await.unwrap();
        let second = Harness::start(database.settings()).await;
        assert!(Event::next_sequence() > ahead);
        second
            .outbox
            .emit(event(EventKind::Completed, &upload))
            .await;
        let received = second.receiver.until(1).await;
        assert!(received[0].sequence > ahead);
        second.outbox.close().await;
        if connections.is_postgres() {
            // The local clock is behind that of the database.
            let ahead = far_ahead();
            let now = UNIX_EPOCH + Duration::from_micros(ahead + 1000);
            let mut settings = database.settings();
            settings.clock = Some(Clock::new(move || now));
            let third = Harness::start(settings).await;
            assert!(Event::next_sequence() > ahead);
            third.outbox.close().await;
        }
        connections.close().await;
    })
    .await;
}
