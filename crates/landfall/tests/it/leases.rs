//! Leases between processes: each test runs itself again as the other process.

use std::{
    env,
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use landfall::{
    lease::{FileLocker, Lease, LeaseError, Locker, MemoryLocker, YieldReason},
    upload::UploadId,
};
use landfall_test_services::until;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::sleep;

const DIR: &str = "LANDFALL_TEST_LEASE_DIR";
const LONG: Duration = Duration::from_secs(20);

fn upload() -> UploadId {
    UploadId::new("the/upload").unwrap()
}

/// The other process: acquires the lease and follows commands, one per line.
struct Other {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Other {
    /// Runs the test named `test` again, which must call [`run_as_other_process`] first.
    fn start(test: &str, dir: &Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Waits for `word` at the end of a line (the test harness also writes lines).
    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(
                self.said.read_line(&mut line).unwrap(),
                0,
                "it ended before it said {word}"
            );
            if line.trim_end().ends_with(word) {
                return;
            }
        }
    }

    fn command(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// In the other process: holds the lease until it must yield or is instructed to drop it. Never returns.
async fn run_as_other_process() {
    let Some(dir) = env::var_os(DIR) else { return };
    let dir = PathBuf::from(dir);
    let locker = FileLocker::new(&dir);
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if tell.blocking_send(line.unwrap()).is_err() {
                break;
            }
        }
        // The test has ended.
        std::process::exit(0);
    });
    while let Some(word) = told.recv().await {
        match word.as_str() {
            "hold until asked" => {
                let lease = locker.acquire(&upload(), LONG).await.unwrap();
                println!("\nholding");
                assert_eq!(lease.signal().wait().await, YieldReason::Requested);
                drop(lease);
                println!("\nyielded");
            }
            "hold" => {
                let lease = locker.acquire(&upload(), LONG).await.unwrap();
                println!("\nholding");
                told.recv().await;
                println!("\nasked: {}", lease.signal().reason().is_some());
                drop(lease);
            }
            "contend" => contend(&dir).await,
            other => panic!("unknown command {other}"),
        }
    }
    std::process::exit(0);
}

/// Acquires leases of a few uploads, in bursts, and logs when it has one.
async fn contend(dir: &Path) {
    let interval = Duration::from_millis(2);
    let intervals = landfall::lease::Intervals {
        holder: interval,
        waiter: interval,
    };
    let locker = FileLocker::with_intervals(dir, intervals);
    let process = std::process::id();
    let log = |id: &UploadId, what: &str| {
        let path = dir.join(format!("log-{id}"));
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(format!("{process} {what}\n").as_bytes())
            .unwrap();
    };
    loop {
        for _ in 0..rand::random_range(1..60) {
            let id = UploadId::new(&format!("{}", rand::random_range(0..4))).unwrap();
            if let Ok(lease) = locker.acquire(&id, Duration::from_secs(1)).await {
                log(&id, "begins");
                sleep(Duration::from_micros(rand::random_range(0..2000))).await;
                log(&id, "ends");
                drop(lease);
            }
        }
        // Longer than it takes another process to be alone.
        sleep(Duration::from_millis(rand::random_range(0..600))).await;
    }
}

/// Panics if a process had the lease while another one did; returns how often it was held.
fn check_log(log: &str) -> usize {
    let lines: Vec<_> = log
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let begins = lines
        .iter()
        .enumerate()
        .filter(|(_, (_, what))| *what == "begins");
    let mut count = 0;
    for (at, (process, _)) in begins {
        count += 1;
        let mut after = lines[at + 1..].iter();
        if let Some((next, what)) = after.next()
            && (next, *what) != (process, "ends")
        {
            // It was killed.
            let lives = next == process || after.any(|(later, _)| later == process);
            assert!(!lives, "{process} and {next} had it at line {at} of\n{log}");
        }
    }
    count
}

#[tokio::test]
async fn three_processes_that_are_killed_and_stopped_exclude_each_other() {
    run_as_other_process().await;
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let name = "leases::three_processes_that_are_killed_and_stopped_exclude_each_other";
        let mut other = Other::start(name, dir.path());
        other.command("contend");
        other
    };
    let mut others = [start(), start(), start()];
    for round in 0..40 {
        sleep(Duration::from_millis(rand::random_range(0..200))).await;
        let other = &mut others[rand::random_range(0..3)];
        if round % 3 == 0 {
            other.send(Signal::SIGKILL);
            other.child.wait().unwrap();
            *other = start();
        } else {
            other.send(Signal::SIGSTOP);
            sleep(Duration::from_millis(rand::random_range(0..100))).await;
            other.send(Signal::SIGCONT);
        }
    }
    drop(others);
    let log = |id| std::fs::read_to_string(dir.path().join(format!("log-{id}")));
    let held: usize = (0..4)
        .map(|id| check_log(&log(id).unwrap_or_default()))
        .sum();
    assert!(held > 100, "only {held} leases");
}

