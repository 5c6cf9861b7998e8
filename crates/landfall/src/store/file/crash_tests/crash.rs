//! Crash tests: the process is killed at every change it makes on the disk.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use super::{Acknowledged, Durability, Script, check, journal::Recording};

/// Environment variable with the orders for a child process: directory, script, durability, and the
/// number of changes after which it is killed.
const ORDERS: &str = "LANDFALL_CRASH_TEST";

/// Runs a script and prints the acknowledgements; does nothing unless started by
/// [`crash_everywhere`].
#[tokio::test]
async fn child() {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let orders: Vec<_> = orders.split('|').collect();
    let dir = std::path::Path::new(orders[0]);
    let script = Script::ALL[orders[1].parse::<usize>().unwrap()];
    let durability = DURABILITIES[orders[2].parse::<usize>().unwrap()];
    let _recording = Recording::of(dir, Some(orders[3].parse().unwrap()));
    let ack = |acknowledged: Acknowledged| {
        let line = match acknowledged {
            Acknowledged::Created => "acknowledged created 0".into(),
            Acknowledged::Length => "acknowledged length 0".into(),
            Acknowledged::Offset(offset) => format!("acknowledged offset {offset}"),
            Acknowledged::Complete => "acknowledged complete 0".into(),
        };
        // Not by `println!`: the test harness may capture it.
        let mut out = std::fs::OpenOptions::new()
            .append(true)
            .open("/proc/self/fd/1")
            .unwrap();
        writeln!(out, "\n{line}").unwrap();
    };
    script.run(dir, durability, &ack).await;
}

const DURABILITIES: [Durability; 3] = [Durability::None, Durability::Complete, Durability::Every];

fn parse(line: &str) -> Option<Acknowledged> {
    let (what, offset) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
    Some(match what {
        "created" => Acknowledged::Created,
        "length" => Acknowledged::Length,
        "offset" => Acknowledged::Offset(offset.parse().unwrap()),
        _ => Acknowledged::Complete,
    })
}

/// Kills the child after 0, 1, 2 … changes, until it runs to its end.
async fn crash_everywhere(script: Script, durability: Durability) {
    for kill_after in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let number = |all: &[_], one| all.iter().position(|other| *other == one).unwrap();
        let orders = [
            dir.path().to_str().unwrap().to_owned(),
            Script::ALL
                .iter()
                .position(|other| *other == script)
                .unwrap()
                .to_string(),
            number(&DURABILITIES, durability).to_string(),
            u64::to_string(&kill_after),
        ];
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "store::file::crash_tests::crash::child",
                "--exact",
                "--nocapture",
            ])
            .args(["--test-threads", "1"])
            .env(ORDERS, orders.join("|"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged: Vec<_> = lines.filter_map(|line| parse(&line.unwrap())).collect();
        let status = child.wait().unwrap();
        check(script, dir.path(), &acknowledged).await;
        if status.success() {
            assert!(
                acknowledged.contains(&Acknowledged::Complete),
                "{acknowledged:?}"
            );
            assert!(kill_after > 10, "only {kill_after} changes");
            return;
        }
        assert_eq!(status.signal(), Some(9), "the child failed: {status}");
    }
}

#[tokio::test]
async fn crash_with_durability_none_loses_no_acknowledged_state() {
    for script in Script::ALL {
        crash_everywhere(script, Durability::None).await;
    }
}

#[tokio::test]
async fn crash_with_durability_complete_loses_no_acknowledged_state() {
    for script in Script::ALL {
        crash_everywhere(script, Durability::Complete).await;
    }
}

#[tokio::test]
async fn crash_with_durability_every_loses_no_acknowledged_state() {
    for script in Script::ALL {
        crash_everywhere(script, Durability::Every).await;
    }
}
