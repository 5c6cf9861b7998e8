//! Orders, reports and rows that cannot be written or read.

use std::time::{Duration, SystemTime};

use landfall_state::queue::{
    JobEnd, JobId, JobState, Query, Report, Scope, StaleFilter, StartOutcome, StartRequest,
};
use landfall_state::sql::Statement;

use super::harness::{Place, asked, everywhere, granted, started, until, upload};

fn report(job: JobId, offset: u64) -> Report {
    Report {
        job,
        part: None,
        offset,
        length: None,
        at: SystemTime::now(),
    }
}

async fn execute(place: &Place, sql: impl Into<String>) {
    let connections = place.connections().await;
    let statement = Statement::new(sql.into());
    connections.execute(statement).await.unwrap();
    connections.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_database_refuses_fails_alone() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let mut jobs = Vec::new();
        for nth in 0..40 {
            jobs.push(
                granted(&queue, asked("ann", &format!("a{nth}"), 5))
                    .await
                    .0
                    .id,
            );
        }
        let mut orders = tokio::task::JoinSet::new();
        for (nth, job) in jobs.iter().copied().enumerate() {
            let mut start = StartRequest::new(upload(&format!("u{nth}")), Some(5), "d");
            if nth % 13 == 7 {
                start = start.with_statement(Statement::new("INSERT INTO nothing VALUES (1)"));
            }
            let queue = queue.clone();
            orders.spawn(async move { (nth, queue.start(job, start).await) });
        }
        while let Some(done) = orders.join_next().await {
            let (nth, started) = done.unwrap();
            match started {
                Ok(started) => assert_eq!(started, StartOutcome::Bound),
                Err(_) => assert_eq!(nth % 13, 7),
            }
            assert_eq!(
                queue.get(jobs[nth]).await.unwrap().unwrap().state,
                if nth % 13 == 7 {
                    JobState::Received
                } else {
                    JobState::Started
                }
            );
        }
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_newer_version_is_skipped() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let strange = started(&queue, asked("ann", "strange", 50)).await;
        let broken = started(&queue, asked("ann", "broken", 50)).await;
        let good = started(&queue, asked("ann", "good", 50)).await;
        for (job, set) in [(strange, "state = 17"), (broken, "metadata = '<'")] {
            let sql = format!("UPDATE queue_jobs SET {set} WHERE number = {job}");
            execute(&place, sql).await;
        }
        // Reports and orders about them harm no others, again and again.
        for offset in 1..4 {
            for job in [strange, broken, good] {
                queue.report(report(job, offset));
            }
            until(async || queue.get(good).await.unwrap().unwrap().offset == offset).await;
        }
        let failed = queue.stats().failures;
        assert!(!queue.finish(strange, JobEnd::completed(50)).await.unwrap());
        // In the order of their numbers, in which they are counted.
        let page = queue.list(&Query::new(Scope::All)).await.unwrap();
        assert!(queue.get(broken).await.unwrap().is_none());
        let listed: Vec<_> = page.jobs.iter().map(|job| job.id).collect();
        assert_eq!(listed, [good]);
        let filter = StaleFilter {
            before: place.hands.now() + Duration::from_secs(1),
            since: SystemTime::UNIX_EPOCH,
        };
        let stale = queue.stale_jobs(filter, None, 10).await.unwrap();
        assert_eq!(stale.len(), 1);
        assert!(queue.finish(good, JobEnd::completed(50)).await.unwrap());
        assert_eq!((queue.stats().unreadable_jobs, failed), (2, 0));
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_of_a_newer_version_stop_no_expiry() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let mut good = Vec::new();
        for request in ["a", "b"] {
            good.push(granted(&queue, asked("ann", request, 1)).await.0.id);
        }
        // More than one batch, all due at once and before the others.
        let broken = "INSERT INTO queue_jobs (number, request_id, metadata, quota_period, created_at, expires_at, \
             state, upload_offset, rate, rate_measured_at, reserved_bytes, updated_at, updated_minute) \
             WITH RECURSIVE numbers (n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2200) \
             SELECT n, 'x' || n, '<', 0, 0, 5, 0, 0, 0, 0, 0, 0, 0 FROM numbers";
        execute(&place, broken).await;
        place.hands.go(queue.valid_for());
        let expire = tokio::time::timeout(Duration::from_secs(60), queue.expire_grants());
        let expired = expire.await.expect("it ends").unwrap();
        assert_eq!((expired.count, expired.next), (2, None));
        for job in good {
            let job = queue.get(job).await.unwrap().unwrap();
            assert_eq!(job.state, JobState::Expired);
        }
        let purge = tokio::time::timeout(Duration::from_secs(60), queue.purge());
        assert_eq!(purge.await.expect("it ends").unwrap(), (0, 0));
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_newer_version_end_no_page() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let mut jobs = Vec::new();
        for nth in 0..6 {
            jobs.push(started(&queue, asked("ann", &format!("r{nth}"), 50)).await);
        }
        let (first, last) = (jobs[0], jobs[5]);
        let sql = format!(
            "UPDATE queue_jobs SET metadata = '<' WHERE number > {first} AND number < {last}"
        );
        execute(&place, sql).await;
        for search in [None, Some("r".to_owned())] {
            for newest_first in [false, true] {
                let mut query = Query::new(Scope::All);
                (query.limit, query.newest_first) = (1, newest_first);
                query.search.clone_from(&search);
                let mut listed = Vec::new();
                loop {
                    let page = queue.list(&query).await.unwrap();
                    query.after = page.jobs.last().map(|job| job.id);
                    listed.extend(query.after);
                    if !page.has_more {
                        break;
                    }
                }
                listed.sort_unstable();
                assert_eq!(listed, [first, last], "{search:?}");
            }
        }
        let filter = StaleFilter {
            before: place.hands.now() + Duration::from_secs(1),
            since: SystemTime::UNIX_EPOCH,
        };
        let (mut stale, mut after) = (Vec::new(), None);
        loop {
            let page = queue.stale_jobs(filter, after.as_ref(), 1).await.unwrap();
            let Some(found) = page.into_iter().next() else {
                break;
            };
            stale.push(found.job.id);
            after = Some(found.job);
        }
        assert_eq!(stale, [first, last]);
        queue.close().await;
    })
    .await;
}