async fn timed_acquire(
    locker: &FileLocker,
    wait: Duration,
) -> (Result<Lease, LeaseError>, Duration) {
    let begun = Instant::now();
    (locker.acquire(&upload(), wait).await, begun.elapsed())
}

#[tokio::test]
async fn takeover_between_processes_takes_less_than_a_second() {
    run_as_other_process().await;
    let dir = tempfile::tempdir().unwrap();
    let mut other = Other::start(
        "leases::takeover_between_processes_takes_less_than_a_second",
        dir.path(),
    );
    let locker = FileLocker::new(dir.path());
    for _ in 0..3 {
        other.command("hold until asked");
        other.expect("holding");
        assert!(matches!(
            locker.try_acquire(&upload()).await,
            Err(LeaseError::Locked)
        ));
        let (lease, took) = timed_acquire(&locker, LONG).await;
        assert!(took < Duration::from_secs(1), "a takeover took {took:?}");
        assert_eq!(lease.unwrap().signal().reason(), None);
        other.expect("yielded");
    }
    assert_eq!(
        request_count(dir.path()),
        0,
        "a request file was left behind"
    );
}

#[tokio::test]
async fn process_yields_to_another() {
    run_as_other_process().await;
    let dir = tempfile::tempdir().unwrap();
    let mut other = Other::start("leases::process_yields_to_another", dir.path());
    let locker = FileLocker::new(dir.path());
    let lease = locker.acquire(&upload(), LONG).await.unwrap();
    other.command("hold");
    assert_eq!(
        tokio::time::timeout(LONG, lease.signal().wait()).await,
        Ok(YieldReason::Requested)
    );
    drop(lease);
    other.expect("holding");
    other.command("drop it");
    other.expect("asked: false");
}

#[tokio::test]
async fn killed_holder_loses_its_lease_at_once() {
    run_as_other_process().await;
    let dir = tempfile::tempdir().unwrap();
    let locker = FileLocker::new(dir.path());
    let mut other = Other::start("leases::killed_holder_loses_its_lease_at_once", dir.path());
    other.command("hold");
    other.expect("holding");
    let waiter = tokio::spawn({
        let locker = locker.clone();
        async move { locker.acquire(&upload(), LONG).await }
    });
    sleep(Duration::from_millis(300)).await;
    assert!(
        !waiter.is_finished(),
        "the lease went while its holder lived"
    );
    let killed = Instant::now();
    other.send(Signal::SIGKILL);
    waiter.await.unwrap().unwrap();
    let took = killed.elapsed();
    assert!(
        took < Duration::from_secs(1),
        "the waiter got it {took:?} after the holder died"
    );
}

#[tokio::test]
async fn suspended_holder_keeps_its_lease() {
    run_as_other_process().await;
    let dir = tempfile::tempdir().unwrap();
    let locker = FileLocker::new(dir.path());
    let mut other = Other::start("leases::suspended_holder_keeps_its_lease", dir.path());
    other.command("hold until asked");
    other.expect("holding");
    other.send(Signal::SIGSTOP);
    let (lease, took) = timed_acquire(&locker, Duration::from_millis(400)).await;
    assert!(matches!(lease, Err(LeaseError::Locked)), "{lease:?}");
    assert!(took >= Duration::from_millis(400), "gave up after {took:?}");
    assert_eq!(
        request_count(dir.path()),
        0,
        "a request file was left behind"
    );
    // After it continues, it sees the next request.
    other.send(Signal::SIGCONT);
    timed_acquire(&locker, LONG).await.0.unwrap();
    other.expect("yielded");
}

#[tokio::test]
async fn request_of_a_killed_process_interrupts_no_holder() {
    run_as_other_process().await;
    let dir = tempfile::tempdir().unwrap();
    let locker = FileLocker::new(dir.path());
    let lease = locker.acquire(&upload(), LONG).await.unwrap();
    let mut other = Other::start(
        "leases::request_of_a_killed_process_interrupts_no_holder",
        dir.path(),
    );
    other.command("hold");
    assert_eq!(
        tokio::time::timeout(LONG, lease.signal().wait()).await,
        Ok(YieldReason::Requested)
    );
    other.send(Signal::SIGKILL);
    other.child.wait().unwrap();
    assert_eq!(
        request_count(dir.path()),
        1,
        "the request of the killed process"
    );
    drop(lease);
    let lease = locker.acquire(&upload(), LONG).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(
        lease.signal().reason(),
        None,
        "the request of a dead process was honored"
    );
    // It is removed when it is old.
    for ask in request_files(dir.path()) {
        let file = std::fs::File::open(ask).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(120))
            .unwrap();
    }
    for _ in 0..100 {
        sleep(Duration::from_millis(50)).await;
        if request_count(dir.path()) == 0 {
            return;
        }
    }
    panic!("an old request was not removed");
}

fn request_files(dir: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(dir.join(".landfall/requests")) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    }
}

