//! Query plans: every statement uses an index.

use tempfile::TempDir;

use super::super::{MIGRATIONS, Query, Scope, StaleFilter, TABLES, feed, list, load, purge, read};
use crate::queue::{JobId, JobState};
#[cfg(feature = "postgres")]
use crate::sql::Transaction;
use crate::sql::{Connections, Database, Durability, Statement};

async fn database() -> (TempDir, Connections) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(folder.path().join("queue.db"));
    let connections = database.open(Durability::ProcessCrash).await.unwrap();
    connections.migrate(TABLES, MIGRATIONS).await.unwrap();
    (folder, connections)
}

/// Returns the query plan, one step per line.
async fn plan(connections: &Connections, statement: Statement) -> String {
    let rows = connections.read(statement.explain()).await.unwrap();
    let steps = rows.iter().map(|row| row.text("detail").unwrap() + "\n");
    steps.collect()
}

fn query(change: impl FnOnce(&mut Query)) -> Query {
    let mut query = Query::new(Scope::All);
    query.after = Some(JobId(5));
    change(&mut query);
    query
}

const ROWS: i64 = 30_000;

/// All statements that search in growing tables.
fn statements(is_postgres: bool) -> Vec<(&'static str, Statement)> {
    let own = Scope::Subject("s".into());
    let filter = StaleFilter {
        before: std::time::UNIX_EPOCH,
        since: std::time::UNIX_EPOCH,
    };
    let two = vec![JobState::Started, JobState::Completed];
    vec![
        ("number", read::by_number(1)),
        ("token", read::by_token("h")),
        ("request", read::by_request("s", "r")),
        ("upload", read::by_upload("u")),
        ("all", list::walk(&query(|_| ()), 10)),
        (
            "newest",
            list::walk(&query(|query| query.newest_first = true), 10),
        ),
        (
            "states",
            list::walk(&query(|query| query.states.clone_from(&two)), 10),
        ),
        (
            "own",
            list::walk(&query(|query| query.scope = own.clone()), 10),
        ),
        (
            "own in states",
            list::walk(
                &query(|query| {
                    query.scope = own.clone();
                    query.states.clone_from(&two);
                }),
                10,
            ),
        ),
        (
            "search",
            list::search_blocks(
                &query(|query| query.search = Some("a".into())),
                &[1, 2],
                10,
                false,
            ),
        ),
        (
            "own search in states",
            list::search_blocks(
                &query(|query| {
                    query.search = Some("a".into());
                    query.scope = own.clone();
                    query.states.clone_from(&two);
                }),
                &[1, 2],
                10,
                false,
            ),
        ),
        (
            "created",
            list::walk(
                &query(|query| {
                    query.created_from = Some(std::time::UNIX_EPOCH);
                    query.numbers = Some((3, 9));
                }),
                10,
            ),
        ),
        (
            "search created",
            list::search_blocks(
                &query(|query| {
                    query.search = Some("a".into());
                    query.created_before = Some(std::time::UNIX_EPOCH);
                }),
                &[1, 2],
                10,
                false,
            ),
        ),
        ("next number", list::next_number(5)),
        ("number_range", list::number_range()),
        ("stale", read::stale(filter, Some((5, 5)), 10)),
        ("events", read::events_of(&Scope::All, 5, 90, 10)),
        ("own events", read::events_of(&own, 5, 90, 10)),
        ("active", load::active("s", 5)),
        ("recent", load::recent("s", 100, 1)),
        ("expired", purge::expired(5, (3, 5))),
        ("next expiry", purge::next_expiry(5)),
        ("ended", purge::ended(5, is_postgres)),
        ("old events", purge::old_events(5)),
        ("numbers", read::by_numbers(&[1, 2, 3])),
        ("newest event", feed::newest_event(90)),
    ]
}

