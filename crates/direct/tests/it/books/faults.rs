//! Faults of the network between the repository and its PostgreSQL.

use std::time::Duration;

use landfall_database::{Database, DatabaseError, Durability};
use landfall_direct::Books;
use landfall_test_services::{FaultProxy, Postgres};

use super::site::record;

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_costs_seconds_and_no_upload() {
    let database = Postgres::shared().database("faults");
    let (proxy, url) = FaultProxy::to_server_of(&database);
    let connections = Database::Postgres(url).open(Durability::PowerLoss).await;
    let books = Books::open(connections.unwrap()).await.unwrap();
    let mut stored = Vec::new();
    let change = async || {
        let mut record = record("someone", "key");
        books.add(&record).await?;
        record.stored = 3;
        assert!(books.update(&mut record).await?);
        stored.push(record);
        Ok::<_, DatabaseError>(())
    };
    proxy.under_each(Duration::from_secs(10), change).await;
    assert!(stored.len() >= 10, "{}", stored.len());
    for record in stored {
        let found = books.get(record.id()).await.unwrap().unwrap();
        assert_eq!(found, record);
    }
}
