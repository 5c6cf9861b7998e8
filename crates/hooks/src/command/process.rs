//! A program and all it starts, from its start to its end.

use std::{
    convert::Infallible,
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::oneshot,
    time::{sleep, timeout},
};

/// The most bytes of output that are kept. What comes after is read and forgotten, so that the program
/// can go on.
pub(super) const OUTPUT_LIMIT: usize = 1024 * 1024;

/// How long a program that is asked to end has for it.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is tried to start a program that somebody is just writing, and how long apart.
const BUSY_TRIES: u32 = 20;
const BUSY_WAIT: Duration = Duration::from_millis(25);

/// What came out of a program.
#[derive(Debug)]
pub(super) struct Output {
    /// How it ended.
    pub(super) status: ExitStatus,
    /// What it printed, up to [`OUTPUT_LIMIT`].
    pub(super) stdout: Vec<u8>,
    /// Whether there was more.
    pub(super) is_cut: bool,
}

/// Why there is no output.
#[derive(Debug)]
pub(super) enum Cut {
    /// Its time was over.
    TooLong,
    /// It couldn't be read or waited for.
    Io(io::Error),
    /// The runtime went away.
    Shutdown,
}

/// A running program, in a process group of its own. Dropped, all of the group is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdout: Option<ChildStdout>,
}

impl Process {
    /// Starts it. Its stdin is a pipe, its stderr ours; signals are as if a shell had started it, and
    /// of our files it has none (the standard library sees to both).
    ///
    /// # Cancel safety
    /// Nothing is running if it is dropped.
    pub(super) async fn start(command: &mut Command) -> io::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0);
        let mut tries = BUSY_TRIES;
        loop {
            match command.spawn() {
                Ok(mut child) => {
                    let stdout = child.stdout.take();
                    return Ok(Self { child, stdout });
                }
                // Its file is just being replaced, or another thread forked while we held it open.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries > 0 => {
                    tries -= 1;
                    sleep(BUSY_WAIT).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives it its input and waits for its end, at most `limit`. `slot` is let go of when nothing of
    /// the program is left.
    ///
    /// # Cancel safety
    /// Dropping it ends the program and its children.
    pub(super) async fn follow(
        self,
        input: Vec<u8>,
        limit: Duration,
        slot: impl Send + 'static,
    ) -> Result<Output, Cut> {
        let (answer, outcome) = oneshot::channel();
        // A task of its own, because ending a program takes longer than a caller may have; there are
        // never more than there are slots.
        tokio::spawn(async move {
            self.watch(input, limit, answer).await;
            drop(slot);
        });
        outcome.await.unwrap_or(Err(Cut::Shutdown))
    }

    async fn watch(
        mut self,
        input: Vec<u8>,
        limit: Duration,
        mut answer: oneshot::Sender<Result<Output, Cut>>,
    ) {
        let outcome = tokio::select! {
            outcome = self.work(&input) => outcome.map_err(Cut::Io),
            () = sleep(limit) => Err(Cut::TooLong),
            () = answer.closed() => Err(Cut::Shutdown),
        };
        let is_over = outcome.is_ok();
        // Nobody may be waiting any more.
        let _ = answer.send(outcome);
        if !is_over {
            self.end().await;
        }
    }

    /// Feeds it, reads what it prints until it and its children have closed that, then waits for it.
    async fn work(&mut self, input: &[u8]) -> io::Result<Output> {
        let stdin = self.child.stdin.take();
        let (child, stdout) = (&mut self.child, &mut self.stdout);
        let listen = async {
            let (stdout, is_cut) = match stdout {
                Some(stdout) => read(stdout).await?,
                None => (Vec::new(), false),
            };
            let status = child.wait().await?;
            Ok(Output {
                status,
                stdout,
                is_cut,
            })
        };
        tokio::select! {
            outcome = listen => outcome,
            never = feed(stdin, input) => match never {},
        }
    }

    /// Asks all of the group to end, gives it a moment, kills what is left, and waits for the program.
    async fn end(&mut self) {
        let Some(group) = self.group() else { return };
        // Whether it works or not: what counts is whether they end.
        let _ = kill_process_group(group, Signal::TERM);
        let gone = async {
            if let Some(stdout) = &mut self.stdout {
                let _ = tokio::io::copy(stdout, &mut tokio::io::sink()).await;
            }
            while !has_exited(group) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = timeout(GRACE, gone).await;
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait().await;
    }

    /// The group, as long as the program hasn't been waited for: after that the number may be
    /// somebody else's.
    fn group(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Writes all of the input. It needn't be read: the end of the program counts, so this has none.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) -> Infallible {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
    std::future::pending().await
}

/// Reads to the end; whether there was more than is kept.
async fn read(stdout: &mut ChildStdout) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let limit = OUTPUT_LIMIT as u64;
    stdout.take(limit).read_to_end(&mut kept).await?;
    let rest = tokio::io::copy(stdout, &mut tokio::io::sink()).await?;
    Ok((kept, rest > 0))
}

/// Whether a child of ours has exited; it stays to be waited for.
fn has_exited(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), look), Ok(None))
}

/// How a program ended, in Go's words.
pub(super) fn describe(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("exit status {code}");
    }
    let Some(signal) = status.signal() else {
        return status.to_string();
    };
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        6 => "aborted",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        _ => return format!("signal: signal {signal}"),
    };
    let core = if status.core_dumped() {
        " (core dumped)"
    } else {
        ""
    };
    format!("signal: {name}{core}")
}
