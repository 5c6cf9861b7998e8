//! Grants of many nodes on one PostgreSQL: their number, their cost for the database, and their waits.
//!
//! `LANDFALL_LONG=1 cargo test -p landfall-state --test it -- --nocapture grants_of_many_nodes` prints a table.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use landfall_state::queue::Queue;
use landfall_state::sql::{Connections, Database, Durability, Statement};
use landfall_test_services::Postgres;

use super::harness::{Place, asked, granted};

/// As many wait at each node.
const CALLERS: usize = 16;

#[derive(Debug)]
struct Measured {
    grants: f64,
    batches: f64,
    /// Of the database's sessions, for each grant.
    cpu_micros: f64,
    /// The mean number of waiting sessions, by the event that they wait for.
    waits: BTreeMap<String, f64>,
}

impl Measured {
    /// Sessions that wait for another transaction.
    fn blocked(&self) -> f64 {
        let waits = ["Lock advisory", "Lock transactionid", "Lock tuple"];
        waits.iter().filter_map(|wait| self.waits.get(*wait)).sum()
    }
}

/// The processor time of the sessions of a database, in seconds.
async fn cpu_seconds(connections: &Connections) -> f64 {
    let sessions = "SELECT CAST(pid AS BIGINT) AS pid FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let sessions = connections.read(Statement::new(sessions)).await.unwrap();
    let ticks = sessions.iter().map(|row| {
        let stat = format!("/proc/{}/stat", row.number("pid").unwrap());
        let stat = fs::read_to_string(stat).unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks = fields.skip(11).take(2);
        ticks.map(|ticks| ticks.parse().unwrap_or(0.0)).sum::<f64>()
    });
    ticks.sum::<f64>() / 100.0
}

async fn measure(database: &Database, nodes: usize, time: Duration) -> Measured {
    let mut place = Place::postgres();
    place.database = database.clone();
    let mut queues = Vec::new();
    for node in 0..nodes {
        let mut settings = place.settings();
        settings.node = format!("node-{node}");
        settings.started_at_grant = true;
        queues.push(Queue::open(settings).await.unwrap());
    }
    let connections = database.open(Durability::ProcessCrash).await.unwrap();
    let (over, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let run = rand::random::<u32>();
    let mut tasks = Vec::new();
    for (node, queue) in queues.iter().enumerate() {
        for caller in 0..CALLERS {
            let (queue, over, count) = (queue.clone(), over.clone(), count.clone());
            tasks.push(tokio::spawn(async move {
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    granted(
                        &queue,
                        asked("ann", &format!("{run}-{node}-{caller}-{n}"), 1),
                    )
                    .await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }
    tokio::time::sleep(time / 4).await;
    let batches = || {
        queues
            .iter()
            .map(|queue| queue.stats().batches)
            .sum::<u64>()
    };
    let (cpu, first, first_batch) = (
        cpu_seconds(&connections).await,
        count.load(Ordering::Relaxed),
        batches(),
    );
    let began = Instant::now();
    let mut waits: BTreeMap<String, f64> = BTreeMap::new();
    let mut samples = 0.0;
    while began.elapsed() < time {
        let sample = "SELECT wait_event_type || ' ' || wait_event AS wait, COUNT(*) AS sessions \
                      FROM pg_stat_activity WHERE datname = current_database() \
                      AND pid <> pg_backend_pid() AND wait_event IS NOT NULL \
                      AND state = 'active' GROUP BY 1";
        for row in connections.read(Statement::new(sample)).await.unwrap() {
            let waiting = waits.entry(row.text("wait").unwrap()).or_default();
            *waiting += row.number("sessions").unwrap() as f64;
        }
        samples += 1.0;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let made = (count.load(Ordering::Relaxed) - first) as f64;
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds(&connections).await - cpu;
    let batches = (batches() - first_batch) as f64;
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    for queue in queues {
        queue.close().await;
    }
    connections.close().await;
    waits.values_mut().for_each(|waiting| *waiting /= samples);
    Measured {
        grants: made / elapsed,
        batches: batches / elapsed,
        cpu_micros: cpu / made * 1e6,
        waits,
    }
}

/// `LANDFALL_LONG=1` prints a table, with a lock of the cluster too; `LANDFALL_NODES=1,10` selects its rows.
#[tokio::test(flavor = "multi_thread")]
async fn grants_of_many_nodes_do_not_wait_for_each_other() {
    if std::env::var("LANDFALL_LONG").is_ok_and(|long| long == "1") {
        print_table().await;
        return;
    }
    let place = Place::postgres();
    let measured = measure(&place.database, 6, Duration::from_secs(2)).await;
    println!("{measured:?}");
    assert!(measured.blocked() < 0.1, "{measured:?}");
}

async fn print_table() {
    let nodes = std::env::var("LANDFALL_NODES").unwrap_or_else(|_| "1,2,4,8,10,24".to_owned());
    let postgres = Postgres::start(true);
    let mut of_one = None;
    for lock in ["", "one lock for all events"] {
        for nodes in nodes.split(',') {
            let nodes = nodes.parse().unwrap();
            let database = Database::Postgres(postgres.database("nodes"));
            if !lock.is_empty() {
                let mut place = Place::postgres();
                place.database = database.clone();
                place.queue().await.close().await;
                super::order::before_events(&place, "PERFORM pg_advisory_xact_lock(77);").await;
            }
            let measured = measure(&database, nodes, Duration::from_secs(6)).await;
            let Measured {
                grants,
                batches,
                cpu_micros,
                waits,
            } = &measured;
            println!(
                "{nodes:3} nodes {lock}: {grants:6.0} grants/s, {:4.1} per batch, {cpu_micros:4.0} µs of the \
                 database each, waiting: {waits:.1?}",
                grants / batches
            );
            if lock.is_empty() {
                assert!(measured.blocked() < 0.1);
                assert!(
                    *grants >= *of_one.get_or_insert(*grants),
                    "fewer than of one node"
                );
            }
        }
    }
}
