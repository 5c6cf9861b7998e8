//! Simulates one cluster for one seed, prints what happened, and fails if an invariant was violated. See README.md.

mod check;
mod clients;
mod cluster;
mod jobs;
mod node;
mod receiver;
mod records;
mod settings;
mod store;
mod world;

use std::{process::ExitCode, time::Instant};

use landfall_state::{
    outbox,
    queue::Queue,
    sql::{Connections, Database, Durability},
};
use tempfile::TempDir;

use self::{cluster::Cluster, settings::Settings, world::World};

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match simulate() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn simulate() -> Result<ExitCode, Error> {
    let settings = Settings::from_env()?;
    let started = Instant::now();
    let world = World::new(settings.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let (database, _folder) = runtime.block_on(open())?;
    let queue: Queue = runtime.block_on(jobs::open(database.share(), world.clock()))?;
    let mut cluster = Cluster::new(world.clone(), database, runtime, queue);
    let report = cluster.run()?;
    let Settings {
        seed,
        nodes,
        uploads,
        ..
    } = settings;
    let (count, violations) = world.checks.violations();
    for violation in &violations {
        println!("violation: {violation}");
    }
    println!(
        "seed {seed}, {nodes} nodes ({} starts), {} of {uploads} uploads, {} responses, {} events, {} s simulated, \
         {:.1} s, {count} violations",
        report.starts,
        report.completed,
        report.responses,
        report.events,
        report.simulated / 1000,
        started.elapsed().as_secs_f64(),
    );
    println!("trace {:016x}", report.trace);
    Ok(ExitCode::from(u8::from(count > 0)))
}

/// Opens the database of all nodes, in memory if the system has a folder there.
async fn open() -> Result<(Connections, TempDir), Error> {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let database = Database::Sqlite(folder.path().join("state.db"));
    let connections = database.open(Durability::ProcessCrash).await?;
    outbox::migrate(&connections).await?;
    Ok((connections, folder))
}
