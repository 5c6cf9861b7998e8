//! A queue with many jobs, in several blocks of the search. How long it takes is the benchmark's matter.

use std::time::{Duration, Instant};

use landfall_state::queue::{JobId, JobState, Page, Query, Queue, Scope, StaleFilter};
use landfall_state::sql::Statement;

use super::harness::{Place, everywhere, upload};

/// Number of jobs, of a thousand subjects: most are completed, a few are running.
const JOBS: i64 = 50_000;

/// Jobs of one statement, which takes less time than a server gives one.
const AT_ONCE: i64 = 5_000;

/// Makes them by SQL, which is quicker than asking for each.
async fn fill(place: &Place) {
    let connections = place.connections().await;
    let mut transaction = connections.write().await.unwrap();
    let is_postgres = connections.is_postgres();
    let numbers = |first: i64| {
        let last = first + AT_ONCE - 1;
        if is_postgres {
            format!("SELECT n FROM generate_series({first}, {last}) AS g(n)")
        } else {
            format!(
                "WITH RECURSIVE g(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM g WHERE n < {last}) \
                 SELECT n FROM g"
            )
        }
    };
    let state = format!(
        "CASE WHEN n > {JOBS} - 50 THEN 0 WHEN n % 5000 = 1 THEN 2 WHEN n % 10 = 0 THEN 4 \
         WHEN n % 1001 = 0 THEN 5 ELSE 3 END"
    );
    let jobs = |first| {
        format!(
            "INSERT INTO queue_jobs (number, subject, request_id, filename, filename_key, filetype, \
             request_fingerprint, max_size, metadata, quota_period, created_at, expires_at, state, reason, size, upload_offset, \
             rate, rate_measured_at, upload_id, upload_fingerprint, node, prepared_end, reserved_bytes, started_at, updated_at, \
             updated_minute, ended_at) \
             SELECT n, 's' || (n % 1000), 'r' || n, \
             CASE WHEN n % 4 = 0 THEN 'Holiday ' ELSE 'Report ' END || n || '.mp4', \
             CASE WHEN n % 4 = 0 THEN 'holiday ' ELSE 'report ' END || n || '.mp4', \
             'video/mp4', 1000, NULL, '{{}}', 0, 1700000000000, 1800000000000, {state}, NULL, \
             1000, 1000, 0, 0, 'upload-' || (n * 7919 % {JOBS}), 'digest', 'one', 0, 0, \
             1700000000000, 1700000000000, 1700000000000 / 60000, \
             CASE WHEN {state} > 2 THEN 1700000000000 + n END FROM ({}) AS all_of_them",
            numbers(first)
        )
    };
    let totals = [
        "INSERT INTO queue_state_totals (state, slot, jobs, bytes) SELECT state, 0, COUNT(*), \
         CAST(SUM(CASE WHEN state = 3 THEN upload_offset ELSE 0 END) AS BIGINT) \
         FROM queue_jobs GROUP BY state"
            .to_owned(),
        "INSERT INTO queue_usage (subject, quota_period, slot, reserved_bytes, used_bytes) \
         SELECT subject, 0, 0, 0, COUNT(*) * 1000 FROM queue_jobs GROUP BY subject"
            .to_owned(),
    ];
    // PostgreSQL would run this later.
    let finish = [
        "ANALYZE queue_jobs".to_owned(),
        format!("SELECT setval('queue_job_number', {JOBS})"),
    ];
    let fill = (1..=JOBS).step_by(AT_ONCE as usize).map(jobs).chain(totals);
    for sql in fill.chain(finish.into_iter().filter(|_| is_postgres)) {
        transaction.execute(Statement::new(sql)).await.unwrap();
    }
    transaction.commit().await.unwrap();
    connections.close().await;
}

/// Prints the duration.
async fn timed<T>(what: &str, work: impl AsyncFnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work().await;
    println!("{what}: {:?}", began.elapsed());
    result
}

