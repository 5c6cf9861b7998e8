//! Processes that are killed at any moment leave nothing half-written.
//!
//! The child grants, starts, reports and ends as fast as it can, and says on its standard output what
//! it was answered.

use std::{
    collections::BTreeMap,
    env,
    sync::{Arc, Mutex},
};

use landfall_state::queue::{
    GrantOutcome, Job, JobEnd, JobId, JobState, Queue, QueueSettings, Report, StartOutcome,
    StartRequest,
};
use landfall_state::sql::Database;
use landfall_test_services::kill_loop::{KillLoop, report};

use super::harness::{Place, asked, upload};

const SQLITE: &str = "LANDFALL_TEST_QUEUE_FILE";
#[cfg(feature = "postgres")]
const POSTGRES: &str = "LANDFALL_TEST_QUEUE_URL";
const LIVES: usize = 10;

/// In a child: works, and never returns. In the test's own process it does nothing.
fn be_a_child() {
    let database = match env::var_os(SQLITE) {
        Some(file) => Database::Sqlite(file.into()),
        #[cfg(feature = "postgres")]
        None => match env::var(POSTGRES) {
            Ok(url) => Database::Postgres(url),
            Err(_) => return,
        },
        #[cfg(not(feature = "postgres"))]
        None => return,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut settings = QueueSettings::new(database);
        settings.node = format!("node {}", std::process::id());
        let queue = Queue::open(settings).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for one in 0..6_u32 {
            tasks.spawn(work(queue.clone(), one));
        }
        // None ends of itself.
        tasks.join_next().await.unwrap().unwrap();
    });
}

/// The type of jobs that are granted and started at once.
const DIRECT_ID: &str = "at/once";

fn say(word: &str, job: JobId) {
    report(&format!("{word} {job}"));
}

async fn work(queue: Queue, one: u32) {
    let subject = format!("s{}", one % 2);
    for round in 0.. {
        let mut new = asked(
            &subject,
            &format!("{one}-{round}-{}", std::process::id()),
            10,
        );
        new.limits.quota = Some(u64::MAX / 4);
        let start = |job: &Job| StartRequest::new(upload(&format!("u{}", job.id)), Some(10), "d");
        let job = if round % 3 == 0 {
            new.filetype = Some(DIRECT_ID.into());
            match queue.grant_and_start(new, start).await.unwrap() {
                GrantOutcome::Created(job, StartOutcome::Bound) => job,
                other => panic!("{other:?}"),
            }
        } else {
            let GrantOutcome::Created(job, _) = queue.grant(new).await.unwrap() else {
                panic!("not new");
            };
            say("granted", job.id);
            let started = queue.start(job.id, start(&job)).await.unwrap();
            assert_eq!(started, StartOutcome::Bound);
            job
        };
        say("started", job.id);
        queue.report(Report {
            job: job.id,
            part: None,
            offset: 4,
            length: None,
            at: std::time::SystemTime::now(),
        });
        let end = match round % 4 {
            0 => JobEnd::completed(10),
            1 => JobEnd::Cancelled("no".into()),
            2 => JobEnd::Failed("broken".into()),
            _ => continue,
        };
        assert!(queue.finish(job.id, end).await.unwrap());
        say("ended", job.id);
    }
}

/// Output of the child processes.
type Said = Arc<Mutex<BTreeMap<String, Vec<i64>>>>;

fn kill(test: &str, place: &Place, nodes: usize) {
    let variable = match &place.database {
        Database::Sqlite(file) => (SQLITE, file.into()),
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => (POSTGRES, url.into()),
    };
    let said = Said::default();
    let kills = KillLoop {
        test,
        variables: vec![variable],
        nodes,
        kills: LIVES,
        most_progress: 80,
    };
    let heard = {
        let said = said.clone();
        move |line: &str| {
            // Half a line is from one that was killed: its number may be cut.
            if let Some((word, job)) = line.split_once(' ') {
                let mut said = said.lock().unwrap();
                let jobs = said.entry(word.to_owned()).or_default();
                jobs.push(job.parse().unwrap());
            }
        }
    };
    kills.run(heard, || said.lock().unwrap().values().map(Vec::len).sum());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(judge(place, &said.lock().unwrap()));
}

