//! The public API of the database, with SQLite and PostgreSQL.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use landfall_state::sql::{Connections, Database, DatabaseError, Durability, Migration, Statement};

const FIRST: Migration = step("CREATE TABLE things (name TEXT NOT NULL, size BIGINT);");
const SECOND: Migration = step(
    "-- Comments may hold a ; as well.\nCREATE INDEX things_name ON things (name);\n\
     INSERT INTO things VALUES ('a', 1);",
);

const fn step(sql: &'static str) -> Migration {
    Migration::expand(sql, sql)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn names(database: &Connections) -> Vec<(String, Option<i64>)> {
    let rows = Statement::new("SELECT name, size FROM things ORDER BY name");
    let rows = database.read(rows).await.unwrap();
    let pair = |row: &landfall_state::sql::Row| {
        (row.text("name").unwrap(), row.opt_number("size").unwrap())
    };
    rows.iter().map(pair).collect()
}

async fn stores_committed_rows(database: Database) {
    let open = async || database.open(Durability::PowerLoss).await.unwrap();
    let one = open().await;
    one.migrate("things", &[FIRST]).await.unwrap();
    // Another process migrates further; two that migrate concurrently do not conflict.
    let (two, three) = (open().await, open().await);
    let steps = [FIRST, SECOND];
    let (left, right) = tokio::join!(
        two.migrate("things", &steps),
        three.migrate("things", &steps)
    );
    left.unwrap();
    right.unwrap();
    assert_eq!(names(&one).await, [("a".to_owned(), Some(1))]);
    // An older program can use tables that were only expanded.
    one.migrate("things", &[FIRST]).await.unwrap();
    let more = "ALTER TABLE things ADD COLUMN color TEXT;";
    let tool = open().await.without_migrations();
    let contracted = [FIRST, SECOND, step(more)];
    let older = tool.migrate("things", &contracted).await.unwrap_err();
    assert!(matches!(
        older,
        DatabaseError::OlderSchema {
            version: 2,
            needed: 3,
            ..
        }
    ));
    assert!(older.to_string().contains("landfall migrate"), "{older}");
    one.migrate("things", &contracted).await.unwrap();
    tool.migrate("things", &contracted).await.unwrap();
    one.migrate("things", &steps).await.unwrap();
    // As a newer program records it.
    let contract = "UPDATE landfall_migrations SET contracting = 1 WHERE version = 3";
    one.execute(Statement::new(contract)).await.unwrap();
    let newer = one.migrate("things", &steps).await.unwrap_err();
    assert!(
        matches!(newer, DatabaseError::NewerSchema { version: 3, .. }),
        "{newer}"
    );
    let other = step("CREATE TABLE others (name TEXT);");
    let changed = one.migrate("things", &[other]).await.unwrap_err();
    assert!(
        matches!(changed, DatabaseError::Changed { version: 1, .. }),
        "{changed}"
    );
    // Missing tables are created even then: no program uses them yet.
    tool.migrate("others", &[other]).await.unwrap();

    let rows = [
        ["b".into(), 2.into()],
        ["it's \" \u{1f4e6}".into(), 3.into()],
    ];
    let head = "INSERT INTO things (name, size) SELECT * FROM";
    let insert = Statement::from_rows(head, rows, ["TEXT", "BIGINT"], "");
    let mut dropped = one.write().await.unwrap();
    assert_eq!(dropped.execute(insert.clone()).await.unwrap(), 2);
    drop(dropped);
    assert_eq!(names(&two).await.len(), 1);
    let mut committed = one.write().await.unwrap();
    committed.execute(insert).await.unwrap();
    committed.commit().await.unwrap();
    let expected = ["a", "b", "it's \" \u{1f4e6}"];
    let found: Vec<_> = names(&two)
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(found, expected);
    rejects_a_commit_after_an_error(&one).await;
    // A shared handle cannot close the connections, and queues for the writer.
    let shared = one.share();
    shared.close().await;
    let writes = (0..20).map(|n| {
        let one = if n % 2 == 0 {
            one.clone()
        } else {
            shared.clone()
        };
        tokio::spawn(async move {
            let mut write = one.write().await.unwrap();
            write
                .execute(Statement::new(
                    "UPDATE things SET size = size + 1 WHERE name = 'a'",
                ))
                .await
                .unwrap();
            write.commit().await.unwrap();
        })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }
    assert_eq!(names(&shared).await[0], ("a".to_owned(), Some(21)));
    one.close().await;
    assert!(one.write().await.is_err());
    assert!(shared.write().await.is_err());
}

async fn rejects_a_commit_after_an_error(database: &Connections) {
    let mut transaction = database.write().await.unwrap();
    let insert = Statement::new("INSERT INTO things (name) VALUES ($1)");
    transaction.execute(insert.with("lost")).await.unwrap();
    let bad = Statement::new("INSERT INTO things (name) VALUES (NULL)");
    let error = transaction.execute(bad).await.unwrap_err();
    assert!(error.is_statement_error(), "{error}");
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, DatabaseError::Aborted), "{error}");
    let rows = Statement::new("SELECT name FROM things WHERE name = 'lost'");
    assert!(database.read(rows).await.unwrap().is_empty());
    let none = Statement::new("UPDATE things SET size = size WHERE name IS NULL");
    database.check([none]).await.unwrap();
    let nothing = Statement::new("UPDATE nothing SET size = size");
    assert!(database.check([nothing]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_or_replaced_file_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let database = Database::Sqlite(file.clone());
    let open = database.open(Durability::PowerLoss).await.unwrap();
    open.migrate("things", &[FIRST]).await.unwrap();
    fs::rename(&file, folder.path().join("elsewhere.db")).unwrap();
    for _ in 0..2 {
        let error = open.write().await.unwrap_err();
        assert!(matches!(error, DatabaseError::Replaced(_)), "{error}");
        assert!(open.check([]).await.is_err());
        assert!(open.read(Statement::new("SELECT 1")).await.is_err());
        fs::write(&file, "").unwrap();
    }
}

/// The variable of the child process that has a small disk.
const SMALL_DISK: &str = "LANDFALL_TEST_SMALL_DISK";

#[tokio::test(flavor = "multi_thread")]
async fn writes_succeed_again_after_a_full_disk_is_freed() {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return fill(Path::new(&disk)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=2m tmpfs \"$0\" && exec \"$@\"")
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "sql::database::writes_succeed_again_after_a_full_disk_is_freed",
        ])
        .env(SMALL_DISK, folder.path())
        .status()
        .unwrap();
    assert!(status.success());
}

