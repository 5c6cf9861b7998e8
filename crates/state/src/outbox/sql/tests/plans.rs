//! Query plans: no statement scans all deliveries.

use super::super::*;
use crate::outbox::{MIGRATIONS, TABLE_SET};
#[cfg(feature = "postgres")]
use crate::sql::Transaction;
use crate::sql::{Connections, Database, Durability, Statement, from_unix_millis};

/// Rows of the table: four fifths are pending, the others have failed, are prepared or dead.
const ROWS: i64 = 30_000;

async fn filled(database: &Database) -> Connections {
    let connections = database.open(Durability::ProcessCrash).await.unwrap();
    connections.migrate(TABLE_SET, MIGRATIONS).await.unwrap();
    let numbers = if connections.is_postgres() {
        format!("SELECT n FROM generate_series(1, {ROWS}) AS n")
    } else {
        format!(
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < {ROWS}) \
             SELECT n FROM r"
        )
    };
    let insert = format!(
        "INSERT INTO outbox_deliveries (event_id, route, ordering_key, sequence, event_name, state, \
         owner_node, due_at, created_at, attempts, first_failed_at, dead_at, message, bytes) \
         SELECT 'e' || n, 'http', 'u' || (n / 3), n, 'post-finish', \
         CASE n % 20 WHEN 1 THEN 0 WHEN 2 THEN 2 ELSE 1 END, \
         CASE WHEN n % 100 = 0 THEN 'me' ELSE '' END, n, n, 0, \
         CASE n % 20 WHEN 3 THEN n END, CASE n % 20 WHEN 2 THEN n END, CAST($1 AS TEXT), 1000 \
         FROM ({numbers}) AS numbers"
    );
    let insert = Statement::new(insert).with("x".repeat(1000));
    let mut transaction = connections.write().await.unwrap();
    transaction.execute(insert).await.unwrap();
    transaction.commit().await.unwrap();
    connections
}

async fn analyze(connections: &Connections) {
    let mut transaction = connections.write().await.unwrap();
    let analyze = transaction.execute(Statement::new("ANALYZE"));
    analyze.await.unwrap();
    transaction.commit().await.unwrap();
}

fn row(event: &str) -> NewRow<'_> {
    NewRow {
        event,
        route: "http",
        key: "u9",
        sequence: 1,
        hook: "post-finish",
        owner: "me".to_owned(),
        message: "{}",
        headers: None,
    }
}

/// All statements that a server executes regularly, except plain inserts.
fn statements(is_postgres: bool) -> Vec<(&'static str, Statement)> {
    let now = ROWS / 2;
    let held = OrderHold {
        limit: Some(60_000),
    };
    let strict = OrderHold { limit: None };
    // Only a few are due later.
    let [retry, wake] = retry_now("http", ROWS - 10, i64::MIN);
    let [recovered, held_again] = recover("http", now, now);
    let behind = Behind {
        key: ("u9", "http"),
        sequence: 9,
        due: now,
    };
    let [unrouted, unrouted_failed] = mark_unrouted("gone", now, now);
    let failed = Failed {
        event: "e9",
        route: "http",
        attempts: 3,
        due: Some(now),
        error: "no",
    };
    let of = |attempt, hold| claim(attempt, "http", "me", now, hold, 512, is_postgres);
    vec![
        ("due", due(&["http", "grpc"], now)),
        ("oldest", oldest(&["http", "grpc"])),
        ("claim", of(Attempt::First, held)),
        ("strict claim", of(Attempt::First, strict)),
        ("retries", of(Attempt::Retry, held)),
        (
            "owners",
            owned_elsewhere("http", &["u9", "u10"], "me", now, held),
        ),
        (
            "behind",
            release_behind("http", &[("e9", "u3")], now, held, is_postgres),
        ),
        ("in doubt", is_in_doubt("me", now)),
        (
            "claim in doubt",
            claim_in_doubt("me", now, (1, 2), 64, is_postgres),
        ),
        ("prepare", prepare(&[row("e9")], now)),
        ("emit unprepared", emit_unprepared(&[row("e9")], now)),
        ("emit", emit(&[row("e9")], now)),
        (
            "supersede",
            supersede("post-finish", &[("u9", 100), ("u11", 100)]),
        ),
        ("delete", delete("http", &["e9", "e10"])),
        (
            "record",
            record_delivered("http", &["e11", "e12"], now, is_postgres),
        ),
        ("prepared", prepared(&["e9", "e10"])),
        ("promote", promote("e9", "http", ("{}", 5), Some("me"), now)),
        ("delete prepared", delete_prepared("e9", "me")),
        ("requeue", requeue(&["e9"], "me")),
        ("abandon", abandon_prepared(&["e9"], "me", now)),
        ("release", release(std::slice::from_ref(&behind), "me")),
        ("reschedule", reschedule(&[behind])),
        ("failures", record_failures(&[failed], "me", now)),
        ("mark dead", mark_dead("e9", "http", "no", now)),
        ("recover", recovered),
        ("hold again", held_again),
        ("retry", retry),
        ("wake", wake),
        ("resolve by", resolve_by(ROWS - 10, i64::MIN)),
        ("failed events", crate::outbox::admin::failed_events()),
        ("purge", purge_dead(from_unix_millis(100))),
        ("unrouted", unrouted),
        ("unrouted and failed", unrouted_failed),
        ("take over", take_over("me", PENDING, now)),
        ("take over prepared", take_over("me", PREPARED, now)),
        ("adopt", adopt_orphaned(PENDING, now)),
    ]
}

