//! Runs the simulation: for a minute, or for an hour with `LANDFALL_LONG`.
//!
//! Each simulation is a process: its random numbers, and so its trace, follow from the seed alone. Several run at a time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env,
    process::{Command, Output},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const LONG: Duration = Duration::from_secs(3600);

fn simulation(seed: u64, nodes: u32, uploads: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-simulation"));
    for (name, value) in [
        ("SEED", seed),
        ("NODES", u64::from(nodes)),
        ("UPLOADS", u64::from(uploads)),
    ] {
        // The settings of the caller come first.
        let name = format!("LANDFALL_SIMULATION_{name}");
        let value = env::var(&name).unwrap_or_else(|_| value.to_string());
        command.env(name, value);
    }
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A seed that no earlier run had.
fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap() % 1_000_000_000
}

fn must_hold(command: &mut Command) {
    let output = command.output().unwrap();
    println!("{}", text(&output));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", text(&output));
}

#[test]
fn the_invariants_hold_in_a_cluster_that_fails() {
    let seed = new_seed();
    must_hold(&mut simulation(seed, 50, 1000));
    // Few nodes meet on few uploads more often.
    for seed in seed..seed + 3 {
        must_hold(&mut simulation(seed, 7, 200));
    }
}

/// The trace has every event, with its time, node and outcome.
#[test]
fn the_same_seed_has_the_same_trace() {
    let trace = |seed| {
        let output = simulation(seed, 6, 60).output().unwrap();
        let text = text(&output);
        text.lines().last().unwrap().to_owned()
    };
    let seed = new_seed();
    let first = trace(seed);
    assert!(first.starts_with("trace "), "{first}");
    assert_eq!(first, trace(seed), "seed {seed}");
    assert_ne!(first, trace(seed + 1), "the seed has no effect");
}

#[test]
fn a_defect_of_each_kind_is_found() {
    let mutants = [
        ("lost-bytes", "acknowledged bytes"),
        ("two-writers", "one writer"),
        ("lost-event", "at least once"),
        ("reordered-event", "order"),
        ("lease-never-freed", "free in time"),
        ("starved-request", "starved"),
    ];
    thread::scope(|scope| {
        for (mutant, invariant) in mutants {
            scope.spawn(move || {
                let mut command = simulation(3, 20, 200);
                let output = command.env("LANDFALL_SIMULATION_MUTANT", mutant).output();
                let text = text(&output.unwrap());
                let is_found = |line: &str| line.contains(&format!(" ms: {invariant}"));
                assert!(text.lines().any(is_found), "{mutant} was not found: {text}");
            });
        }
    });
}

/// With `LANDFALL_LONG`: a thousand nodes, then clusters of every size until the hour is over.
#[test]
fn the_invariants_hold_for_an_hour() {
    if env::var_os("LANDFALL_LONG").is_none() {
        return;
    }
    let started = Instant::now();
    let first = new_seed();
    must_hold(&mut simulation(first, 1000, 100_000));
    for seed in first + 1.. {
        if started.elapsed() >= LONG {
            break;
        }
        let nodes = [3, 10, 50, 200][usize::try_from(seed % 4).unwrap()];
        must_hold(&mut simulation(seed, nodes, nodes * 40));
    }
}
