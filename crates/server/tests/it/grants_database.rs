//! The database of grants: versions of its tables, missing rights, and faults of the network.

use std::{
    fs,
    time::{Duration, Instant},
};

use landfall_state::sql::{Connections, Durability, Statement};
use landfall_test_services::{Fault, FaultProxy, Postgres};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    grants_harness::{Caller, add_key},
    serve_harness::{Landfall, Request, eventually, program, run},
};

fn readiness(server: &Landfall) -> u16 {
    server.client().ask(Request::get("/readyz")).status
}

pub(crate) fn add_key_in(database: &str) -> String {
    let mut command = program();
    let (code, key, told) = run(command.args(["keys", "add", "app", "-database", database]));
    assert_eq!(code, Some(0), "{told}");
    key.trim_end().to_owned()
}

fn server(database: &str) -> Landfall {
    Landfall::start(&["-grants", "-database", database])
}

fn grant(server: &Landfall, key: &str, id: &str) -> u16 {
    let ask = json!({"id": id, "filename": "a.bin", "filesize": 3});
    Caller::new(server, key).grant(&ask).0
}

#[test]
fn an_older_server_works_until_tables_are_contracted() {
    let postgres = Postgres::shared();
    let database = postgres.database("versions");
    let key = add_key_in(&database);
    let one = server(&database);
    assert_eq!(grant(&one, &key, "1"), 201);
    // Simulates the migration of a newer server.
    postgres.query(
        &database,
        "ALTER TABLE queue_jobs ADD COLUMN newer TEXT; \
         INSERT INTO landfall_migrations SELECT 'queue', MAX(version) + 1, 'newer', 0 \
         FROM landfall_migrations WHERE name = 'queue'",
    );
    let two = server(&database);
    assert_eq!(grant(&one, &key, "2"), 201);
    assert_eq!(grant(&two, &key, "3"), 201);
    assert_eq!(readiness(&one), 200);
    two.stop();
    postgres.query(
        &database,
        "UPDATE landfall_migrations SET contracting = 1 WHERE checksum = 'newer'",
    );
    for words in [
        &["serve", "-grants", "-port=0", "-host=127.0.0.1"][..],
        &["keys", "list"],
        &["migrate"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = program();
        command.args(words).args(["-database", &database]);
        command.args(["-upload-dir".as_ref(), dir.path().as_os_str()]);
        let (code, _, error) = run(&mut command);
        assert_eq!(code, Some(1), "{words:?}: {error}");
        assert!(
            error.contains("this program is too old for"),
            "{words:?}: {error}"
        );
    }
}

fn migrate(database: &str) {
    let mut command = program();
    let (code, said, error) = run(command.args(["migrate", "-database", database]));
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains("are up to date"), "{said}");
}

/// Before the first start, between starts, and while a server runs.
fn migrate_again_and_again(database: &str) {
    migrate(database);
    migrate(database);
    let key = add_key_in(database);
    let one = server(database);
    assert_eq!(grant(&one, &key, "1"), 201);
    migrate(database);
    assert_eq!((grant(&one, &key, "1"), readiness(&one)), (200, 200));
    one.stop();
    migrate(database);
    let two = server(database);
    assert_eq!((grant(&two, &key, "1"), grant(&two, &key, "2")), (200, 201));
    two.stop();
}

#[test]
fn a_file_is_migrated_by_command() {
    let dir = tempfile::tempdir().unwrap();
    migrate_again_and_again(dir.path().join("landfall.db").to_str().unwrap());
}

#[test]
fn tables_are_migrated_by_command() {
    let database = Postgres::shared().database("migrate");
    migrate_again_and_again(&database);
    let tables = Postgres::shared().query(
        &database,
        "SELECT name FROM landfall_migrations ORDER BY name",
    );
    for name in ["outbox", "queue"] {
        assert!(tables.lines().any(|line| line == name), "{tables}");
    }
}

#[test]
fn a_server_without_permissions_is_unready() {
    let postgres = Postgres::shared();
    let database = postgres.database("rights");
    let key = add_key_in(&database);
    let role = database.rsplit('/').next().unwrap().to_owned();
    postgres.query(
        &database,
        &format!(
            "CREATE ROLE {role:?} LOGIN; GRANT ALL ON SCHEMA public TO {role:?}; \
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {role:?}; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role:?}"
        ),
    );
    let server = server(&database.replace("landfall@", &format!("{role}@")));
    assert_eq!((readiness(&server), grant(&server, &key, "1")), (200, 201));
    let change = |what: &str| postgres.query(&database, &format!("{what} {role:?}"));
    change("REVOKE INSERT ON queue_jobs FROM");
    eventually("the server stays ready", || readiness(&server) == 503);
    assert_eq!(grant(&server, &key, "2"), 503);
    change("GRANT INSERT ON queue_jobs TO");
    eventually("the server does not become ready", || {
        readiness(&server) == 200
    });
    assert_eq!(grant(&server, &key, "2"), 201);
}

