//! Tests whose nodes are processes that are killed at any moment.
//!
//! A node runs the test that starts it again, which must see by a variable that it is a node, work and never return. What
//! it must have done when it is killed, it reports by [`report`].

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rand::RngExt as _;

const PREFIX: &str = "said ";

/// In a node: sends a line to the test.
pub fn report(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{PREFIX}{line}").unwrap();
    out.flush().unwrap();
}

/// What is killed, and how often.
#[derive(Debug)]
pub struct KillLoop<'a> {
    /// The name of the test with its modules.
    pub test: &'a str,
    /// The variables of a node.
    pub variables: Vec<(&'static str, OsString)>,
    /// How many nodes run.
    pub nodes: usize,
    /// How many are killed, ten times as many if `LANDFALL_LONG=1`.
    pub kills: usize,
    /// A node is killed after so much more progress, or less.
    pub most_progress: usize,
}

impl KillLoop<'_> {
    /// Kills nodes one after the other, each at a random moment, and at last all of them. `heard` is called with the lines
    /// that nodes report; `progress` returns how much has happened.
    pub fn run(&self, heard: impl Fn(&str) + Clone + Send + 'static, progress: impl Fn() -> usize) {
        let mut running: Vec<_> = (0..self.nodes).map(|_| self.node(heard.clone())).collect();
        let mut random = rand::rng();
        for _ in 0..crate::kills(self.kills) {
            // At any moment, but after some progress.
            let began = Instant::now();
            let then = progress() + random.random_range(1..self.most_progress);
            while progress() < then && began.elapsed() < Duration::from_secs(20) {
                thread::sleep(Duration::from_micros(random.random_range(0..1000)));
            }
            // One node ends before the next starts.
            drop(running.remove(0));
            running.push(self.node(heard.clone()));
        }
    }

    /// Starts one more node.
    pub fn node(&self, heard: impl Fn(&str) + Send + 'static) -> Node {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([self.test, "--exact", "--nocapture", "--test-threads=1"])
            .envs(self.variables.iter().cloned())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { return };
                if let Some(line) = line.strip_prefix(PREFIX) {
                    heard(line);
                }
            }
        });
        Node(child)
    }
}

/// A process, killed when dropped.
#[derive(Debug)]
pub struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
        crate::count_kills(1);
    }
}
