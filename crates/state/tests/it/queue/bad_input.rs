//! Orders, reports and rows that cannot be written or read.

use landfall_state::queue::{
    JobEnd, JobId, JobState, Query, Report, Scope, StaleFilter, StartOutcome, StartRequest,
};
use landfall_state::sql::Statement;

use super::harness::{asked, everywhere, granted, started, until, upload};

fn report(job: JobId, offset: u64) -> Report {
    Report {
        job,
        part: None,
        offset,
        length: None,
        at: std::time::SystemTime::now(),
    }
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
        let connections = place.connections().await;
        for (job, set) in [(strange, "state = 17"), (broken, "metadata = '<'")] {
            let sql = format!("UPDATE queue_jobs SET {set} WHERE number = {job}");
            let mut transaction = connections.write().await.unwrap();
            transaction.execute(Statement::new(sql)).await.unwrap();
            transaction.commit().await.unwrap();
        }
        connections.close().await;
        // Reports and orders about them harm no others, again and again.
        for offset in 1..4 {
            for job in [strange, broken, good] {
                queue.report(report(job, offset));
            }
            until(async || queue.get(good).await.unwrap().unwrap().offset == offset).await;
        }
        let failed = queue.stats().failures;
        assert!(!queue.finish(strange, JobEnd::completed(50)).await.unwrap());
        assert!(queue.get(broken).await.unwrap().is_none());
        let page = queue.list(&Query::new(Scope::All)).await.unwrap();
        let listed: Vec<_> = page.jobs.iter().map(|job| job.id).collect();
        assert_eq!(listed, [good]);
        let filter = StaleFilter {
            before: place.hands.now() + std::time::Duration::from_secs(1),
            since: std::time::UNIX_EPOCH,
        };
        let stale = queue.stale_jobs(filter, None, 10).await.unwrap();
        assert_eq!(stale.len(), 1);
        assert!(queue.finish(good, JobEnd::completed(50)).await.unwrap());
        assert_eq!((queue.stats().unreadable_jobs, failed), (2, 0));
        queue.close().await;
    })
    .await;
}
