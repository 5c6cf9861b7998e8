//! Processes are killed at any moment: every upload ends once, and no data remains.
//!
//! The child opens, sends, completes and sweeps uploads as fast as it can, and prints the emitted
//! events.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use http::{HeaderMap, Method};
use landfall::{
    Resolution,
    event::{Event, EventKind, EventKinds, EventSink},
    upload::UploadId,
};
use landfall_direct::{OpenRequest, SentHeaders, Status, TransferMode};
use landfall_state::queue::{JobId, JobState};
use landfall_state::sql::{Clock, Database, Statement};
use landfall_test_services::{
    Access,
    kill_loop::{KillLoop, report},
};
use tokio::sync::watch;

use super::harness::{AFTER_IDLE_TIMEOUT, MAX_CHECK_DELAY, Node, World, node};
use crate::{
    repository::harness::TestDatabase,
    uploads::harness::{Script, Service, parts, requester, send},
};

const SQLITE: &str = "LANDFALL_TEST_DIRECT_FILE";
#[cfg(feature = "postgres")]
const POSTGRES: &str = "LANDFALL_TEST_DIRECT_URL";
const S3: [&str; 5] = [
    "LANDFALL_TEST_DIRECT_ENDPOINT",
    "LANDFALL_TEST_DIRECT_REGION",
    "LANDFALL_TEST_DIRECT_KEY",
    "LANDFALL_TEST_DIRECT_SECRET",
    "LANDFALL_TEST_DIRECT_BUCKET",
];
const RUNS: usize = 8;

/// Prints the events it receives.
#[derive(Debug)]
struct PrintSink;

#[async_trait]
impl EventSink for PrintSink {
    fn event_kinds(&self) -> EventKinds {
        EventKinds::ALL
    }

    async fn emit(&self, event: Event) {
        if event.kind == EventKind::Completed {
            report(&format!("completed {} {}", event.upload.id, event.id()));
        }
    }

    fn emit_progress(&self, _: Event) {}
}

/// In the child process: works and never returns. In the test's own process: does nothing.
fn run_child() {
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
    let [endpoint, region, access_key, secret_key, bucket] = S3.map(|name| env::var(name).unwrap());
    let access = Access {
        endpoint,
        region,
        access_key,
        secret_key,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let hurry = |settings: &mut landfall_direct::DirectSettings| {
            settings.check_interval = Duration::from_millis(200);
            settings.idle_timeout = Duration::from_secs(2);
        };
        // One of two children has a hook.
        let hook = match std::process::id() % 2 {
            0 => Script::default(),
            _ => Script::silent(),
        };
        let clock = Clock::default();
        let node = node(&database, &access, &bucket, clock, hurry, hook, PrintSink).await;
        let node = Arc::new(node);
        let mut tasks = tokio::task::JoinSet::new();
        let (_stop, stopped) = watch::channel(false);
        let direct = node.direct.clone();
        tasks.spawn(async move { direct.sweep_forever(stopped).await });
        for one in 0..4 {
            tasks.spawn(work(node.clone(), one));
        }
        // The tasks never end.
        tasks.join_next().await.unwrap().unwrap();
    });
}

async fn work(node: Arc<Node>, one: usize) {
    let requester = requester(&format!("s{}", one % 2));
    for round in one.. {
        let mode = [
            TransferMode::Multipart,
            TransferMode::Put,
            TransferMode::Multipart,
        ];
        let mut asked = OpenRequest::new(mode[round % 3], "a file.bin");
        asked.size = (round % 2 == 0).then_some(10);
        let opened = node.direct.open(&requester, asked, &mut parts()).await;
        // SQLite may be busy with other writers.
        let Ok(record) = opened else { continue };
        report("opened");
        let none = HeaderMap::new();
        if record.mode == TransferMode::Put {
            let put = node
                .direct
                .presign_upload(&record, Duration::from_secs(60), SentHeaders::All)
                .await;
            let put = put.unwrap();
            send(Method::PUT, &put.url, &put.headers, &b"0123456789"[..]).await;
            // Every second upload is completed by the sweeper.
            if round % 4 < 2 {
                let _ = node.direct.check(&record, Some(&mut parts())).await;
            }
            continue;
        }
        let mut sent = Vec::new();
        for (number, bytes) in [(1, "01234"), (2, "56789")] {
            // A removed upload accepts no parts.
            let Ok(url) = node.direct.presign_part(&record, number).await else {
                break;
            };
            let (_, headers, _) = send(Method::PUT, &url, &none, bytes).await;
            let Some(etag) = headers.get("etag") else {
                break;
            };
            sent.push((number, etag.to_str().unwrap().to_owned()));
        }
        match round % 5 {
            0 => {}
            1 => drop(node.direct.cancel(&record, &mut parts()).await),
            _ => drop(node.direct.complete(&record, &sent, &mut parts()).await),
        }
    }
}

/// The ids of completion events by upload, and the number of printed lines.
#[derive(Debug, Default)]
struct Output {
    completed: BTreeMap<String, BTreeSet<String>>,
    words: usize,
}