#[test]
fn an_unresponsive_database_delays_requests_by_seconds() {
    let database = Postgres::shared().database("faults");
    let key = add_key_in(&database);
    let (_, rest) = database.split_once('@').unwrap();
    let (authority, _) = rest.split_once('/').unwrap();
    let proxy = FaultProxy::start(authority);
    let server = server(&proxy.url(&database, authority));
    assert_eq!(grant(&server, &key, "0"), 201);
    for (nth, fault) in [Fault::BlackHole, Fault::Cut, Fault::HalfClose]
        .into_iter()
        .enumerate()
    {
        proxy.set(fault);
        let start = Instant::now();
        assert_eq!(grant(&server, &key, &format!("lost-{nth}")), 503);
        assert!(start.elapsed() < Duration::from_secs(15), "{fault:?}");
        // As after a failover: new connections work, those from before stay dead.
        proxy.set(Fault::None);
        let start = Instant::now();
        eventually("grants stay refused", || {
            grant(&server, &key, &format!("{nth}")) < 300
        });
        assert!(start.elapsed() < Duration::from_secs(10), "{fault:?}");
        eventually("the server does not become ready", || {
            readiness(&server) == 200
        });
    }
}

/// Of grants and of events: both probes wait at the same time, so `landfall health` gets its response.
#[test]
fn an_unresponsive_database_delays_readiness_by_one_timeout() {
    let database = Postgres::shared().database("unready");
    let (_, rest) = database.split_once('@').unwrap();
    let (authority, _) = rest.split_once('/').unwrap();
    let proxy = FaultProxy::start(authority);
    let server = Landfall::start(&[
        "-grants",
        "-database",
        &proxy.url(&database, authority),
        "-hooks-http=http://127.0.0.1:9/",
        "-hooks-enabled-events=post-finish",
    ]);
    assert_eq!(readiness(&server), 200);
    proxy.set(Fault::BlackHole);
    // Results are cached for three seconds.
    std::thread::sleep(Duration::from_secs(4));
    let start = Instant::now();
    let page = server.client().ask(Request::get("/readyz")).text();
    let waited = start.elapsed();
    for part in ["outbox", "grants"] {
        assert!(page.contains(&format!("the {part} database")), "{page}");
    }
    assert!(waited < Duration::from_secs(6), "{waited:?}");
}

#[test]
fn a_deleted_database_file_is_noticed() {
    let server = Landfall::start(&["-grants"]);
    let key = add_key(server.dir(), &["app"]);
    let file = server.dir().join(".landfall/landfall.db");
    let ask = json!({"id": "1", "filename": "a.bin", "filesize": 3});
    assert_eq!(Caller::new(&server, &key).grant(&ask).0, 201);
    let start = Instant::now();
    fs::remove_file(&file).unwrap();
    eventually("the server stays ready", || readiness(&server) == 503);
    assert!(start.elapsed() < Duration::from_secs(5));
    server.says("was deleted or replaced; restart the server");
    let again = json!({"id": "2", "filename": "a.bin", "filesize": 3});
    assert_eq!(Caller::new(&server, &key).grant(&again).0, 503);
}

/// Grants, events, progress and leases.
#[test]
fn a_node_has_at_most_five_connections_and_reports_a_full_server() {
    const MAX: usize = 12;
    let postgres = Postgres::limited(MAX as u16);
    let database = postgres.database("five");
    let key = add_key_in(&database);
    let server = Landfall::start(&[
        "-grants",
        "-database",
        &database,
        "-lease",
        &database,
        "-hooks-http=http://127.0.0.1:9/",
        "-hooks-enabled-events=post-finish",
    ]);
    let connected = || -> usize {
        let count = "SELECT COUNT(*) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid() \
                     AND backend_type = 'client backend'";
        postgres.query(&database, count).trim().parse().unwrap()
    };
    assert_eq!(readiness(&server), 200);
    assert!((1..=5).contains(&connected()), "{}", connected());
    let mut most = 0;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let (server, key) = (&server, &key);
                scope.spawn(move || {
                    for n in 0..40 {
                        assert_eq!(grant(server, key, &format!("{thread}-{n}")), 201);
                        // An upload has a lease.
                        server
                            .client()
                            .ask(Request::post().with("Upload-Length", 3));
                    }
                })
            })
            .collect();
        while !threads
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            most = most.max(connected());
        }
    });
    assert!((2..=5).contains(&most), "{most}");

    // Others take all connections, and keep them. The server is stopped meanwhile: it takes those
    // that become free as fast as this test does.
    server.signal(Signal::STOP);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let held = runtime.block_on(async {
        let others = Connections::to_postgres(&database, Durability::PowerLoss, 100).unwrap();
        let mut held = Vec::new();
        while held.len() < MAX {
            let idle = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
                        WHERE state = 'idle' AND pid <> pg_backend_pid()";
            if let Ok(Ok(mut one)) = timeout(Duration::from_millis(500), others.write()).await {
                let keep = "SET LOCAL idle_in_transaction_session_timeout = 0";
                one.fetch(Statement::new(keep)).await.unwrap();
                one.fetch(Statement::new(idle)).await.unwrap();
                held.push(one);
            }
        }
        held
    });
    server.signal(Signal::CONT);
    eventually("the server stays ready", || readiness(&server) == 503);
    eventually("the reason is missing", || {
        let page = server.client().ask(Request::get("/readyz")).text();
        page.contains("too many clients already")
    });
    server.says("too many clients already");
    drop(held);
    eventually("the server does not become ready", || {
        readiness(&server) == 200
    });
    assert_eq!(grant(&server, &key, "again"), 201);
}