fn request_count(dir: &Path) -> usize {
    request_files(dir).len()
}

#[tokio::test]
async fn no_file_per_upload_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let locker = FileLocker::new(dir.path());
    for _ in 0..2000 {
        drop(locker.acquire(&UploadId::random(), LONG).await.unwrap());
    }
    let files: Vec<_> = std::fs::read_dir(dir.path().join(".landfall"))
        .unwrap()
        .collect();
    assert!(files.len() <= 64, "{} files", files.len());
    for file in files {
        assert_eq!(
            file.unwrap().metadata().unwrap().len(),
            0,
            "locks take no space"
        );
    }
}

#[tokio::test]
async fn released_leases_use_no_memory() {
    let locker = MemoryLocker::new();
    for _ in 0..2000 {
        drop(locker.acquire(&UploadId::random(), LONG).await.unwrap());
    }
    let id = UploadId::random();
    let lease = locker.acquire(&id, LONG).await.unwrap();
    assert!(locker.acquire(&id, Duration::from_millis(5)).await.is_err());
    assert_eq!(locker.len(), 1);
    drop(lease);
    assert!(locker.is_empty());
}

/// A locker may notice the removal of the first file, and make a new one, before the directory is empty.
fn remove_lock_directory(dir: &Path) {
    while let Err(error) = std::fs::remove_dir_all(dir.join(".landfall")) {
        assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
    }
}

#[tokio::test]
async fn lock_directory_may_be_removed_without_leases() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (FileLocker::new(dir.path()), FileLocker::new(dir.path()));
    drop(one.acquire(&upload(), LONG).await.unwrap());
    drop(other.acquire(&upload(), LONG).await.unwrap());
    remove_lock_directory(dir.path());
    sleep(Duration::from_millis(1100)).await;
    let lease = one.acquire(&upload(), LONG).await.unwrap();
    assert!(matches!(
        other.try_acquire(&upload()).await,
        Err(LeaseError::Locked)
    ));
    drop(lease);
    drop(other.acquire(&upload(), LONG).await.unwrap());
}

#[tokio::test]
async fn lease_survives_removal_of_the_lock_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (FileLocker::new(dir.path()), FileLocker::new(dir.path()));
    let lease = one.acquire(&upload(), LONG).await.unwrap();
    remove_lock_directory(dir.path());
    // The holder notices it within a second or two, makes new files, and locks them.
    let files = || std::fs::read_dir(dir.path().join(".landfall")).map_or(0, Iterator::count);
    until(async || files() > 0).await;
    sleep(Duration::from_millis(1000)).await;
    assert!(matches!(
        other.try_acquire(&upload()).await,
        Err(LeaseError::Locked)
    ));
    assert_eq!(lease.signal().reason(), None);
    drop(lease);
    drop(other.try_acquire(&upload()).await.unwrap());
}

#[tokio::test]
async fn lease_acquired_by_another_after_removal_of_the_lock_directory_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (FileLocker::new(dir.path()), FileLocker::new(dir.path()));
    let lease = one.acquire(&upload(), LONG).await.unwrap();
    let begin = Instant::now();
    let _usurper = loop {
        let _ = std::fs::remove_dir_all(dir.path().join(".landfall"));
        match other.try_acquire(&upload()).await {
            Ok(usurper) => break usurper,
            // The holder has noticed it before.
            Err(error) => assert!(begin.elapsed() < LONG, "{error:?}"),
        }
    };
    assert_eq!(
        tokio::time::timeout(LONG, lease.signal().wait()).await,
        Ok(YieldReason::LeaseLost)
    );
}

#[tokio::test]
async fn unusable_directory_returns_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let missing = FileLocker::new(dir.path().join("missing"));
    let error = missing.acquire(&upload(), LONG).await.unwrap_err();
    assert!(matches!(error, LeaseError::Unavailable(_)), "{error:?}");
    assert!(
        !dir.path().join("missing").exists(),
        "it made the directory of uploads"
    );

    std::fs::write(dir.path().join(".landfall"), "a file").unwrap();
    let blocked = FileLocker::new(dir.path());
    let error = blocked
        .acquire(&upload(), LONG)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(".landfall/leases-"), "{error}");
    // It works as soon as the cause is removed, and the failures left no lease behind.
    std::fs::remove_file(dir.path().join(".landfall")).unwrap();
    blocked.acquire(&upload(), LONG).await.unwrap();
}

#[test]
fn locker_outlives_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (FileLocker::new(dir.path()), FileLocker::new(dir.path()));
    for _ in 0..2 {
        // The task that polls for requests ends with its runtime, and starts again in the next.
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let lease = one.acquire(&upload(), LONG).await.unwrap();
                let holder = tokio::spawn(async move {
                    lease.signal().wait().await;
                });
                drop(other.acquire(&upload(), LONG).await.unwrap());
                holder.await.unwrap();
            });
    }
}
