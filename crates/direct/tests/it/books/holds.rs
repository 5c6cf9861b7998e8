//! One at a time.

use std::{sync::Arc, time::Duration};

use landfall_direct::Standing;
use tokio::sync::Mutex;

use super::site::{Place, everywhere, record, until};

#[tokio::test]
async fn one_holds_it_over_all_processes() {
    everywhere(async |place: Place| {
        let (one, two) = (place.books().await, place.books().await);
        let record = record("ann", "k");
        one.add(&record).await.unwrap();
        let other = super::site::record("ann", "k");
        one.add(&other).await.unwrap();

        let hold = one.hold(record.id()).await.unwrap().unwrap();
        assert!(hold.is_held());
        assert!(one.hold(record.id()).await.unwrap().is_none());
        assert!(two.hold(record.id()).await.unwrap().is_none());
        // It is only that one.
        assert!(two.hold(other.id()).await.unwrap().is_some());
        // What is held can be changed, by whoever holds it and for all others to see.
        let mut finishing = record.clone();
        finishing.standing = Standing::Finishing;
        assert!(one.update(&mut finishing).await.unwrap());
        assert_eq!(two.get(record.id()).await.unwrap(), Some(finishing));

        hold.release().await;
        let hold = two.hold(record.id()).await.unwrap().unwrap();
        assert!(one.hold(record.id()).await.unwrap().is_none());
        drop(hold);
        until(async || one.hold(record.id()).await.unwrap().is_some()).await;

        let nobody = super::site::record("ann", "k");
        assert!(one.hold(nobody.id()).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn of_many_who_want_it_one_gets_it() {
    everywhere(async |place: Place| {
        let books = [place.books().await, place.books().await];
        let record = record("ann", "k");
        books[0].add(&record).await.unwrap();
        for _ in 0..5 {
            let tries = (0..10).map(|n| books[n % 2].hold(record.id()));
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
async fn nobody_is_inside_with_another() {
    everywhere(async |place: Place| {
        let books = [place.books().await, place.books().await];
        let record = record("ann", "k");
        books[0].add(&record).await.unwrap();
        let inside = Arc::new(Mutex::new(0));
        let visits = (0..8).map(|n| {
            let (books, id, inside) = (books[n % 2].clone(), record.id().clone(), inside.clone());
            async move {
                let hold = loop {
                    if let Some(hold) = books.hold(&id).await.unwrap() {
                        break hold;
                    }
                    tokio::task::yield_now().await;
                };
                let mut visits = inside.try_lock().expect("somebody else is inside");
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
async fn it_is_kept_up_as_long_as_it_lives() {
    everywhere(async |place: Place| {
        let one = place.books().await.hold_for(Duration::from_secs(3));
        let two = place.books().await;
        let record = record("ann", "k");
        one.add(&record).await.unwrap();
        let hold = one.hold(record.id()).await.unwrap().unwrap();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(7) {
            // If the machine was too slow to keep it up, that is known.
            let taken = two.hold(record.id()).await.unwrap();
            assert!(taken.is_none() || !hold.is_held());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_that_died_is_taken_over_and_one_that_was_not_dead_hears_of_it() {
    everywhere(async |place: Place| {
        let one = place.books().await.hold_for(Duration::from_secs(6));
        let two = place.books().await;
        let record = record("ann", "k");
        one.add(&record).await.unwrap();
        let hold = one.hold(record.id()).await.unwrap().unwrap();
        assert!(two.hold(record.id()).await.unwrap().is_none());
        // As if it had stood still for longer than its span.
        place
            .execute("UPDATE direct_uploads SET lease_expires_at = 1")
            .await;
        let theirs = two.hold(record.id()).await.unwrap().unwrap();
        until(async || !hold.is_held()).await;
        assert!(theirs.is_held());
        // It doesn't let go what isn't its own.
        hold.release().await;
        assert!(one.hold(record.id()).await.unwrap().is_none());
        assert!(theirs.is_held());
    })
    .await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn without_the_database_it_is_lost_in_time() {
    use landfall_database::{Database, Durability};
    use landfall_direct::Books;
    use landfall_test_services::Postgres;

    // Not one that other tests use.
    let mut postgres = Postgres::start(false);
    let database = Database::Postgres(postgres.database("direct"));
    // Nothing that was written may be lost with the server.
    let connections = database.open(Durability::PowerLoss).await.unwrap();
    let books = Books::open(connections).await.unwrap();
    let books = books.hold_for(Duration::from_secs(2));
    let record = record("ann", "k");
    books.add(&record).await.unwrap();
    let hold = books.hold(record.id()).await.unwrap().unwrap();
    postgres.stop();
    until(async || !hold.is_held()).await;
    books.get(record.id()).await.unwrap_err();
    postgres.restart();
    until(async || matches!(books.hold(record.id()).await, Ok(Some(_)))).await;
}
