//! Leases and row leases on both databases.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use landfall_database::{
    Acquisition, Connections, Database, Durability, LeaseOwner, Leases, Migration, OwnedLease,
    RowLeases, Statement, WaitingRequest,
};
use tokio::time::sleep;

const TTL: Duration = Duration::from_secs(30);

fn owned(name: &str, owner: &LeaseOwner) -> OwnedLease {
    OwnedLease {
        name: name.to_owned(),
        owner: owner.clone(),
    }
}

async fn fence(leases: &Leases, name: &str, owner: &LeaseOwner) -> Option<u64> {
    match leases.acquire(name, owner, TTL, None).await.unwrap() {
        Acquisition::Granted { fence, .. } => Some(fence),
        Acquisition::Held { .. } => None,
    }
}

/// Makes all leases expire.
async fn expire_all(connections: &Connections) {
    execute(connections, "UPDATE leases SET expires_at = 0").await;
}

async fn rows(connections: &Connections) -> i64 {
    let count = Statement::new("SELECT COUNT(*) FROM leases");
    connections.read(count).await.unwrap()[0].number(0).unwrap()
}

async fn a_lease_has_one_owner_at_a_time(connections: Connections) {
    let leases = Leases::new(connections.clone());
    leases.migrate().await.unwrap();
    leases.migrate().await.unwrap();
    let (one, two) = (LeaseOwner::new("aa", 1), LeaseOwner::new("bb", 1));

    let first = fence(&leases, "x/y", &one).await.unwrap();
    match leases.acquire("x/y", &two, TTL, None).await.unwrap() {
        Acquisition::Held { remaining, .. } => {
            assert!(remaining > TTL / 2 && remaining <= TTL, "{remaining:?}");
        }
        granted @ Acquisition::Granted { .. } => panic!("{granted:?}"),
    }
    // A lease of another owner is neither renewed nor released.
    let others = owned("x/y", &two);
    assert_eq!(
        leases
            .renew(std::slice::from_ref(&others), TTL)
            .await
            .unwrap(),
        []
    );
    leases.release(&[others]).await.unwrap();
    assert_eq!(fence(&leases, "x/y", &two).await, None);

    // Fences increase by one after a release and after an expiry.
    leases.release(&[owned("x/y", &one)]).await.unwrap();
    // The release that a call waits for may have a later time than the call.
    execute(
        &connections,
        "UPDATE leases SET expires_at = expires_at + 60000",
    )
    .await;
    assert_eq!(fence(&leases, "x/y", &two).await, Some(first + 1));
    expire_all(&connections).await;
    let renewed = leases.renew(&[owned("x/y", &two)], TTL).await.unwrap();
    assert_eq!(renewed.len(), 1, "not acquired since");
    assert_eq!(renewed[0].waiting, None);
    expire_all(&connections).await;
    let one = LeaseOwner::new("aa", 2);
    assert_eq!(fence(&leases, "x/y", &one).await, Some(first + 2));
    assert_eq!(leases.renew(&[owned("x/y", &two)], TTL).await.unwrap(), []);

    // A node replaces its own earlier lease; a delayed call replaces nothing.
    let newer = LeaseOwner::new("aa", 10);
    assert_eq!(fence(&leases, "x/y", &newer).await, Some(first + 3));
    assert_eq!(fence(&leases, "x/y", &one).await, None);

    // Many leases at a time.
    let all: Vec<_> = (0..100)
        .map(|n| owned(&format!("many/{n}"), &one))
        .collect();
    for lease in &all {
        fence(&leases, &lease.name, &lease.owner).await.unwrap();
    }
    assert_eq!(leases.renew(&all, TTL).await.unwrap().len(), 100);
    assert_eq!(rows(&connections).await, 101);
    leases.release(&all).await.unwrap();
    leases.purge(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(rows(&connections).await, 101, "released just now");
    sleep(Duration::from_millis(5)).await;
    leases.purge(Duration::from_millis(1)).await.unwrap();
    assert_eq!(rows(&connections).await, 1, "one is owned");

    // After a row was removed, its fences are not reused.
    expire_all(&connections).await;
    leases.purge(Duration::ZERO).await.unwrap();
    assert_eq!(rows(&connections).await, 0);
    let again = fence(&leases, "x/y", &two).await.unwrap();
    assert!(again > first + 4, "{again} after {first}");

    // The last fence of a block is not reached.
    let last = "UPDATE leases SET fence = fence + 1048575 - fence % 1048576";
    execute(&connections, last).await;
    leases.release(&[owned("x/y", &two)]).await.unwrap();
    let next = fence(&leases, "x/y", &two).await.unwrap();
    let other = fence(&leases, "z", &two).await.unwrap();
    assert!(next > again + 2, "{next} after {again}");
    assert!(other > next + 1000, "{other} and {next} are of one block");
}

async fn execute(connections: &Connections, sql: &str) {
    let mut transaction = connections.write().await.unwrap();
    transaction.execute(Statement::new(sql)).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn a_row_has_one_owner_at_a_time(connections: Connections) {
    let table = "CREATE TABLE things (id TEXT PRIMARY KEY, lease_owner TEXT, \
                 lease_expires_at BIGINT NOT NULL DEFAULT 0);";
    let step = Migration::expand(table, table);
    connections.migrate("things", &[step]).await.unwrap();
    execute(&connections, "INSERT INTO things (id) VALUES ('a'), ('b')").await;
    let runtime = tokio::runtime::Handle::current();
    let leases = RowLeases::new(connections.clone(), runtime, "things", TTL);
    let quick = leases.clone().with_ttl(Duration::from_secs(3));

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
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while lease.is_held() {
        assert!(tokio::time::Instant::now() < deadline, "two hold it");
        sleep(Duration::from_millis(10)).await;
    }
    // The old lease does not release the lease of another owner.
    lease.release().await;
    assert!(leases.acquire("a").await.unwrap().is_none());
    assert!(newer.is_held());
    drop(newer);
    while leases.acquire("a").await.unwrap().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "not released");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn rows_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(dir.path().join("leases.db"));
    a_row_has_one_owner_at_a_time(database.open(Durability::ProcessCrash).await.unwrap()).await;
}

#[tokio::test]
async fn sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(dir.path().join("leases.db"));
    a_lease_has_one_owner_at_a_time(database.open(Durability::ProcessCrash).await.unwrap()).await;
}