async fn fill(disk: &Path) {
    let filler = disk.join("filler");
    let database = Database::Sqlite(disk.join("events.db"));
    let open = database.open(Durability::PowerLoss).await.unwrap();
    open.migrate("things", &[FIRST]).await.unwrap();
    let write = async || {
        let mut transaction = open.write().await?;
        let insert = Statement::new("INSERT INTO things (name) VALUES ($1)");
        transaction.execute(insert.with("x".repeat(20_000))).await?;
        transaction.commit().await
    };
    for _ in 0..3 {
        write().await.unwrap();
        fs::write(&filler, vec![0; 4 << 20]).unwrap_err();
        // SQLite's log has free pages left.
        let error = loop {
            if let Err(error) = write().await {
                break error;
            }
        };
        assert!(!error.is_statement_error(), "{error}");
        assert!(open.check([]).await.is_err());
        fs::remove_file(&filler).unwrap();
        let freed = std::time::Instant::now();
        while write().await.is_err() {
            assert!(freed.elapsed() < std::time::Duration::from_secs(5));
        }
        open.check([]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state/events.db");
    stores_committed_rows(Database::Sqlite(file.clone())).await;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);

    let not_a_directory = folder.path().join("file");
    fs::write(&not_a_directory, "").unwrap();
    let error = Database::Sqlite(not_a_directory.join("events.db"))
        .open(Durability::PowerLoss)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    let postgres = landfall_test_services::Postgres::shared();
    let url = postgres.database("database");
    let database = Database::Postgres(url);
    assert_eq!(format!("{database:?}"), "Postgres(..)");
    stores_committed_rows(database).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_transaction_mode() {
    use landfall_test_services::{PgBouncer, Postgres};

    let url = Postgres::shared().database("bouncer");
    let bouncer = PgBouncer::start(&url);
    let url = bouncer.url(&url);
    stores_committed_rows(Database::Postgres(url.clone())).await;
    // More clients than connections, each with its own statements and transactions.
    let database = Database::Postgres(url);
    let clients = (0..6).map(|client| {
        let database = database.clone();
        tokio::spawn(async move {
            let open = database.open(Durability::PowerLoss).await.unwrap();
            for turn in 0..20_i64 {
                let sql = "SELECT COUNT(*) AS n FROM things WHERE size = $1 OR name = $2";
                let read = Statement::new(sql).with(turn).with(format!("{client}"));
                open.read(read).await.unwrap();
                let mut transaction = open.write().await.unwrap();
                let insert = Statement::new("INSERT INTO things (name, size) VALUES ($1, $2)");
                let insert = insert.with(format!("{client}")).with(turn);
                transaction.execute(insert).await.unwrap();
                transaction.commit().await.unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn connections_recover_from_network_faults() {
    use std::time::{Duration, Instant};

    use landfall_test_services::{Fault, FaultProxy, Postgres};

    let postgres = Postgres::shared();
    let url = postgres.database("faults");
    let authority = url
        .split_once('@')
        .and_then(|(_, rest)| rest.split_once('/'))
        .unwrap()
        .0;
    let proxy = FaultProxy::start(authority);
    let database = Database::Postgres(proxy.url(&url, authority));
    let open = database.open(Durability::PowerLoss).await.unwrap();
    open.migrate("things", &[FIRST]).await.unwrap();
    let write = async |name: &str| {
        let mut transaction = open.write().await?;
        let insert = Statement::new("INSERT INTO things (name) VALUES ($1)").with(name);
        transaction.execute(insert).await?;
        transaction.commit().await
    };
    let mut written = Vec::new();
    for fault in [
        Fault::BlackHole,
        Fault::Cut,
        Fault::HalfClose,
        Fault::Delay(Duration::from_millis(200)),
    ] {
        // The fault hits several idle connections.
        let many = (0..6).map(|_| open.read(Statement::new("SELECT pg_sleep(0.1)")));
        futures_util::future::join_all(many).await;
        let stuck = open.write().await.unwrap();
        proxy.set(fault);
        let start = Instant::now();
        let name = format!("{fault:?}");
        let (one, two, three) = tokio::join!(
            write(&name),
            open.read(Statement::new("SELECT 1")),
            stuck.commit()
        );
        let is_slow_only = matches!(fault, Fault::Delay(_));
        assert_eq!(one.is_ok(), is_slow_only, "{fault:?} {one:?}");
        assert_eq!(two.is_ok(), is_slow_only, "{fault:?}");
        assert_eq!(three.is_ok(), is_slow_only, "{fault:?}");
        assert!(start.elapsed() < Duration::from_secs(10), "{fault:?}");
        if one.is_ok() {
            written.push(name.clone());
        }
        proxy.set(Fault::None);
        let start = Instant::now();
        // While it is known to be down, calls fail at once.
        while let Err(error) = write("again").await {
            assert!(matches!(error, DatabaseError::Down(_)), "{fault:?} {error}");
            assert!(start.elapsed() < Duration::from_secs(5), "{fault:?}");
        }
        open.read(Statement::new("SELECT 1")).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "{fault:?}");
        written.push("again".to_owned());
    }
    let mut found: Vec<_> = names(&open)
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    found.retain(|name| name != "a");
    found.sort_unstable();
    written.sort_unstable();
    assert_eq!(found, written);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_known_outage_is_answered_at_once() {
    use std::time::{Duration, Instant};

    use landfall_test_services::Postgres;

    let mut postgres = Postgres::start(false);
    let database = Database::Postgres(postgres.database("outage"));
    let open = database.open(Durability::PowerLoss).await.unwrap();
    let read = || open.read(Statement::new("SELECT 1"));
    read().await.unwrap();
    postgres.stop();
    // The connection breaks, then the pool finds no server.
    while !matches!(read().await, Err(DatabaseError::Down(_))) {}
    let start = Instant::now();
    let calls = (0..20).map(|_| read());
    for result in futures_util::future::join_all(calls).await {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    postgres.restart();
    let start = Instant::now();
    while let Err(error) = read().await {
        assert!(start.elapsed() < Duration::from_secs(10), "{error}");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_one_that_writes_is_used() {
    use std::time::{Duration, Instant};

    use landfall_test_services::{Postgres, free_port};

    let (first, second) = (Postgres::start(false), Postgres::start(false));
    let hosts = [&first, &second].map(|server| {
        let url = server.url();
        let (_, rest) = url.split_once('@').unwrap();
        rest.split_once('/').unwrap().0.to_owned()
    });
    let (nobody, hosts) = (free_port(), hosts.join(","));
    let url = format!(
        "postgres://landfall@127.0.0.1:{nobody},{hosts}/postgres?target_session_attrs=read-write"
    );
    let open = Database::Postgres(url)
        .open(Durability::PowerLoss)
        .await
        .unwrap();
    // It may come before any statement.
    drop(open.listener().await.unwrap());
    let port = async || {
        let row = Statement::new("SELECT CAST(inet_server_port() AS BIGINT) AS port");
        open.read(row)
            .await
            .map(|rows| rows[0].number("port").unwrap())
    };
    let ports = [&first, &second].map(|server| {
        let url = server.url();
        url.rsplit_once(':')
            .unwrap()
            .1
            .split_once('/')
            .unwrap()
            .0
            .parse::<i64>()
            .unwrap()
    });
    assert_eq!(port().await.unwrap(), ports[0]);
    let waits_for = async |wanted: i64| {
        let start = Instant::now();
        while port().await.ok() != Some(wanted) {
            assert!(start.elapsed() < Duration::from_secs(4), "not on {wanted}");
        }
    };
    // It becomes read-only, as a primary that another one replaced.
    let read_only = "ALTER SYSTEM SET default_transaction_read_only = on";
    first.query(&first.url(), read_only);
    first.query(&first.url(), "SELECT pg_reload_conf()");
    let start = Instant::now();
    let write = Statement::new("CREATE TABLE IF NOT EXISTS moved (a INT)");
    loop {
        let done = open.execute(write.clone()).await;
        if done.is_ok() && port().await.ok() == Some(ports[1]) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{done:?}");
    }
    let writable = "ALTER SYSTEM RESET default_transaction_read_only";
    first.query(&first.url(), writable);
    first.query(&first.url(), "SELECT pg_reload_conf()");
    drop(second);
    waits_for(ports[0]).await;
}

/// Returns the number of connections of other clients to the database of a URL.
#[cfg(feature = "postgres")]
fn connected(postgres: &landfall_test_services::Postgres, url: &str) -> usize {
    let count = "SELECT COUNT(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND backend_type = 'client backend'";
    postgres.query(url, count).trim().parse().unwrap()
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_gives_its_reason_and_open_connections_are_shared() {
    use std::time::{Duration, Instant};

    use landfall_test_services::Postgres;

    let postgres = Postgres::limited(6);
    let url = postgres.database("full");
    let open = |max| Connections::to_postgres(&url, Durability::PowerLoss, max).unwrap();
    let (one, two) = (open(8), open(5));
    let mut held = Vec::new();
    while held.len() < 6 {
        held.push(one.write().await.unwrap());
    }
    let read = || two.read(Statement::new("SELECT pg_sleep(0.01)"));
    let error = read().await.unwrap_err().to_string();
    assert!(error.contains("too many clients already"), "{error}");
    let outage = two.known_outage().unwrap().to_string();
    assert!(outage.contains("too many clients already"), "{outage}");
    // A connection for it, and none for its other calls.
    drop(held.pop());
    let start = Instant::now();
    while let Err(error) = read().await {
        assert!(start.elapsed() < Duration::from_secs(10), "{error}");
    }
    for result in futures_util::future::join_all((0..50).map(|_| read())).await {
        result.unwrap();
    }
    assert!(two.known_outage().is_none());
    drop(held);
    for result in futures_util::future::join_all((0..50).map(|_| read())).await {
        result.unwrap();
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn listeners_and_calls_of_a_process_share_five_connections() {
    use futures_util::StreamExt as _;
    use landfall_test_services::Postgres;

    let postgres = Postgres::shared();
    let url = postgres.database("five");
    let open = Connections::to_postgres(&url, Durability::PowerLoss, 5).unwrap();
    let mut listeners = Vec::new();
    for channel in ["one", "two", "one"] {
        let mut listener = open.listener().await.unwrap();
        listener.listen(channel).await.unwrap();
        listeners.push(listener);
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let calls = async {
        let calls = (0..300).map(async |n| {
            let sleep = Statement::new("SELECT CAST(pg_sleep(0.02) AS TEXT)");
            match n % 3 {
                0 => open.write().await.unwrap().fetch(sleep).await.unwrap(),
                1 => open.read(sleep).await.unwrap(),
                _ => open.urgent().fetch(sleep).await.unwrap(),
            }
        });
        // More at once would wait longer than a call may, on a slow machine.
        let calls = futures_util::stream::iter(calls).buffer_unordered(30);
        assert_eq!(calls.count().await, 300);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let count = async {
        let mut most = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            most = most.max(tokio::task::block_in_place(|| connected(postgres, &url)));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        most
    };
    let ((), most) = tokio::join!(calls, count);
    assert!((3..=5).contains(&most), "{most}");
    // Each has the notifications of its channel, and no other.
    for channel in ["one", "two"] {
        let notify = Statement::new("SELECT CAST(pg_notify($1, $1) AS TEXT)");
        open.read(notify.with(channel)).await.unwrap();
    }
    for (listener, channel) in listeners.iter_mut().zip(["one", "two", "one"]) {
        assert_eq!(listener.receive().await.unwrap(), channel);
    }
    // A broken connection is reported to each.
    let kill = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    postgres.query(&url, kill);
    for listener in &mut listeners {
        let lost = listener.receive().await.unwrap_err();
        assert!(matches!(lost, DatabaseError::NotificationsLost), "{lost}");
    }
    // A call notices that the connections are lost, and the others are tested.
    let lost = open.read(Statement::new("SELECT 1")).await;
    lost.unwrap_err();
    let mut again = open.listener().await.unwrap();
    again.listen("one").await.unwrap();
}