fn kill(test: &str, object: TestDatabase) {
    let world = World::new(Service::Garage, object);
    let access = &world.access;
    let values = [
        &access.endpoint,
        &access.region,
        &access.access_key,
        &access.secret_key,
        &world.bucket,
    ];
    let mut variables: Vec<_> = S3.into_iter().zip(values.map(Into::into)).collect();
    variables.push(match &world.object.database {
        Database::Sqlite(file) => (SQLITE, file.into()),
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => (POSTGRES, url.into()),
    });
    let kills = KillLoop {
        test,
        variables,
        nodes: 2,
        kills: RUNS,
        most_progress: 25,
    };
    let said = Arc::<Mutex<Output>>::default();
    let heard = {
        let said = said.clone();
        move |line: &str| {
            let mut said = said.lock().unwrap();
            said.words += 1;
            let completed = line.strip_prefix("completed ");
            if let Some((upload, event)) = completed.and_then(|rest| rest.split_once(' ')) {
                let events = said.completed.entry(upload.to_owned()).or_default();
                events.insert(event.to_owned());
            }
        }
    };
    kills.run(heard, || said.lock().unwrap().words);
    let said = std::mem::take(&mut *said.lock().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(check_result(&world, said));
}

async fn check_result(world: &World, mut said: Output) {
    let node = world.node().await;
    // Let all leases expire.
    world
        .object
        .execute("UPDATE direct_uploads SET lease_expires_at = 0")
        .await;
    let left = "SELECT COUNT(*) FROM direct_uploads WHERE next_check_at IS NOT NULL";
    let mut sweeps = 0;
    while world.number(left).await > 0 {
        sweeps += 1;
        assert!(sweeps < 10, "uploads stay due");
        let pause = if sweeps == 1 {
            MAX_CHECK_DELAY
        } else {
            AFTER_IDLE_TIMEOUT
        };
        let report = world.sweep_after(&node, pause).await;
        println!("{report:?}");
        assert_eq!(report.check_failures, 0);
    }
    // Jobs that only the queue knows, or does not know yet.
    node.queue.purge().await.unwrap();
    node.reconcile().await;

    let connections = world.object.connections().await;
    let rows = connections.read(Statement::new("SELECT id, job_number FROM direct_uploads"));
    let rows = rows.await.unwrap();
    let mut finished = 0;
    for row in &rows {
        let id = UploadId::new(&row.text("id").unwrap()).unwrap();
        let record = node.repository.get(&id).await.unwrap().unwrap();
        let job = node
            .queue
            .get(JobId(row.number("job_number").unwrap()))
            .await
            .unwrap();
        let state = job.unwrap().state;
        let has_object = node.has_object(&record).await;
        let created = record.upload.created;
        let settled = node
            .direct_settles(EventKind::Completed, &id, created)
            .await;
        match record.status {
            Status::Completed => {
                finished += 1;
                assert_eq!(state, JobState::Completed, "{id}");
                assert!(has_object, "{id}");
                // Emitted, or emitted when it is resolved.
                assert!(matches!(settled, Resolution::Happened(_)), "{id}");
                let events = said.completed.entry(id.to_string()).or_default();
                let emitted = world.sink.events().into_iter();
                let emitted = emitted
                    .filter(|event| event.kind == EventKind::Completed && event.upload.id == id);
                events.extend(emitted.map(|event| event.id()));
                assert!(events.len() <= 1, "{id}: {events:?}");
            }
            Status::Removed => {
                assert!(
                    state.is_terminal() && state != JobState::Completed,
                    "{id}: {state}"
                );
                assert!(!has_object, "{id}");
                assert!(matches!(settled, Resolution::DidNotHappen), "{id}");
                assert!(!said.completed.contains_key(id.as_str()), "{id}");
            }
            other => panic!("{id} is {other:?}"),
        }
    }
    println!(
        "{} uploads, {finished} finished, {sweeps} sweeps",
        rows.len()
    );
    assert!(finished > 0);
    let none: [String; 0] = [];
    assert_eq!(node.multiparts(&world.bucket, "").await, none);
    let alone = "SELECT COUNT(*) FROM queue_jobs WHERE state <> 0 \
                 AND upload_id NOT IN (SELECT id FROM direct_uploads)";
    assert_eq!(
        world.number(alone).await,
        0,
        "a job was started without its record"
    );
    let under_way = "SELECT COUNT(*) FROM queue_jobs WHERE ended_at IS NULL";
    assert_eq!(world.number(under_way).await, 0);
    world.assert_settled().await;
}

#[test]
fn every_upload_ends_once_after_crashes() {
    run_child();
    let test = "sweep::crashes::every_upload_ends_once_after_crashes";
    kill(test, TestDatabase::sqlite());
}

#[cfg(feature = "postgres")]
#[test]
fn on_postgres_whoever_is_killed_everything_ends_once() {
    run_child();
    let test = "sweep::crashes::on_postgres_whoever_is_killed_everything_ends_once";
    kill(test, TestDatabase::postgres());
}