async fn judge(place: &Place, said: &BTreeMap<String, Vec<i64>>) {
    // Opens a database that a killed process left.
    let queue = place.queue().await;
    let state_of = async |job: &i64| {
        let found = queue.get(JobId(*job)).await.unwrap();
        found.unwrap_or_else(|| panic!("{job} is gone")).state
    };
    println!(
        "{:?}",
        said.iter()
            .map(|(word, jobs)| (word, jobs.len()))
            .collect::<Vec<_>>()
    );
    // The last word of each child may be cut in the middle of its number, but lines are written whole.
    for job in &said["granted"] {
        state_of(job).await;
    }
    for job in &said["started"] {
        assert_ne!(state_of(job).await, JobState::Received, "{job}");
    }
    for job in &said["ended"] {
        assert!(state_of(job).await.is_terminal(), "{job}");
    }
    for (what, sql) in [
        (
            "jobs without a token",
            "SELECT COUNT(*) FROM queue_jobs WHERE filetype IS NULL AND number NOT IN (SELECT job_number FROM queue_tokens)",
        ),
        (
            "jobs that were granted and not started at once",
            "SELECT COUNT(*) FROM queue_jobs WHERE filetype IS NOT NULL AND (state = 0 OR upload_id IS NULL)",
        ),
        (
            "tokens without a job",
            "SELECT COUNT(*) FROM queue_tokens WHERE job_number NOT IN (SELECT number FROM queue_jobs)",
        ),
        (
            "ends that aren't",
            "SELECT COUNT(*) FROM queue_jobs WHERE (state > 2) <> (ended_at IS NOT NULL)",
        ),
        (
            "starts that aren't",
            "SELECT COUNT(*) FROM queue_jobs WHERE (state > 0) <> (upload_id IS NOT NULL AND started_at IS NOT NULL)",
        ),
        (
            "starts told otherwise",
            "SELECT COUNT(*) FROM queue_jobs WHERE (state > 0) <> (1 = (SELECT COUNT(*) FROM queue_events WHERE job_number = queue_jobs.number AND kind = 0))",
        ),
        (
            "ends told otherwise",
            "SELECT COUNT(*) FROM queue_jobs WHERE (state > 2) <> (1 = (SELECT COUNT(*) FROM queue_events WHERE job_number = queue_jobs.number AND kind > 1 AND kind = state - 1))",
        ),
        (
            "more ends told",
            "SELECT COUNT(*) FROM queue_jobs WHERE 1 < (SELECT COUNT(*) FROM queue_events WHERE job_number = queue_jobs.number AND kind > 1)",
        ),
        (
            "what ended is reserved",
            "SELECT COUNT(*) FROM queue_jobs WHERE state > 2 AND reserved_bytes <> 0",
        ),
        (
            "running jobs have no reservation",
            "SELECT COUNT(*) FROM queue_jobs WHERE state < 3 AND reserved_bytes <> 10",
        ),
        (
            "counts are wrong",
            "SELECT COUNT(*) FROM (SELECT state, SUM(jobs) AS jobs FROM queue_state_totals GROUP BY state) AS c WHERE jobs <> (SELECT COUNT(*) FROM queue_jobs WHERE queue_jobs.state = c.state)",
        ),
        (
            "bytes are wrong",
            "SELECT COUNT(*) FROM (SELECT SUM(bytes) AS bytes FROM queue_state_totals WHERE state = 3) AS c WHERE bytes <> (SELECT COALESCE(SUM(upload_offset), 0) FROM queue_jobs WHERE state = 3)",
        ),
        (
            "reservations are wrong",
            "SELECT COUNT(*) FROM (SELECT subject, SUM(reserved_bytes) AS reserved_bytes FROM queue_usage GROUP BY subject) AS u WHERE reserved_bytes <> (SELECT COALESCE(SUM(reserved_bytes), 0) FROM queue_jobs WHERE queue_jobs.subject = u.subject)",
        ),
        (
            "use is wrong",
            "SELECT COUNT(*) FROM (SELECT subject, SUM(used_bytes) AS used_bytes FROM queue_usage GROUP BY subject) AS u WHERE used_bytes <> (SELECT COALESCE(SUM(upload_offset), 0) FROM queue_jobs WHERE queue_jobs.subject = u.subject AND state = 3)",
        ),
    ] {
        assert_eq!(place.number(sql).await, 0, "{what}");
    }
    assert!(place.number("SELECT COUNT(*) FROM queue_usage").await > 0);
    queue.close().await;
}

#[test]
fn a_killed_process_leaves_nothing_half_written() {
    be_a_child();
    let test = "queue::crashes::a_killed_process_leaves_nothing_half_written";
    kill(test, &Place::sqlite(), 2);
}

#[cfg(feature = "postgres")]
#[test]
fn killed_nodes_on_postgres_leave_nothing_half_written() {
    be_a_child();
    let test = "queue::crashes::killed_nodes_on_postgres_leave_nothing_half_written";
    kill(test, &Place::postgres(), 3);
}