#[cfg(feature = "postgres")]
mod postgres {
    use landfall_database::{DatabaseError, LeaseNotice};
    use landfall_test_services::{PgBouncer, Postgres};
    use tokio::time::timeout;

    use super::*;

    fn sessions() -> Connections {
        let url = Postgres::shared().database("leases");
        Connections::sessions(&url).unwrap()
    }

    #[tokio::test]
    async fn rows() {
        let url = Postgres::shared().database("leases");
        let database = Database::Postgres(url);
        a_row_has_one_owner_at_a_time(database.open(Durability::ProcessCrash).await.unwrap()).await;
    }

    #[tokio::test]
    async fn in_sessions() {
        a_lease_has_one_owner_at_a_time(sessions()).await;
    }

    #[tokio::test]
    async fn in_transactions() {
        let url = Postgres::shared().database("leases");
        let database = Database::Postgres(url);
        a_lease_has_one_owner_at_a_time(database.open(Durability::ProcessCrash).await.unwrap())
            .await;
    }

    async fn next(notices: &mut landfall_database::LeaseNotices) -> LeaseNotice {
        let notice = timeout(Duration::from_secs(20), notices.receive());
        notice.await.expect("a notification").unwrap()
    }

    #[tokio::test]
    async fn the_holder_and_the_waiter_are_notified() {
        let leases = Leases::new(sessions());
        leases.migrate().await.unwrap();
        let mut notices = leases.subscribe().await.unwrap();
        let (one, two) = (LeaseOwner::new("aa", 1), LeaseOwner::new("bb", 7));
        let three = LeaseOwner::new("cc", 1);
        fence(&leases, "x", &one).await.unwrap();

        let request = |offset| Some((Duration::from_secs(20), WaitingRequest { offset }));
        let held = leases
            .acquire("x", &two, TTL, request(Some(5)))
            .await
            .unwrap();
        assert!(matches!(held, Acquisition::Held { .. }), "{held:?}");
        let expected = |offset| LeaseNotice::Yield {
            name: "x".to_owned(),
            owner: one.clone(),
            request: WaitingRequest { offset },
        };
        assert_eq!(next(&mut notices).await, expected(Some(5)));
        // The notification may have been lost: the renewal reports the waiter too.
        let renewed = leases.renew(&[owned("x", &one)], TTL).await.unwrap();
        assert_eq!(renewed[0].waiting, Some(WaitingRequest { offset: Some(5) }));
        // A second waiter comes after the first.
        let waits = request(None);
        leases.acquire("x", &three, TTL, waits).await.unwrap();
        assert_eq!(next(&mut notices).await, expected(None));

        leases.release(&[owned("x", &one)]).await.unwrap();
        let expected = LeaseNotice::Reserved {
            name: "x".to_owned(),
            node: "bb".to_owned(),
        };
        assert_eq!(next(&mut notices).await, expected);
        let again = LeaseOwner::new("aa", 2);
        assert_eq!(fence(&leases, "x", &again).await, None, "it is reserved");
        leases.acquire("x", &three, TTL, waits).await.unwrap();
        let granted = leases.acquire("x", &two, TTL, waits).await.unwrap();
        let Acquisition::Granted { waiting, .. } = granted else {
            panic!("{granted:?}");
        };
        assert!(waiting.is_some(), "another node waits");
    }

    /// LISTEN succeeds there, but notifications never arrive.
    #[tokio::test]
    async fn pgbouncer_in_transaction_mode_is_rejected() {
        let url = Postgres::shared().database("leases");
        let bouncer = PgBouncer::start(&url);
        let leases = Leases::new(Connections::sessions(&bouncer.url(&url)).unwrap());
        let error = leases.subscribe().await.unwrap_err();
        assert!(matches!(error, DatabaseError::NoNotifications), "{error}");
        assert!(error.to_string().contains("PgBouncer"), "{error}");
    }
}
