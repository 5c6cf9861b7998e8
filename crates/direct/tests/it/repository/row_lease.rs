//! Leases of uploads.

use std::{sync::Arc, time::Duration};

use landfall_direct::Status;
use tokio::sync::Mutex;

use super::harness::{TestDatabase, everywhere, record, until};

#[tokio::test]
async fn one_process_holds_the_lease() {
    everywhere(async |object: TestDatabase| {
        let (one, two) = (object.repository().await, object.repository().await);
        let record = record("ann", "k");
        one.insert(&record).await.unwrap();
        let other = super::harness::record("ann", "k");
        one.insert(&other).await.unwrap();

        let hold = one.acquire_lease(record.id()).await.unwrap().unwrap();
        assert!(hold.is_held());
        assert!(one.acquire_lease(record.id()).await.unwrap().is_none());
        assert!(two.acquire_lease(record.id()).await.unwrap().is_none());
        // Other uploads are free.
        assert!(two.acquire_lease(other.id()).await.unwrap().is_some());
        // The holder can change it, and others see that.
        let mut finishing = record.clone();
        finishing.status = Status::Completing;
        assert!(one.update(&mut finishing).await.unwrap());
        assert_eq!(two.get(record.id()).await.unwrap(), Some(finishing));

        hold.release().await;
        let hold = two.acquire_lease(record.id()).await.unwrap().unwrap();
        assert!(one.acquire_lease(record.id()).await.unwrap().is_none());
        drop(hold);
        until(async || one.acquire_lease(record.id()).await.unwrap().is_some()).await;

        let nobody = super::harness::record("ann", "k");
        assert!(one.acquire_lease(nobody.id()).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn one_of_many_requests_acquires_the_lease() {
    everywhere(async |object: TestDatabase| {
        let repository = [object.repository().await, object.repository().await];
        let record = record("ann", "k");
        repository[0].insert(&record).await.unwrap();
        for _ in 0..5 {
            let tries = (0..10).map(|n| repository[n % 2].acquire_lease(record.id()));
            let held: Vec<_> = futures_util::future::join_all(tries).await;
            let held: Vec<_> = held.into_iter().filter_map(|one| one.unwrap()).collect();
            assert_eq!(held.len(), 1);
            for hold in held {
                hold.release().await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn holders_never_overlap() {
    everywhere(async |object: TestDatabase| {
        let repository = [object.repository().await, object.repository().await];
        let record = record("ann", "k");
        repository[0].insert(&record).await.unwrap();
        let inside = Arc::new(Mutex::new(0));
        let visits = (0..8).map(|n| {
            let (repository, id, inside) = (
                repository[n % 2].clone(),
                record.id().clone(),
                inside.clone(),
            );
            async move {
                let hold = loop {
                    if let Some(hold) = repository.acquire_lease(&id).await.unwrap() {
                        break hold;
                    }
                    tokio::task::yield_now().await;
                };
                let mut visits = inside.try_lock().expect("two holders");
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert!(hold.is_held());
                *visits += 1;
                drop(visits);
            }
        });
        futures_util::future::join_all(visits).await;
        assert_eq!(*inside.lock().await, 8);
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_renewed_until_it_is_dropped() {
    everywhere(async |object: TestDatabase| {
        let one = object
            .repository()
            .await
            .lease_duration(Duration::from_secs(3));
        let two = object.repository().await;
        let record = record("ann", "k");
        one.insert(&record).await.unwrap();
        let hold = one.acquire_lease(record.id()).await.unwrap().unwrap();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(7) {
            // A machine too slow to renew the lease is detected.
            let taken = two.acquire_lease(record.id()).await.unwrap();
            assert!(taken.is_none() || !hold.is_held());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_expired_lease_is_lost_to_the_next_holder() {
    everywhere(async |object: TestDatabase| {
        let one = object
            .repository()
            .await
            .lease_duration(Duration::from_secs(6));
        let two = object.repository().await;
        let record = record("ann", "k");
        one.insert(&record).await.unwrap();
        let hold = one.acquire_lease(record.id()).await.unwrap().unwrap();
        assert!(two.acquire_lease(record.id()).await.unwrap().is_none());
        // Simulate a lease that was not renewed within its lifetime.
        object
            .execute("UPDATE direct_uploads SET lease_expires_at = 1")
            .await;
        let theirs = two.acquire_lease(record.id()).await.unwrap().unwrap();
        until(async || !hold.is_held()).await;
        assert!(theirs.is_held());
        // It does not release the lease of another owner.
        hold.release().await;
        assert!(one.acquire_lease(record.id()).await.unwrap().is_none());
        assert!(theirs.is_held());
    })
    .await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_lease_is_lost_in_time_without_the_database() {
    use landfall_direct::Repository;
    use landfall_state::sql::{Database, Durability};
    use landfall_test_services::Postgres;

    // A server of its own, not the shared one.
    let mut postgres = Postgres::start(false);
    let database = Database::Postgres(postgres.database("direct"));
    // Written rows must survive its end.
    let connections = database.open(Durability::PowerLoss).await.unwrap();
    let repository = Repository::open(connections).await.unwrap();
    let repository = repository.lease_duration(Duration::from_secs(2));
    let record = record("ann", "k");
    repository.insert(&record).await.unwrap();
    let hold = repository
        .acquire_lease(record.id())
        .await
        .unwrap()
        .unwrap();
    postgres.stop();
    until(async || !hold.is_held()).await;
    repository.get(record.id()).await.unwrap_err();
    postgres.restart();
    until(async || matches!(repository.acquire_lease(record.id()).await, Ok(Some(_)))).await;
}
