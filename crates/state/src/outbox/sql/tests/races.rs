//! Races between the outcome of a failed delivery and the release of an event behind it.

use std::time::{Duration, Instant};

use landfall_test_services::Postgres;

use super::super::*;
use crate::outbox::{MIGRATIONS, TABLE_SET};
use crate::sql::{Connections, Database, Durability, Statement, Transaction};

const NOW: i64 = 1_000_000;
const HOLD: OrderHold = OrderHold {
    limit: Some(3_600_000),
};

fn row<'a>(event: &'a str, sequence: i64, owner: &str) -> NewRow<'a> {
    NewRow {
        event,
        route: "http",
        key: "u",
        sequence,
        hook: "post-finish",
        owner: owner.to_owned(),
        message: "{}",
        headers: None,
    }
}

/// Stores a failed delivery that node `a` retries, and a prepared event of node `b`.
async fn failing() -> Connections {
    let database = Database::Postgres(Postgres::shared().database("races"));
    let connections = database.open(Durability::ProcessCrash).await.unwrap();
    connections.migrate(TABLE_SET, MIGRATIONS).await.unwrap();
    let mut transaction = connections.write().await.unwrap();
    for statement in [
        insert_pending(&[row("failed", 1, "a")], NOW),
        Statement::new("UPDATE outbox_deliveries SET first_failed_at = due_at, attempts = 1"),
        prepare(&[row("next", 2, "b")], NOW),
    ] {
        transaction.execute(statement).await.unwrap();
    }
    transaction.commit().await.unwrap();
    connections
}

/// Emits the event of node `b`.
async fn emit_behind(transaction: &mut Transaction) {
    emit_at(transaction, 2).await;
}

async fn emit_at(transaction: &mut Transaction, sequence: i64) {
    let emitted = emit(&[row("next", sequence, "b")], NOW);
    transaction.fetch(emitted).await.unwrap();
    let release = release_behind("http", &[("next", "u")], NOW, HOLD, true);
    transaction.execute(release).await.unwrap();
}

/// The outcomes that node `a` records for the failed delivery.
fn outcomes() -> [Statement; 2] {
    let dead = Failed {
        event: "failed",
        route: "http",
        attempts: 2,
        due: None,
        error: "no",
    };
    [
        delete("http", &["failed"]),
        record_failures(&[dead], "a", NOW),
    ]
}

async fn record(transaction: &mut Transaction, outcome: Statement) {
    assert_eq!(transaction.execute(outcome).await.unwrap(), 1);
    let behind = Behind {
        key: ("u", "http"),
        sequence: 1,
        due: NOW,
    };
    let wake = reschedule(&[behind]);
    transaction.execute(wake).await.unwrap();
}

async fn assert_next_is_due(connections: &Connections) {
    let claim = claim(Attempt::First, "http", "c", NOW, HOLD, 10, true);
    let mut transaction = connections.write().await.unwrap();
    let claimed = transaction.fetch(claim).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].text("event_id").unwrap(), "next");
}

#[tokio::test]
async fn event_released_during_the_outcome_is_due_at_once() {
    for outcome in outcomes() {
        let connections = failing().await;
        let mut recording = connections.write().await.unwrap();
        record(&mut recording, outcome).await;
        // This does not wait for the other node.
        let mut emitting = connections.write().await.unwrap();
        emit_behind(&mut emitting).await;
        emitting.commit().await.unwrap();
        recording.commit().await.unwrap();
        assert_next_is_due(&connections).await;
    }
}

#[tokio::test]
async fn event_released_before_the_outcome_is_rescheduled_by_it() {
    for outcome in outcomes() {
        let connections = failing().await;
        let mut emitting = connections.write().await.unwrap();
        emit_behind(&mut emitting).await;
        let mut recording = connections.write().await.unwrap();
        let recorded = tokio::spawn(async move {
            record(&mut recording, outcome).await;
            recording.commit().await.unwrap();
        });
        let began = Instant::now();
        let waiting = "SELECT COUNT(*) AS n FROM pg_locks WHERE NOT granted AND pid IN \
                       (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
        loop {
            let rows = connections.read(Statement::new(waiting)).await.unwrap();
            if rows[0].number("n").unwrap() > 0 {
                break;
            }
            assert!(
                !recorded.is_finished() && began.elapsed() < Duration::from_secs(4),
                "the outcome was recorded without the released event"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        emitting.commit().await.unwrap();
        recorded.await.unwrap();
        assert_next_is_due(&connections).await;
    }
}

#[tokio::test]
async fn event_released_behind_a_failing_one_waits_for_its_hold() {
    let connections = failing().await;
    let mut emitting = connections.write().await.unwrap();
    emit_behind(&mut emitting).await;
    emitting.commit().await.unwrap();
    let due = "SELECT due_at FROM outbox_deliveries WHERE event_id = 'next'";
    let rows = connections.read(Statement::new(due)).await.unwrap();
    assert_eq!(rows[0].number("due_at").unwrap(), NOW + 3_600_000);
}

/// Another node had made it pending for the failing one, which came after it, and this node emits it late.
#[tokio::test]
async fn event_before_a_failing_one_is_due_at_once() {
    let connections = failing().await;
    let mut emitting = connections.write().await.unwrap();
    emit_at(&mut emitting, 0).await;
    emitting.commit().await.unwrap();
    assert_next_is_due(&connections).await;

    // Also when the failing one is attempted for the first time.
    let connections = failing().await;
    let mut transaction = connections.write().await.unwrap();
    let behind = Behind {
        key: ("u", "http"),
        sequence: 1,
        due: NOW + 3_600_000,
    };
    for statement in [
        delete("http", &["next"]),
        insert_pending(&[row("next", 0, "a")], NOW),
        release(&[behind], "a"),
    ] {
        transaction.execute(statement).await.unwrap();
    }
    transaction.commit().await.unwrap();
    assert_next_is_due(&connections).await;
}

/// With leases in a bucket, only a node that has looked before can tell that the holder is dead.
#[tokio::test]
async fn event_of_a_busy_upload_stays_with_the_node_that_looked() {
    let connections = failing().await;
    let mut transaction = connections.write().await.unwrap();
    let abandon = abandon_prepared(&["next"], "b", NOW);
    transaction.execute(abandon).await.unwrap();
    for (me, at, claimed) in [
        ("a", NOW, 1),
        ("c", NOW + 1, 0),
        ("a", NOW, 0),
        ("a", NOW + 1, 1),
    ] {
        let claim = claim_in_doubt(me, at, (1, 1), 10, true);
        let rows = transaction.fetch(claim).await.unwrap();
        assert_eq!(rows.len(), claimed, "{me} at {at}");
    }
    // When the node dies, any other takes it.
    transaction.execute(take_over("a", 0, NOW)).await.unwrap();
    let claim = claim_in_doubt("c", NOW, (1, 1), 10, true);
    assert_eq!(transaction.fetch(claim).await.unwrap().len(), 1);
}
