//! Network faults between the repository and PostgreSQL.

use std::time::Duration;

use landfall_direct::Repository;
use landfall_state::sql::{Database, DatabaseError, Durability};
use landfall_test_services::{FaultProxy, Postgres};

use super::harness::record;

#[tokio::test(flavor = "multi_thread")]
async fn network_faults_cause_delays_but_no_loss() {
    let database = Postgres::shared().database("faults");
    let (proxy, url) = FaultProxy::to_server_of(&database);
    let connections = Database::Postgres(url).open(Durability::PowerLoss).await;
    let repository = Repository::open(connections.unwrap()).await.unwrap();
    let mut stored = Vec::new();
    let change = async || {
        let mut record = record("someone", "key");
        repository.insert(&record).await?;
        record.stored = 3;
        assert!(repository.update(&mut record).await?);
        stored.push(record);
        Ok::<_, DatabaseError>(())
    };
    proxy.under_each(Duration::from_secs(10), change).await;
    assert!(stored.len() >= 10, "{}", stored.len());
    for record in stored {
        let found = repository.get(record.id()).await.unwrap().unwrap();
        assert_eq!(found, record);
    }
}