#[tokio::test]
async fn sqlite_reads_names_from_their_index_only() {
    let (_folder, connections) = database().await;
    let search = query(|query| query.search = Some("a".into()));
    let plan = plan(
        &connections,
        list::search_blocks(&search, &[1, 2], 10, true),
    )
    .await;
    assert!(
        plan.contains("COVERING INDEX queue_search_name (<expr>=?)"),
        "{plan}"
    );
    assert!(!plan.contains("SCAN queue_jobs"), "{plan}");
}

#[tokio::test]
async fn sqlite_walks_indexes() {
    let (_folder, connections) = database().await;
    for (what, statement) in statements(false) {
        let plan = plan(&connections, statement).await;
        println!("{what}\n{plan}");
        for step in plan.lines() {
            // Results of subqueries may be scanned. Events are deleted in small batches from the
            // oldest.
            let found = ["s0", "s1", "jobs", "found", "CONSTANT ROW"];
            let is_found = |table: &str| found.iter().any(|found| table.starts_with(found));
            let table = step.strip_prefix("SCAN ");
            let is_walk = table.is_none_or(|table| is_found(table) || what == "old events");
            assert!(is_walk, "{what}: {plan}");
        }
    }
}

/// PostgreSQL counts sequential scans, which is more reliable than reading its plans.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_scans_no_table() {
    let postgres = landfall_test_services::Postgres::shared();
    let database = Database::Postgres(postgres.database("plans"));
    let connections = database.open(Durability::ProcessCrash).await.unwrap();
    connections.migrate(TABLES, MIGRATIONS).await.unwrap();
    let fill = [
        format!(
            "INSERT INTO queue_jobs (number, subject, request_id, filename, filename_key, metadata, \
             quota_period, created_at, expires_at, state, upload_offset, rate, \
             rate_measured_at, upload_id, reserved_bytes, updated_at, \
             updated_minute, ended_at) \
             SELECT n, 's' || n % 1000, 'r' || n, 'f' || n, 'f' || n, '{{}}', 0, n, n, \
             CASE WHEN n % 100 < 3 THEN n % 100 ELSE 3 END, 0, 0, 0, 'u' || n, 0, n, n / 60000, \
             CASE WHEN n % 100 < 3 THEN NULL ELSE n END \
             FROM generate_series(1, {ROWS}) AS n"
        ),
        format!(
            "INSERT INTO queue_events (number, job_number, subject, kind, created_at, job_json) \
             SELECT n, n, 's' || n % 1000, 0, n, '{{}}' FROM generate_series(1, {ROWS}) AS n"
        ),
        format!(
            "INSERT INTO queue_tokens (hash, job_number) \
             SELECT 'h' || n, n FROM generate_series(1, {ROWS}) AS n"
        ),
        "ANALYZE".to_owned(),
    ];
    let mut transaction = connections.write().await.unwrap();
    for sql in fill {
        transaction.execute(Statement::new(sql)).await.unwrap();
    }
    transaction.commit().await.unwrap();
    // The connection may still have counts of earlier transactions.
    let scans = async |transaction: &mut Transaction| {
        let scans = "SELECT CAST(SUM(seq_scan) AS BIGINT) AS scans FROM pg_stat_xact_user_tables \
                     WHERE relname IN ('queue_jobs', 'queue_events', 'queue_tokens')";
        let rows = transaction.fetch(Statement::new(scans)).await.unwrap();
        rows[0].number("scans").unwrap()
    };
    for (name, statement) in statements(true) {
        // Rolled back when dropped.
        let mut transaction = connections.write().await.unwrap();
        let before = scans(&mut transaction).await;
        transaction.execute(statement).await.unwrap();
        assert_eq!(
            before,
            scans(&mut transaction).await,
            "{name} scans a table"
        );
    }
    let mut transaction = connections.write().await.unwrap();
    let before = scans(&mut transaction).await;
    let all = Statement::new("SELECT COUNT(*) FROM queue_jobs WHERE filename <> ''");
    transaction.fetch(all).await.unwrap();
    assert!(scans(&mut transaction).await > before, "a scan is counted");
}
