//! Who is looked at, and when nobody is any more.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use landfall_direct::{Record, Standing};

use super::site::{Place, at, everywhere, record};

const AGAIN: Duration = Duration::from_secs(10);

fn ids(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.id().as_str()).collect()
}

fn due_at(millis: u64) -> Record {
    let mut record = record("ann", "k");
    record.check_at = Some(at(millis));
    record
}

#[tokio::test]
async fn the_longest_overdue_come_first_and_are_put_off() {
    everywhere(async |place: Place| {
        let books = place.books().await;
        let (first, second, third) = (due_at(100), due_at(200), due_at(300));
        for record in [&second, &third, &first] {
            books.add(record).await.unwrap();
        }
        assert_eq!(books.due(at(99), AGAIN, 9).await.unwrap(), []);
        let due = books.due(at(1000), AGAIN, 2).await.unwrap();
        let mut claimed = ids(&due);
        claimed.sort_unstable();
        let mut oldest = [first.id().as_str(), second.id().as_str()];
        oldest.sort_unstable();
        assert_eq!(claimed, oldest);
        for record in &due {
            assert_eq!(record.check_at, Some(at(11_000)));
            assert_eq!(books.get(record.id()).await.unwrap().unwrap(), *record);
        }
        let due = books.due(at(1000), AGAIN, 2).await.unwrap();
        assert_eq!(ids(&due), [third.id().as_str()]);
        assert_eq!(books.due(at(10_999), AGAIN, 9).await.unwrap(), []);
        assert_eq!(books.due(at(11_000), AGAIN, 9).await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn what_is_held_or_over_is_left_alone() {
    everywhere(async |place: Place| {
        let (books, others) = (place.books().await, place.books().await);
        let held = due_at(100);
        books.add(&held).await.unwrap();
        let hold = others.hold(held.id()).await.unwrap().unwrap();
        assert_eq!(books.due(at(1000), AGAIN, 9).await.unwrap(), []);
        hold.release().await;
        assert_eq!(books.due(at(1000), AGAIN, 9).await.unwrap().len(), 1);

        // Finished is finished, whatever is said.
        let mut finished = due_at(100);
        finished.standing = Standing::Finished;
        books.add(&finished).await.unwrap();
        assert_eq!(books.due(at(1000), AGAIN, 9).await.unwrap(), []);
        let now = books.get(finished.id()).await.unwrap().unwrap();
        assert_eq!(now.check_at, None);
        // Of one that is gone something may be left.
        let mut gone = due_at(100);
        gone.standing = Standing::Gone;
        books.add(&gone).await.unwrap();
        let due = books.due(at(1000), AGAIN, 9).await.unwrap();
        assert_eq!(ids(&due), [gone.id().as_str()]);
        gone.check_at = None;
        assert!(books.update(&mut gone).await.unwrap());
        assert_eq!(books.due(at(100_000), AGAIN, 9).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_handed_to_two() {
    everywhere(async |place: Place| {
        let all = [
            place.books().await,
            place.books().await,
            place.books().await,
        ];
        for millis in 0..120 {
            all[0].add(&due_at(millis)).await.unwrap();
        }
        let sweeps = (0..9).map(|n| {
            let books = all[n % 3].clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let some = books.due(at(1000), AGAIN, 7).await.unwrap();
                    if some.is_empty() {
                        return mine;
                    }
                    mine.extend(some);
                }
            })
        });
        let mut times = HashMap::new();
        for sweep in sweeps.collect::<Vec<_>>() {
            for record in sweep.await.unwrap() {
                *times.entry(record.id().clone()).or_insert(0) += 1;
            }
        }
        // A sweep that finds all that is left locked by others goes home early; what they didn't
        // take is there for the next.
        for record in all[0].due(at(1000), AGAIN, 1000).await.unwrap() {
            *times.entry(record.id().clone()).or_insert(0) += 1;
        }
        assert_eq!(times.len(), 120);
        assert!(times.values().all(|times| *times == 1), "{times:?}");
    })
    .await;
}

#[tokio::test]
async fn one_that_can_not_be_read_does_not_stop_the_others() {
    everywhere(async |place: Place| {
        let books = place.books().await;
        let (broken, fine) = (due_at(100), due_at(200));
        books.add(&broken).await.unwrap();
        books.add(&fine).await.unwrap();
        let id = broken.id();
        let sql = format!("UPDATE direct_uploads SET description = '{{' WHERE id = '{id}'");
        place.execute(&sql).await;
        let due = books.due(at(1000), AGAIN, 9).await.unwrap();
        assert_eq!(ids(&due), [fine.id().as_str()]);
        let error = books.get(id).await.unwrap_err().to_string();
        assert!(error.contains(id.as_str()), "{error}");
    })
    .await;
}

#[tokio::test]
async fn what_ended_is_forgotten() {
    everywhere(async |place: Place| {
        let books = place.books().await;
        let before = SystemTime::now();
        let mut kept = Vec::new();
        for standing in [
            Standing::Opening,
            Standing::Open,
            Standing::Finishing,
            Standing::Finished,
            Standing::Gone,
        ] {
            let mut record = record("ann", "k");
            books.add(&record).await.unwrap();
            record.standing = standing;
            assert!(books.update(&mut record).await.unwrap());
            if !matches!(standing, Standing::Finished | Standing::Gone) {
                kept.push(record);
            }
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(books.tidy(before - hour).await.unwrap(), 0);
        assert_eq!(books.tidy(before + hour).await.unwrap(), 2);
        assert_eq!(books.tidy(before + hour).await.unwrap(), 0);
        for record in kept {
            assert_eq!(books.get(record.id()).await.unwrap(), Some(record));
        }
    })
    .await;
}
