//! The database as its users see it.
#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use landfall_database::{Connections, Database, DatabaseError, Durability, Migration, Statement};

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
    let pair =
        |row: &landfall_database::Row| (row.text("name").unwrap(), row.maybe_number(1).unwrap());
    rows.iter().map(pair).collect()
}

async fn keeps_what_is_committed(database: Database) {
    let open = async || database.open(Durability::Power).await.unwrap();
    let one = open().await;
    one.migrate("things", &[FIRST]).await.unwrap();
    // Another process goes on from there, and two that do so at once don't disturb each other.
    let (two, three) = (open().await, open().await);
    let steps = [FIRST, SECOND];
    let (left, right) = tokio::join!(
        two.migrate("things", &steps),
        three.migrate("things", &steps)
    );
    left.unwrap();
    right.unwrap();
    assert_eq!(names(&one).await, [("a".to_owned(), Some(1))]);
    // An older program uses what a newer one has only added to.
    one.migrate("things", &[FIRST]).await.unwrap();
    let more = "ALTER TABLE things ADD COLUMN colour TEXT;";
    let tool = open().await.without_migrations();
    let contracted = [FIRST, SECOND, Migration::contract(more, more)];
    let older = tool.migrate("things", &contracted).await.unwrap_err();
    assert!(matches!(
        older,
        DatabaseError::Older {
            version: 2,
            needed: 3,
            ..
        }
    ));
    assert!(older.to_string().contains("landfall migrate"), "{older}");
    one.migrate("things", &contracted).await.unwrap();
    tool.migrate("things", &contracted).await.unwrap();
    let newer = one.migrate("things", &steps).await.unwrap_err();
    assert!(
        matches!(newer, DatabaseError::Newer { version: 3, .. }),
        "{newer}"
    );
    let other = step("CREATE TABLE others (name TEXT);");
    let changed = one.migrate("things", &[other]).await.unwrap_err();
    assert!(
        matches!(changed, DatabaseError::Changed { version: 1, .. }),
        "{changed}"
    );
    // Tables that are not there are made: no program uses them yet.
    tool.migrate("others", &[other]).await.unwrap();

    let mut insert = Statement::new("INSERT INTO things (name, size) VALUES ");
    let rows = [
        ["b".into(), 2.into()],
        ["it's \" \u{1f4e6}".into(), 3.into()],
    ];
    insert.push_rows(rows, ["TEXT", "BIGINT"]);
    let mut dropped = one.write().await.unwrap();
    assert_eq!(dropped.execute(insert.clone()).await.unwrap(), 2);
    drop(dropped);
    assert_eq!(names(&two).await.len(), 1);
    let mut kept = one.write().await.unwrap();
    kept.execute(insert).await.unwrap();
    kept.commit().await.unwrap();
    let expected = ["a", "b", "it's \" \u{1f4e6}"];
    let found: Vec<_> = names(&two)
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(found, expected);
    refuses_to_commit_after_an_error(&one).await;
    // Whom they are lent to can't close them, and takes turns with the others.
    let lent = one.lend();
    lent.close().await;
    let turns = (0..20).map(|n| {
        let one = if n % 2 == 0 {
            one.clone()
        } else {
            lent.clone()
        };
        tokio::spawn(async move {
            let mut turn = one.write().await.unwrap();
            turn.execute(Statement::new(
                "UPDATE things SET size = size + 1 WHERE name = 'a'",
            ))
            .await
            .unwrap();
            turn.commit().await.unwrap();
        })
    });
    for turn in turns.collect::<Vec<_>>() {
        turn.await.unwrap();
    }
    assert_eq!(names(&lent).await[0], ("a".to_owned(), Some(21)));
    one.close().await;
    assert!(one.write().await.is_err());
    assert!(lent.write().await.is_err());
}

async fn refuses_to_commit_after_an_error(database: &Connections) {
    let mut transaction = database.write().await.unwrap();
    let insert = Statement::new("INSERT INTO things (name) VALUES ($1)");
    transaction.execute(insert.with("lost")).await.unwrap();
    let bad = Statement::new("INSERT INTO things (name) VALUES (NULL)");
    let error = transaction.execute(bad).await.unwrap_err();
    assert!(error.is_of_statement(), "{error}");
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
async fn a_deleted_or_replaced_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.db");
    let database = Database::Sqlite(file.clone());
    let open = database.open(Durability::Power).await.unwrap();
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

/// Set for the process that has a small disk.
const SMALL_DISK: &str = "LANDFALL_TEST_SMALL_DISK";

#[tokio::test(flavor = "multi_thread")]
async fn writing_works_again_when_a_full_disk_has_room() {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return fill(Path::new(&disk)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=2m tmpfs \"$0\" && exec \"$@\"")
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "writing_works_again_when_a_full_disk_has_room"])
        .env(SMALL_DISK, folder.path())
        .status()
        .unwrap();
    assert!(status.success());
}

async fn fill(disk: &Path) {
    let filler = disk.join("filler");
    let database = Database::Sqlite(disk.join("events.db"));
    let open = database.open(Durability::Power).await.unwrap();
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
        // The log of SQLite has pages left.
        let error = loop {
            if let Err(error) = write().await {
                break error;
            }
        };
        assert!(!error.is_of_statement(), "{error}");
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
    keeps_what_is_committed(Database::Sqlite(file.clone())).await;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);

    let no_folder = folder.path().join("file");
    fs::write(&no_folder, "").unwrap();
    let error = Database::Sqlite(no_folder.join("events.db"))
        .open(Durability::Power)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("can't be made"), "{error}");
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    let postgres = landfall_test_services::Postgres::shared();
    let url = postgres.database("database");
    let database = Database::Postgres(url);
    assert_eq!(format!("{database:?}"), "Postgres(..)");
    keeps_what_is_committed(database).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_network_are_over_when_it_works_again() {
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
    let open = database.open(Durability::Power).await.unwrap();
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
        // Several idle connections, all of which the fault hits.
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
        write("again").await.unwrap();
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
