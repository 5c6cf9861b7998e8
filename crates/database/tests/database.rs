//! The database as its users see it.
#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use landfall_database::{Connections, Database, Durability, Migration, Statement};

const FIRST: Migration = Migration {
    sqlite: "CREATE TABLE things (name TEXT NOT NULL, size BIGINT);",
    postgres: "CREATE TABLE things (name TEXT NOT NULL, size BIGINT);",
};
const SECOND: Migration = Migration {
    sqlite: "CREATE INDEX things_name ON things (name);\nINSERT INTO things VALUES ('a', 1);",
    postgres: "CREATE INDEX things_name ON things (name);\nINSERT INTO things VALUES ('a', 1);",
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn names(database: &Connections) -> Vec<(String, Option<i64>)> {
    let rows = Statement::new("SELECT name, size FROM things ORDER BY name");
    let rows = database.read(rows).await.unwrap();
    let pair = |row: &landfall_database::Row| (row.text(0).unwrap(), row.maybe_number(1).unwrap());
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
    let newer = one.migrate("things", &[FIRST]).await.unwrap_err();
    assert_eq!(
        newer.to_string(),
        "the database has tables of a newer version of this program (things 2)"
    );

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