/// Jobs that a text finds, newest first.
fn matching(text: &str) -> impl Iterator<Item = i64> + '_ {
    let lower = text.to_lowercase();
    (1..=JOBS).rev().filter(move |n| {
        let kind = if n % 4 == 0 { "holiday" } else { "report" };
        let upload = n * 7919 % JOBS;
        format!("{kind} {n}.mp4").starts_with(&lower)
            || [
                format!("s{}", n % 1000),
                format!("r{n}"),
                format!("upload-{upload}"),
            ]
            .iter()
            .any(|id| id.starts_with(text))
    })
}

fn searching(text: &str, scope: Scope) -> Query {
    let mut query = Query::new(scope);
    query.search = Some(text.into());
    query.newest_first = true;
    query
}

async fn list(queue: &Queue, what: &str, query: &Query) -> Page {
    timed(what, async || queue.list(query).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_are_found() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let began = Instant::now();
        fill(&place).await;
        println!("filled in {:?}", began.elapsed());
        let all = Query::new(Scope::All);
        assert_eq!(list(&queue, "oldest", &all).await.jobs.len(), 100);
        let mut query = all.clone();
        query.newest_first = true;
        query.after = Some(JobId(JOBS / 2));
        let page = list(&queue, "the middle, newest first", &query).await;
        assert_eq!(page.jobs[0].id, JobId(JOBS / 2 - 1));
        for states in [
            vec![JobState::Started, JobState::Progress],
            vec![JobState::Completed, JobState::Failed],
            vec![JobState::Expired],
        ] {
            query.states.clone_from(&states);
            let page = list(&queue, &format!("{states:?}"), &query).await;
            assert!(page.jobs.iter().all(|job| states.contains(&job.state)));
            assert!(page.jobs.is_sorted_by_key(|job| std::cmp::Reverse(job.id)));
        }
        let own = Scope::Subject("s7".into());
        let page = list(&queue, "of one subject", &Query::new(own.clone())).await;
        assert!(
            page.jobs
                .iter()
                .all(|job| job.subject.as_deref() == Some("s7"))
        );
        let mut query = Query::new(own.clone());
        query.states = vec![JobState::Cancelled, JobState::Received];
        list(&queue, "of one subject in two states", &query).await;

        for text in [
            "HOLIDAY",
            "Report 49998.mp4",
            "holiday 1000",
            "s99",
            "r19999",
            "upload-12345",
            "nothing",
        ] {
            let query = searching(text, Scope::All);
            let page = list(&queue, &format!("search {text:?}"), &query).await;
            let found: Vec<_> = page.jobs.iter().map(|job| job.id.0).collect();
            let expected: Vec<_> = matching(text).take(100).collect();
            assert_eq!(found, expected, "{text}");
        }
        list(&queue, "own search", &searching("holi", own.clone())).await;
        let mut query = searching("report", Scope::All);
        for states in [
            vec![JobState::Failed],
            vec![JobState::Cancelled],
            vec![JobState::Expired],
        ] {
            query.states.clone_from(&states);
            list(&queue, &format!("search in {states:?}"), &query).await;
        }
        // The oldest matches, in ascending order.
        let mut query = searching("report 1.", Scope::All);
        assert_eq!(
            list(&queue, "search for the oldest", &query)
                .await
                .jobs
                .len(),
            1
        );
        query.newest_first = false;
        assert_eq!(
            list(&queue, "search from the oldest", &query)
                .await
                .jobs
                .len(),
            1
        );

        let totals = timed("totals", async || queue.totals().await.unwrap()).await;
        assert_eq!(totals.jobs.values().sum::<u64>(), JOBS.unsigned_abs());
        timed("request", async || {
            queue.by_request("s1", "r1").await.unwrap().unwrap()
        })
        .await;
        let id = upload("upload-7");
        timed("upload", async || {
            queue.by_upload(&id).await.unwrap().unwrap()
        })
        .await;
        timed("events", async || queue.events(&own, 0, 100).await.unwrap()).await;
        let filter = StaleFilter {
            since: std::time::UNIX_EPOCH,
            before: place.hands.now() + Duration::from_secs(1),
        };
        let stale = timed("stale", async || {
            queue.stale_jobs(filter, None, 256).await.unwrap()
        });
        assert_eq!(i64::try_from(stale.await.len()).unwrap(), JOBS / 5000);
        queue.close().await;
    })
    .await;
}
