//! Row leases on both databases.

use std::time::Duration;

use landfall_state::sql::{Connections, Database, Durability, Migration, RowLeases, Statement};
use landfall_test_services::until;
use tokio::time::sleep;

const TTL: Duration = Duration::from_secs(30);

async fn execute(connections: &Connections, sql: &str) {
    let mut transaction = connections.write().await.unwrap();
    transaction.execute(Statement::new(sql)).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn things(connections: &Connections, ttl: Duration) -> RowLeases {
    let table = "CREATE TABLE things (id TEXT PRIMARY KEY, lease_owner TEXT, \
                 lease_expires_at BIGINT NOT NULL DEFAULT 0);";
    let step = Migration::expand(table, table);
    connections.migrate("things", &[step]).await.unwrap();
    execute(connections, "INSERT INTO things (id) VALUES ('a'), ('b')").await;
    RowLeases::new(connections.clone(), "things", ttl)
}

async fn a_row_has_one_owner_at_a_time(connections: Connections) {
    let leases = things(&connections, TTL).await;
    for _ in 0..5 {
        let tries = futures_util::future::join_all((0..10).map(|_| leases.acquire("a"))).await;
        let acquired: Vec<_> = tries.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(acquired.len(), 1);
        for lease in acquired {
            lease.release().await;
        }
    }
    let quick = RowLeases::new(connections.clone(), "things", Duration::from_secs(3));

    let lease = leases.acquire("a").await.unwrap().unwrap();
    assert!(lease.is_held());
    assert!(leases.acquire("a").await.unwrap().is_none());
    assert!(leases.acquire("b").await.unwrap().is_some(), "another row");
    assert!(leases.acquire("c").await.unwrap().is_none(), "no such row");
    lease.release().await;
    let lease = quick.acquire("a").await.unwrap().unwrap();

    // It is renewed until it is dropped.
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(7) {
        // If the machine is too slow to renew it, the holder stops.
        let other = leases.acquire("a").await.unwrap();
        assert!(other.is_none() || !lease.is_held());
        sleep(Duration::from_millis(100)).await;
    }
    // Simulate a lease that another owner took, and that ended: a renewal by the first one in
    // between would prolong an own one.
    let taken = "UPDATE things SET lease_owner = 'another', lease_expires_at = 1";
    execute(&connections, taken).await;
    let newer = leases.acquire("a").await.unwrap().unwrap();
    // Two must not hold it.
    until(async || !lease.is_held()).await;
    // The old lease does not release the lease of another owner.
    lease.release().await;
    assert!(leases.acquire("a").await.unwrap().is_none());
    assert!(newer.is_held());
    drop(newer);
    until(async || leases.acquire("a").await.unwrap().is_some()).await;
}

#[tokio::test]
async fn rows_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(dir.path().join("leases.db"));
    a_row_has_one_owner_at_a_time(database.open(Durability::ProcessCrash).await.unwrap()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn rows_in_postgres() {
    let url = landfall_test_services::Postgres::shared().database("leases");
    let database = Database::Postgres(url);
    a_row_has_one_owner_at_a_time(database.open(Durability::ProcessCrash).await.unwrap()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_lease_is_lost_in_time_without_the_database() {
    // A server of its own, not the shared one.
    let mut postgres = landfall_test_services::Postgres::start(false);
    let database = Database::Postgres(postgres.database("leases"));
    // Written rows must survive its end.
    let connections = database.open(Durability::PowerLoss).await.unwrap();
    let leases = things(&connections, Duration::from_secs(2)).await;
    let lease = leases.acquire("a").await.unwrap().unwrap();
    postgres.stop();
    until(async || !lease.is_held()).await;
    // Alive, it would try to be renewed, and could be again. Its release may fail; then it expires.
    drop(lease);
    postgres.restart();
    until(async || matches!(leases.acquire("a").await, Ok(Some(_)))).await;
}