#[tokio::test]
async fn sqlite_statements_scan_no_deliveries() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(dir.path().join("events.db"));
    let connections = filled(&database).await;
    check_plans(&connections).await;
    analyze(&connections).await;
    check_plans(&connections).await;
}

async fn check_plans(connections: &Connections) {
    for (name, statement) in statements(false) {
        let rows = connections.read(statement.explain()).await.unwrap();
        let steps: Vec<_> = rows.iter().map(|row| row.text("detail").unwrap()).collect();
        for step in &steps {
            // These indexes have only rows that nodes own, which are few, and failed ones, up to a limit.
            let few = ["owned", "dead", "retries"].map(|index| format!("INDEX outbox_{index}"));
            if few.iter().any(|index| step.ends_with(index)) {
                continue;
            }
            // `outbox_deliveries`, or `d` and `e` for it.
            let table = step.strip_prefix("SCAN ").unwrap_or_default();
            let table = table.split(' ').next().unwrap_or_default();
            let is_scan = ["outbox_deliveries", "d", "e"].contains(&table)
                // All waiting rows of a route. The oldest is the first in the index; a recovery and a
                // restart reschedule all.
                || !["oldest", "recover", "retry"].contains(&name)
                    && step.starts_with("SEARCH outbox_deliveries USING INDEX outbox_")
                    && step.ends_with(" (route=?)");
            assert!(!is_scan, "{name}: {steps:#?}");
        }
    }
}

/// PostgreSQL counts scans, which is more certain than query plans.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_statements_scan_no_deliveries() {
    let postgres = landfall_test_services::Postgres::shared();
    let connections = filled(&Database::Postgres(postgres.database("plans"))).await;
    analyze(&connections).await;
    // The connection may still have counts of earlier transactions.
    let scans = async |transaction: &mut Transaction| {
        let scans = "SELECT seq_scan FROM pg_stat_xact_user_tables \
                     WHERE relname = 'outbox_deliveries'";
        let rows = transaction.fetch(Statement::new(scans)).await.unwrap();
        rows[0].number("seq_scan").unwrap()
    };
    for (name, statement) in statements(true) {
        // Dropping the transaction rolls it back.
        let mut transaction = connections.write().await.unwrap();
        let before = scans(&mut transaction).await;
        transaction.execute(statement).await.unwrap();
        let after = scans(&mut transaction).await;
        assert_eq!(before, after, "{name} scans the table");
    }
    // A scan is detected.
    let mut transaction = connections.write().await.unwrap();
    let before = scans(&mut transaction).await;
    let all = Statement::new("SELECT COUNT(*) FROM outbox_deliveries WHERE message <> ''");
    transaction.fetch(all).await.unwrap();
    assert!(scans(&mut transaction).await > before);
}

/// Returns the counts by the triggers and by the rows.
async fn both_counts(connections: &Connections) -> [Vec<(String, i64, i64, i64)>; 2] {
    let by_rows = "SELECT route, state, COUNT(*) AS deliveries, \
                   CAST(SUM(bytes) AS BIGINT) AS bytes \
                   FROM outbox_deliveries GROUP BY route, state";
    let mut counts_found = Vec::new();
    for statement in [counts(), Statement::new(by_rows)] {
        let rows = connections.read(statement).await.unwrap();
        let mut all: Vec<_> = rows
            .iter()
            .map(|row| {
                let number = |column| row.number(column).unwrap();
                let route = row.text("route").unwrap();
                (
                    route,
                    number("state"),
                    number("deliveries"),
                    number("bytes"),
                )
            })
            .filter(|(_, _, rows, _)| *rows > 0)
            .collect();
        all.sort();
        counts_found.push(all);
    }
    counts_found.try_into().unwrap()
}

async fn check_counts(database: &Database) {
    let connections = filled(database).await;
    let [counted, actual] = both_counts(&connections).await;
    assert_eq!(counted, actual);
    assert_eq!(actual.iter().map(|one| one.2).sum::<i64>(), ROWS);
    let is_postgres = connections.is_postgres();
    for (name, statement) in statements(is_postgres) {
        let mut transaction = connections.write().await.unwrap();
        transaction.execute(statement).await.unwrap();
        transaction.commit().await.unwrap();
        let [counted, actual] = both_counts(&connections).await;
        assert_eq!(counted, actual, "{name}");
    }
    // As after many connections.
    if is_postgres {
        let shards = "INSERT INTO outbox_counts SELECT -n, 'http', 1, 0, 0 \
                      FROM generate_series(1, 300) AS n";
        let mut transaction = connections.write().await.unwrap();
        transaction.execute(Statement::new(shards)).await.unwrap();
        transaction.commit().await.unwrap();
        merge_counts(&connections).await.unwrap();
        let rows = Statement::new("SELECT COUNT(*) AS count FROM outbox_counts");
        let rows = connections.read(rows).await.unwrap();
        assert!(rows[0].number("count").unwrap() < 10);
        let [counted, actual] = both_counts(&connections).await;
        assert_eq!(counted, actual, "merged");
    }
}

#[tokio::test]
async fn counts_match_rows_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    check_counts(&Database::Sqlite(dir.path().join("events.db"))).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn counts_match_rows_on_postgres() {
    let postgres = landfall_test_services::Postgres::shared();
    check_counts(&Database::Postgres(postgres.database("counts"))).await;
}
