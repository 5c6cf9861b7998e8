//! Due checks, and the purge of ended uploads.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use landfall_direct::{Record, Repository, Status};

use super::harness::{TestDatabase, at, everywhere, record};

const RETRY_DELAY: Duration = Duration::from_secs(10);

/// Claims up to `limit` of the records that are due.
async fn claim_due(repository: &Repository, now: SystemTime, limit: usize) -> Vec<Record> {
    let due = repository.due_for_check(now, RETRY_DELAY, limit).await;
    due.unwrap()
}

fn ids(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.id().as_str()).collect()
}

fn due_at(millis: u64) -> Record {
    let mut record = record("ann", "k");
    record.next_check_at = Some(at(millis));
    record
}

#[tokio::test]
async fn the_longest_overdue_are_claimed_first() {
    everywhere(async |object: TestDatabase| {
        let repository = object.repository().await;
        let (first, second, third) = (due_at(100), due_at(200), due_at(300));
        for record in [&second, &third, &first] {
            repository.insert(record).await.unwrap();
        }
        assert_eq!(claim_due(&repository, at(99), 9).await, []);
        let due = claim_due(&repository, at(1000), 2).await;
        let mut claimed = ids(&due);
        claimed.sort_unstable();
        let mut oldest = [first.id().as_str(), second.id().as_str()];
        oldest.sort_unstable();
        assert_eq!(claimed, oldest);
        for record in &due {
            assert_eq!(record.next_check_at, Some(at(11_000)));
            assert_eq!(repository.get(record.id()).await.unwrap().unwrap(), *record);
        }
        let due = claim_due(&repository, at(1000), 2).await;
        assert_eq!(ids(&due), [third.id().as_str()]);
        assert_eq!(claim_due(&repository, at(10_999), 9).await, []);
        assert_eq!(claim_due(&repository, at(11_000), 9).await.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn leased_and_ended_uploads_are_not_due() {
    everywhere(async |object: TestDatabase| {
        let (repository, others) = (object.repository().await, object.repository().await);
        let held = due_at(100);
        repository.insert(&held).await.unwrap();
        let hold = others.acquire_lease(held.id()).await.unwrap().unwrap();
        assert_eq!(claim_due(&repository, at(1000), 9).await, []);
        hold.release().await;
        assert_eq!(claim_due(&repository, at(1000), 9).await.len(), 1);

        // A completed upload is never due.
        let mut finished = due_at(100);
        finished.status = Status::Completed;
        repository.insert(&finished).await.unwrap();
        assert_eq!(claim_due(&repository, at(1000), 9).await, []);
        let now = repository.get(finished.id()).await.unwrap().unwrap();
        assert_eq!(now.next_check_at, None);
        // A removed upload may have remaining data.
        let mut gone = due_at(100);
        gone.status = Status::Removed;
        repository.insert(&gone).await.unwrap();
        let due = claim_due(&repository, at(1000), 9).await;
        assert_eq!(ids(&due), [gone.id().as_str()]);
        gone.next_check_at = None;
        assert!(repository.update(&mut gone).await.unwrap());
        assert_eq!(claim_due(&repository, at(100_000), 9).await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_sweeps_claim_different_uploads() {
    everywhere(async |object: TestDatabase| {
        let all = [
            object.repository().await,
            object.repository().await,
            object.repository().await,
        ];
        for millis in 0..120 {
            all[0].insert(&due_at(millis)).await.unwrap();
        }
        let sweeps = (0..9).map(|n| {
            let repository = all[n % 3].clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let some = claim_due(&repository, at(1000), 7).await;
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
        // A sweep ends early if other sweeps have locked all remaining rows; the next one gets
        // them.
        for record in all[0]
            .due_for_check(at(1000), RETRY_DELAY, 1000)
            .await
            .unwrap()
        {
            *times.entry(record.id().clone()).or_insert(0) += 1;
        }
        assert_eq!(times.len(), 120);
        assert!(times.values().all(|times| *times == 1), "{times:?}");
    })
    .await;
}

#[tokio::test]
async fn an_invalid_row_does_not_block_the_others() {
    everywhere(async |object: TestDatabase| {
        let repository = object.repository().await;
        let (broken, fine) = (due_at(100), due_at(200));
        repository.insert(&broken).await.unwrap();
        repository.insert(&fine).await.unwrap();
        let id = broken.id();
        let sql = format!("UPDATE direct_uploads SET upload_json = '{{' WHERE id = '{id}'");
        object.execute(&sql).await;
        let due = claim_due(&repository, at(1000), 9).await;
        assert_eq!(ids(&due), [fine.id().as_str()]);
        let error = repository.get(id).await.unwrap_err().to_string();
        assert!(error.contains(id.as_str()), "{error}");
    })
    .await;
}

#[tokio::test]
async fn ended_uploads_are_purged() {
    everywhere(async |object: TestDatabase| {
        let repository = object.repository().await;
        let before = SystemTime::now();
        let mut kept = Vec::new();
        for status in [
            Status::Creating,
            Status::Open,
            Status::Completing,
            Status::Completed,
            Status::Removed,
        ] {
            let mut record = record("ann", "k");
            repository.insert(&record).await.unwrap();
            record.status = status;
            assert!(repository.update(&mut record).await.unwrap());
            if !matches!(status, Status::Completed | Status::Removed) {
                kept.push(record);
            }
        }
        let hour = Duration::from_secs(3600);
        assert_eq!(repository.purge(before - hour).await.unwrap(), 0);
        assert_eq!(repository.purge(before + hour).await.unwrap(), 2);
        assert_eq!(repository.purge(before + hour).await.unwrap(), 0);
        for record in kept {
            assert_eq!(repository.get(record.id()).await.unwrap(), Some(record));
        }
    })
    .await;
}
