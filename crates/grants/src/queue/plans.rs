//! How SQLite goes about what is read: every statement walks an index, whatever it finds.

use landfall_database::{Connections, Database, Durability, Statement};
use tempfile::TempDir;

use super::{MIGRATIONS, Query, Scope, StaleFilter, TABLES, expiry, load, read, search, tidy};
use crate::{JobId, JobState};

async fn database() -> (TempDir, Connections) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(folder.path().join("queue.db"));
    let connections = database.open(Durability::Process).await.unwrap();
    connections.migrate(TABLES, MIGRATIONS).await.unwrap();
    (folder, connections)
}

/// The steps of a statement, one in a line.
async fn plan(connections: &Connections, statement: Statement) -> String {
    let rows = connections.read(statement.explained()).await.unwrap();
    let steps = rows.iter().map(|row| row.text(3).unwrap() + "\n");
    steps.collect()
}

fn query(change: impl FnOnce(&mut Query)) -> Query {
    let mut query = Query::new(Scope::All);
    query.after = Some(JobId(5));
    change(&mut query);
    query
}

#[tokio::test]
async fn everything_walks_an_index() {
    let (_folder, connections) = database().await;
    let own = Scope::Subject("s".into());
    let filter = StaleFilter {
        before: std::time::UNIX_EPOCH,
        since: std::time::UNIX_EPOCH,
    };
    let two = vec![JobState::Started, JobState::Completed];
    for (what, statement) in [
        ("number", read::by_number(1)),
        ("token", read::by_token("h")),
        ("request", read::by_request("s", "r")),
        ("upload", read::by_upload("u")),
        ("all", read::walk(&query(|_| ()), 10)),
        (
            "newest",
            read::walk(&query(|query| query.newest_first = true), 10),
        ),
        (
            "states",
            read::walk(&query(|query| query.states.clone_from(&two)), 10),
        ),
        (
            "own",
            read::walk(&query(|query| query.scope = own.clone()), 10),
        ),
        (
            "own in states",
            read::walk(
                &query(|query| {
                    query.scope = own.clone();
                    query.states.clone_from(&two);
                }),
                10,
            ),
        ),
        (
            "search",
            search::in_blocks(&query(|query| query.search = Some("a".into())), &[1, 2], 10),
        ),
        (
            "search of one's own in states",
            search::in_blocks(
                &query(|query| {
                    query.search = Some("a".into());
                    query.scope = own.clone();
                    query.states.clone_from(&two);
                }),
                &[1, 2],
                10,
            ),
        ),
        ("ends", search::ends()),
        ("some of a subject", search::some_of("s")),
        ("stale", read::stale(filter, Some((5, 5)), 10)),
        ("events", read::events_of(&Scope::All, 5, 10)),
        ("own events", read::events_of(&own, 5, 10)),
        ("active", load::active("s", 5)),
        ("recent", load::recent("s", 100, 1)),
        ("lapsed", tidy::lapsed(5)),
        ("next expiry", expiry::next_expiry(5)),
        ("ended", tidy::ended(5, false)),
        ("old events", tidy::old_events(5)),
    ] {
        let plan = plan(&connections, statement).await;
        println!("{what}\n{plan}");
        for step in plan.lines() {
            // What was found already may be looked at; a table is entered by an index. Events are
            // removed a few at a time, beginning with the oldest.
            let found = ["s0", "s1", "jobs", "found", "CONSTANT ROW"];
            let is_found = |table: &str| found.iter().any(|found| table.starts_with(found));
            let table = step.strip_prefix("SCAN ");
            let is_walk = table.is_none_or(|table| is_found(table) || what == "old events");
            assert!(is_walk, "{what}: {plan}");
        }
    }
}
