//! The process is killed at every change it makes.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use super::{Durability, Script, Told, check, journal::Recording};

/// Tells a child process what to do: the directory, the script, the durability, and how many changes
/// it may live to see.
const ORDER: &str = "LANDFALL_CRASH_TEST";

/// Runs a script and prints what is told; does nothing unless it was started by [`die_everywhere`].
#[tokio::test]
async fn child() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let order: Vec<_> = order.split('|').collect();
    let dir = std::path::Path::new(order[0]);
    let script = Script::ALL[order[1].parse::<usize>().unwrap()];
    let durability = DURABILITIES[order[2].parse::<usize>().unwrap()];
    let _recording = Recording::of(dir, Some(order[3].parse().unwrap()));
    let tell = |told: Told| {
        let line = match told {
            Told::Created => "told created 0".into(),
            Told::Length => "told length 0".into(),
            Told::Offset(offset) => format!("told offset {offset}"),
            Told::Complete => "told complete 0".into(),
        };
        // Past the test harness, which may collect what is printed.
        let mut out = std::fs::OpenOptions::new()
            .append(true)
            .open("/proc/self/fd/1")
            .unwrap();
        writeln!(out, "\n{line}").unwrap();
    };
    script.run(dir, durability, &tell).await;
}

const DURABILITIES: [Durability; 3] = [Durability::None, Durability::Complete, Durability::Every];

fn parse(line: &str) -> Option<Told> {
    let (what, offset) = line.strip_prefix("told ")?.split_once(' ')?;
    Some(match what {
        "created" => Told::Created,
        "length" => Told::Length,
        "offset" => Told::Offset(offset.parse().unwrap()),
        _ => Told::Complete,
    })
}

/// Lets a child live to see one more change each time, until one comes to its end.
async fn die_everywhere(script: Script, durability: Durability) {
    for lives in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let number = |all: &[_], one| all.iter().position(|other| *other == one).unwrap();
        let order = [
            dir.path().to_str().unwrap().to_owned(),
            Script::ALL
                .iter()
                .position(|other| *other == script)
                .unwrap()
                .to_string(),
            number(&DURABILITIES, durability).to_string(),
            u64::to_string(&lives),
        ];
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::file::proof::crash::child", "--exact", "--nocapture"])
            .args(["--test-threads", "1"])
            .env(ORDER, order.join("|"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told: Vec<_> = lines.filter_map(|line| parse(&line.unwrap())).collect();
        let status = child.wait().unwrap();
        check(script, dir.path(), &told).await;
        if status.success() {
            assert!(told.contains(&Told::Complete), "{told:?}");
            assert!(lives > 10, "only {lives} changes");
            return;
        }
        assert_eq!(status.signal(), Some(9), "the child failed: {status}");
    }
}

#[tokio::test]
async fn killing_loses_nothing_that_was_told_without_syncing() {
    for script in Script::ALL {
        die_everywhere(script, Durability::None).await;
    }
}

#[tokio::test]
async fn killing_loses_nothing_that_was_told_with_complete_uploads_synced() {
    for script in Script::ALL {
        die_everywhere(script, Durability::Complete).await;
    }
}

#[tokio::test]
async fn killing_loses_nothing_that_was_told_with_every_offset_synced() {
    for script in Script::ALL {
        die_everywhere(script, Durability::Every).await;
    }
}
