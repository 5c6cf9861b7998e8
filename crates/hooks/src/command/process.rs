//! A command and its children, from start to end.

use std::{
    convert::Infallible,
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::{
    io::ioctl_fionread,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Semaphore, oneshot},
    time::{sleep, timeout},
};

use super::orphans::WaitedFor;

/// Further output is read and dropped, so that the command continues.
pub(super) const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// Between SIGTERM and SIGKILL.
const TERMINATION_GRACE: Duration = Duration::from_secs(2);

const MAX_BUSY_ATTEMPTS: u32 = 20;
const BUSY_RETRY_DELAY: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) is_truncated: bool,
}

/// The rest of a sentence that begins with the hook.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    #[error("timed out after {0:?} and was terminated")]
    Timeout(Duration),
    #[error("was lost: {0}")]
    Io(#[source] io::Error),
    #[error("was terminated by the server's shutdown")]
    Shutdown,
}

/// The command has its own process group. Dropping this kills the group, if the command still runs.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdout: Option<ChildStdout>,
    _waited_for: WaitedFor,
}

impl Process {
    /// The standard library resets signal handlers and closes other files.
    pub(super) async fn start(command: &mut Command) -> io::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0);
        let mut attempts = MAX_BUSY_ATTEMPTS;
        loop {
            match WaitedFor::spawn(command) {
                Ok((mut child, waited_for)) => {
                    return Ok(Self {
                        stdout: child.stdout.take(),
                        child,
                        _waited_for: waited_for,
                    });
                }
                // The file is being replaced, or another thread forked while it was open.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && attempts > 0 => {
                    attempts -= 1;
                    sleep(BUSY_RETRY_DELAY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// `permit` is dropped when the command has exited, or no process of a terminated group is left. Children
    /// that keep the output open get one of `children` until they close it, or lose it. Dropping the future
    /// terminates the command and its children.
    pub(super) async fn wait(
        self,
        input: Vec<u8>,
        limit: Duration,
        permit: impl Send + 'static,
        children: Arc<Semaphore>,
    ) -> Result<Output, OutputError> {
        let (result, outcome) = oneshot::channel();
        // A separate task, because termination may take longer than the caller waits. The permits
        // limit the number of tasks.
        tokio::spawn(async move {
            let stdout = self.supervise(input, limit, result).await;
            drop(permit);
            if let (Some(mut stdout), Ok(_permit)) = (stdout, children.try_acquire()) {
                let mut dropped = tokio::io::sink();
                let _ = timeout(limit, tokio::io::copy(&mut stdout, &mut dropped)).await;
            }
        });
        outcome.await.unwrap_or(Err(OutputError::Shutdown))
    }

    /// Returns the output if children of a command that has exited keep it open.
    async fn supervise(
        mut self,
        input: Vec<u8>,
        limit: Duration,
        mut result: oneshot::Sender<Result<Output, OutputError>>,
    ) -> Option<ChildStdout> {
        let outcome = tokio::select! {
            outcome = self.work(&input) => outcome.map_err(OutputError::Io),
            () = sleep(limit) => Err(OutputError::Timeout(limit)),
            () = result.closed() => Err(OutputError::Shutdown),
        };
        let is_over = outcome.is_ok();
        // The caller may be gone.
        let _ = result.send(outcome);
        if !is_over {
            self.end().await;
        }
        self.stdout.take()
    }

    /// Reads the output until the command exits. Its children may keep the output open.
    async fn work(&mut self, input: &[u8]) -> io::Result<Output> {
        let stdin = self.child.stdin.take();
        let (child, stdout) = (&mut self.child, &mut self.stdout);
        let run = async {
            let mut read = Captured::default();
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status?,
                    is_open = read.some(stdout) => {
                        if !is_open? {
                            *stdout = None;
                        }
                    }
                }
            };
            if let Some(stdout) = stdout {
                read.rest(stdout)?;
            }
            Ok(Output {
                status,
                stdout: read.output,
                is_truncated: read.is_truncated,
            })
        };
        tokio::select! {
            outcome = run => outcome,
            never = write_input(stdin, input) => match never {},
        }
    }

    /// SIGTERM, then SIGKILL.
    async fn end(&mut self) {
        let Some(group) = self.group() else { return };
        // An error is harmless: only the exit counts.
        let _ = kill_process_group(group, Signal::TERM);
        let exited = async {
            if let Some(stdout) = &mut self.stdout {
                let _ = tokio::io::copy(stdout, &mut tokio::io::sink()).await;
            }
            while !has_exited(group) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = timeout(TERMINATION_GRACE, exited).await;
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait().await;
    }

    /// `None` after the command was waited for: the id may be reused.
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

/// Commands may ignore the input, so this never completes.
async fn write_input(stdin: Option<ChildStdin>, input: &[u8]) -> Infallible {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
    std::future::pending().await
}

#[derive(Debug, Default)]
struct Captured {
    output: Vec<u8>,
    is_truncated: bool,
}

impl Captured {
    /// Returns whether more may follow. Never returns without an output. Cancel safe.
    async fn some(&mut self, stdout: &mut Option<ChildStdout>) -> io::Result<bool> {
        let Some(stdout) = stdout else {
            return std::future::pending().await;
        };
        let mut chunk = [0; 8192];
        let length = stdout.read(&mut chunk).await?;
        self.add(&chunk[..length]);
        Ok(length > 0)
    }

    /// Reads the bytes written until now, which are complete although the runtime may not know of it yet.
    fn rest(&mut self, stdout: &ChildStdout) -> io::Result<()> {
        let mut left = ioctl_fionread(stdout)?;
        let mut chunk = [0; 8192];
        while left > 0 {
            let most = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
            let length = rustix::io::read(stdout, &mut chunk[..most])?;
            if length == 0 {
                break;
            }
            self.add(&chunk[..length]);
            left = left.saturating_sub(length as u64);
        }
        Ok(())
    }

    fn add(&mut self, more: &[u8]) {
        let kept = more.len().min(MAX_OUTPUT_BYTES - self.output.len());
        self.output.extend_from_slice(&more[..kept]);
        self.is_truncated |= kept < more.len();
    }
}

/// Does not reap the child.
fn has_exited(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

/// Describes the status as Go does.
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
