//! Tests of both stores, and of a database that nodes share.

use std::time::{Duration, Instant};

use landfall_state::sql::{Database, Durability, Statement};
use landfall_test_services::Postgres;

use super::{CertificateStore, DatabaseStore, FolderStore, OrderLease, StoreError, Stored, Value};
use crate::challenge::Challenge;

/// Longer than the lifetime of a lease.
const TIMEOUT: Duration = Duration::from_secs(90);

const SECRET: &str = "PRIVATE KEY";

#[tokio::test]
async fn processes_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| FolderStore::new(dir.path().to_owned()));
    check_stores([&one, &other]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_a_database() {
    let url = Postgres::shared().database("certificates");
    let database = Database::Postgres(url);
    let connections = database.open(Durability::PowerLoss).await.unwrap();
    let stores = |directory| [(); 2].map(|()| DatabaseStore::new(connections.share(), directory));
    let [one, other] = stores("https://one.test/dir");
    check_stores([&one, &other]).await;

    let directory = "https://other.test/dir";
    let [old, new] = stores(directory);
    check_fences([&old, &new], async || {
        let expire = "UPDATE acme_certificates SET lease_expires_at = 0 WHERE id = $1";
        let expire = Statement::new(expire).with(directory);
        connections.execute(expire).await.unwrap();
    })
    .await;
}

/// Checks that the holder of an old lease cannot replace the values of a new one.
///
/// `expire` ends the lease of the first node, which does not notice, so that the second one can acquire it.
async fn check_fences([old, new]: [&dyn CertificateStore; 2], expire: impl AsyncFnOnce()) {
    let old_lease = lease(old).await;
    store_value(&*old_lease, Value::Certificate("old")).await;
    expire().await;
    let new_lease = lease(new).await;
    store_value(&*new_lease, Value::Challenges(&[])).await;
    for value in [
        Value::Account("older"),
        Value::Certificate("older"),
        Value::Challenges(&[]),
    ] {
        let rejected = old_lease.store(value).await;
        assert!(
            matches!(rejected, Err(StoreError::LeaseLost)),
            "{rejected:?}"
        );
    }
    store_value(&*new_lease, Value::Certificate("new")).await;
    assert!(old_lease.store(Value::Certificate("older")).await.is_err());
    let stored = old.get().await.expect("the storage can be read");
    assert_eq!(stored.certificate.as_deref(), Some("new"));
    assert_eq!(stored.account, None);
}

/// Checks the stores of two nodes with the same, empty storage.
async fn check_stores([one, other]: [&dyn CertificateStore; 2]) {
    let first = lease(one).await;
    assert!(first.is_held());
    for store in [one, other] {
        expect(store, &Stored::default()).await;
    }
    assert!(acquire(other).await.is_none(), "two nodes have the lease");

    // Longer ones, quotes and line breaks are stored as they are.
    let certificate = format!("-----BEGIN {SECRET}-----\n\"\\{}\n", "x".repeat(100_000));
    let challenges = ["a.test", "b.test"].map(|name| Challenge {
        name: name.to_owned(),
        token: "token".to_owned(),
        key_authorization: "token.hash".to_owned(),
    });
    store_value(&*first, Value::Account(SECRET)).await;
    store_value(&*first, Value::Certificate(&certificate)).await;
    store_value(&*first, Value::Challenges(&challenges)).await;
    let mut stored = Stored {
        account: Some(SECRET.to_owned()),
        certificate: Some(certificate),
        challenges: challenges.to_vec(),
    };
    if !one.is_shared() {
        stored.challenges.clear();
    }
    for store in [one, other] {
        expect(store, &stored).await;
    }
    let debug = format!("{one:?} {first:?} {:?}", one.get().await.ok());
    assert!(!debug.contains(SECRET), "Debug shows a private key");

    // A value replaces the earlier one, and no other.
    store_value(&*first, Value::Certificate("second")).await;
    store_value(&*first, Value::Certificate("second")).await;
    store_value(&*first, Value::Challenges(&[])).await;
    stored.certificate = Some("second".to_owned());
    stored.challenges.clear();
    expect(other, &stored).await;

    drop(first);
    let second = lease(other).await;
    store_value(&*second, Value::Account("another")).await;
    stored.account = Some("another".to_owned());
    expect(one, &stored).await;
    assert!(acquire(one).await.is_none(), "two nodes have the lease");
}

async fn expect(store: &dyn CertificateStore, expected: &Stored) {
    let stored = store.get().await.expect("the storage can be read");
    assert_eq!(stored.account, expected.account);
    assert_eq!(stored.certificate, expected.certificate);
    assert_eq!(stored.challenges, expected.challenges);
}

async fn store_value(lease: &dyn OrderLease, value: Value<'_>) {
    let stored = lease.store(value).await;
    stored.expect("the value is stored");
}

async fn acquire(store: &dyn CertificateStore) -> Option<Box<dyn OrderLease>> {
    store.acquire().await.expect("the lease can be requested")
}

/// A released lease may be free only after a moment, or after its lifetime.
async fn lease(store: &dyn CertificateStore) -> Box<dyn OrderLease> {
    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(lease) = acquire(store).await {
            return lease;
        }
        assert!(Instant::now() < end, "no node can acquire the lease");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
