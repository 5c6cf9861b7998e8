//! Long commands show their progress on a terminal, and on nothing else.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::serve_harness::program;

const ORPHANS: usize = 1_500;
/// Longer than the time after which progress is shown.
const LONG: Duration = Duration::from_secs(1);

/// Empty descriptions, which a sweep lists and keeps.
fn create_orphans(dir: &Path) {
    for number in 0..ORPHANS {
        File::create(dir.join(format!("{number:032x}.info"))).unwrap();
    }
}

/// Runs the command with standard error on a pseudo-terminal; its output is read after `delay`.
/// Returns its output and the terminal's.
fn run_on_terminal(command: &mut Command, delay: Duration) -> (String, String) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(pty.slave))
        .spawn()
        .unwrap();
    // It holds the other end of the terminal.
    command.stderr(Stdio::null());
    let mut terminal = File::from(pty.master);
    let shown = thread::spawn(move || {
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        // The end of a terminal is an error.
        while let Ok(count @ 1..) = terminal.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(shown).unwrap()
    });
    thread::sleep(delay);
    let mut printed = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    child.wait().unwrap();
    (printed, shown.join().unwrap())
}

/// It prints more than a pipe holds, so it lasts as long as no one reads.
fn sweep(dir: &Path, terminal: &str) -> Command {
    let mut command = program();
    command.args(["sweep", "--dry-run", "--expire-unfinished=1ms"]);
    command.arg("--upload-dir").arg(dir).env("TERM", terminal);
    command
}

#[test]
fn a_long_sweep_counts_entries_on_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    create_orphans(dir.path());
    let (printed, shown) = run_on_terminal(&mut sweep(dir.path(), "xterm"), LONG);
    assert!(
        shown.contains("sweeping, 1,000 examined"),
        "{shown:?} {printed}"
    );
    // The progress is removed, and never part of the output.
    assert!(shown.ends_with("\x1b[2K"), "{shown:?}");
    assert_eq!(printed.lines().count(), ORPHANS + 1);
    assert!(!printed.contains('\x1b'), "{printed}");
    let last = format!("would remove 0 of {ORPHANS} entries");
    assert!(printed.lines().last().unwrap().starts_with(&last));
}

#[test]
fn without_a_capable_terminal_no_progress_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    create_orphans(dir.path());
    let (_, shown) = run_on_terminal(&mut sweep(dir.path(), "dumb"), LONG);
    assert_eq!(shown, "");
    let mut piped = sweep(dir.path(), "xterm");
    let mut piped = piped
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(LONG);
    let mut printed = String::new();
    piped
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    let rest = piped.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(rest.stderr).unwrap(), "");
    assert!(!printed.contains('\x1b'), "{printed}");
    assert_eq!(printed.lines().count(), ORPHANS + 1);
}

#[test]
fn short_work_shows_no_progress() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    for arguments in [&["doctor", "files"][..], &["sweep"], &["migrate"]] {
        let mut command = program();
        let command = command.args(arguments).env("TERM", "xterm");
        let command = command.arg("--upload-dir").arg(dir.path());
        let (printed, shown) = run_on_terminal(command, Duration::ZERO);
        assert_eq!(shown, "", "{arguments:?}");
        assert!(!printed.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_bucket_that_answers_late_shows_progress() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            thread::sleep(LONG);
            drop(connection);
        }
    });
    let mut command = program();
    let arguments = ["doctor", "s3", "--s3-bucket", "b", "--s3-endpoint"];
    let command = command.args(arguments).arg(endpoint).env("TERM", "xterm");
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let (printed, shown) = run_on_terminal(command.envs(keys), Duration::ZERO);
    assert!(shown.contains("checking the bucket ("), "{shown:?}");
    assert!(printed.contains("checks failed"), "{printed}");
}

#[test]
fn a_proxy_that_does_not_respond_shows_progress() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/files/", listener.local_addr().unwrap());
    let mut command = program();
    let arguments = ["doctor", "proxy", &url, "--response-timeout", "2s"];
    let command = command.args(arguments).env("TERM", "xterm");
    let (printed, shown) = run_on_terminal(command, Duration::ZERO);
    assert!(shown.contains("checking the proxy ("), "{shown:?}");
    assert!(printed.contains("checks failed"), "{printed}");
}
