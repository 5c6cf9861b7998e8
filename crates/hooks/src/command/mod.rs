//! Command hooks: a program per event in a folder, as tusd's file hooks are.
//!
//! `<folder>/<event>` (`pre-create`, `post-finish`, …) is run without arguments, in the folder. It reads
//! the message as JSON from its standard input; `TUS_ID`, `TUS_SIZE` and `TUS_OFFSET` are in its
//! environment, and with them `LANDFALL_HOOK`, `LANDFALL_EVENT_ID`, `LANDFALL_SEQUENCE`, in pre-access
//! `LANDFALL_INTENT`, and `LANDFALL_LABEL_<KEY>` for each label. Of this process it inherits all
//! variables but `LANDFALL_…`, which may hold secrets. What it prints is its answer; what it writes to
//! its standard error goes to that of this process. An event without a file is left out; if the folder
//! itself is away, every call fails.

mod environment;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod process;

use std::{
    ffi::OsString,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use http::StatusCode;
use landfall::hook::ClientResponse;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::process::{Cut, Output, Process};
use crate::{
    Failure, HookName, Message, Reaction, Transport,
    format::{self, Format},
};

/// What [`Command`] needs to know.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CommandSettings {
    /// The folder with the programs.
    pub dir: PathBuf,
    /// What the programs are written for: tusd 2 ([`Format::V2`], usual) or 1 ([`Format::V1`]).
    /// [`Format::Auto`] feeds them both and reads answers as tusd 2 does.
    pub format: Format,
    /// How long a program may run, from its start; then it is ended, and its children with it. 10
    /// minutes.
    pub timeout: Duration,
    /// How many may run at once, 32. Events may take three quarters of that, so that slow work on what
    /// is complete doesn't hold up questions.
    pub processes: usize,
    /// Format 1: the exit code of post-receive that stops the upload.
    pub stop_code: Option<i32>,
}

impl CommandSettings {
    /// The usual settings for the programs in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            format: Format::V2,
            timeout: Duration::from_secs(600),
            processes: 32,
            stop_code: None,
        }
    }
}

/// Settings with which no program can be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such folder.
    #[error("cannot use {} as the folder of command hooks: {source}", dir.display())]
    Folder {
        /// As it was set.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// None may run.
    #[error("at least one process of command hooks must be allowed")]
    NoProcess,
}

/// Runs programs as hooks.
#[derive(Debug)]
pub struct Command {
    dir: PathBuf,
    format: Format,
    timeout: Duration,
    stop_code: Option<i32>,
    /// Variables that programs don't inherit.
    withheld: Vec<OsString>,
    slots: Slots,
}

impl Command {
    /// Checks the settings.
    ///
    /// # Errors
    /// There is no such folder, or no process may run.
    pub fn new(settings: CommandSettings) -> Result<Self, CommandError> {
        if settings.processes == 0 {
            return Err(CommandError::NoProcess);
        }
        let checked = std::path::absolute(&settings.dir).and_then(|dir| {
            match std::fs::metadata(&dir)?.is_dir() {
                true => Ok(dir),
                false => Err(io::ErrorKind::NotADirectory.into()),
            }
        });
        let dir = checked.map_err(|source| CommandError::Folder {
            dir: settings.dir,
            source,
        })?;
        Ok(Self {
            dir,
            format: settings.format,
            timeout: settings.timeout,
            stop_code: settings.stop_code,
            withheld: environment::withheld(),
            slots: Slots::new(settings.processes),
        })
    }

    /// Runs the program of the message to its end; `None` if there is none.
    async fn run(&self, message: &Message) -> Result<Option<Output>, Failure> {
        let file = self.dir.join(message.hook.as_str());
        // Most events of most users have no program: they needn't wait for a slot.
        if is_missing(&file) {
            return self.skip();
        }
        let slot = self.slots.take(message.hook).await;
        let mut command = tokio::process::Command::new(&file);
        for name in &self.withheld {
            command.env_remove(name);
        }
        command
            .current_dir(&self.dir)
            .envs(environment::of(message))
            .stdout(match self.prints(message.hook) {
                true => Stdio::inherit(),
                false => Stdio::piped(),
            });
        let process = match Process::start(&mut command).await {
            Ok(process) => process,
            Err(_) if is_missing(&file) => return self.skip(),
            Err(error) => return Err(not_started(&file, error)),
        };
        let input = format::body(self.format, message);
        match process.follow(input, self.timeout, slot).await {
            Ok(output) => Ok(Some(output)),
            Err(Cut::TooLong) => Err(Failure::new(format!(
                "the hook {} ran longer than {:?} and was ended",
                message.hook, self.timeout
            ))),
            Err(Cut::Io(error)) => Err(Failure::because(
                format!("the hook {} was lost: {error}", message.hook),
                error,
            )),
            Err(Cut::Shutdown) => Err(Failure::new(format!(
                "the hook {} was ended with this program",
                message.hook
            ))),
        }
    }

    /// Leaves out an event without a program, unless the whole folder is away: a mount that was lost
    /// decides nothing.
    fn skip(&self) -> Result<Option<Output>, Failure> {
        match self.dir.is_dir() {
            true => Ok(None),
            false => Err(self.no_folder()),
        }
    }

    fn no_folder(&self) -> Failure {
        Failure::new(format!("there is no folder {}", self.dir.display()))
    }

    /// Whether the program's output is this process's: tusd 1 takes it from questions only.
    fn prints(&self, hook: HookName) -> bool {
        self.format == Format::V1 && !hook.is_question()
    }

    /// What tusd 1 makes of it: the exit code is the answer.
    fn react_as_v1(&self, hook: HookName, output: &Output) -> Result<Reaction, Failure> {
        let mut reaction = Reaction::default();
        if output.status.success() {
            return Ok(reaction);
        }
        let status = process::describe(output.status);
        if hook.is_question() {
            let printed = String::from_utf8_lossy(&output.stdout);
            reaction.failed = true;
            reaction.reply = ClientResponse::text(
                StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
                format!("{hook} hook failed: {status}\n{printed}\n"),
            );
            return Ok(reaction);
        }
        let code = output.status.code();
        if hook == HookName::PostReceive && code.is_some() && code == self.stop_code {
            reaction.stop_upload = true;
            return Ok(reaction);
        }
        Err(Failure::new(format!("the hook {hook} failed: {status}")))
    }
}

/// What tusd 2 makes of it: the output is the answer.
fn react_as_v2(hook: HookName, output: &Output) -> Result<Reaction, Failure> {
    if !output.status.success() {
        return Err(Failure::new(format!(
            "unexpected return code {} from hook endpoint: {}",
            code(output.status),
            excerpt(&output.stdout)
        )));
    }
    if output.stdout.is_empty() {
        return Ok(Reaction::default());
    }
    let answer = if output.is_cut {
        Err(Failure::new(format!(
            "the hook {hook} answered more than {} bytes",
            process::OUTPUT_LIMIT
        )))
    } else {
        format::answer(&output.stdout).map_err(|error| {
            let text = format!(
                "failed to parse hook response: {error}, response was: {}",
                excerpt(&output.stdout)
            );
            Failure::because(text, error)
        })
    };
    match answer {
        // Nobody waits for an answer, and the program did its work: not a reason to run it again.
        Err(failure) if !hook.is_question() && hook != HookName::PostReceive => {
            tracing::warn!(%hook, error = %failure, "a hook printed what is no answer: ignored");
            Ok(Reaction::default())
        }
        answer => answer,
    }
}

#[async_trait]
impl Transport for Command {
    fn name(&self) -> &str {
        "command"
    }

    /// # Cancel safety
    /// Dropping it ends the program and its children.
    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        let Some(output) = self.run(message).await? else {
            return Ok(Reaction::default());
        };
        match self.format {
            Format::V1 => self.react_as_v1(message.hook, &output),
            Format::V2 | Format::Auto => react_as_v2(message.hook, &output),
        }
    }

    async fn check(&self) -> Result<(), Failure> {
        match self.dir.is_dir() {
            true => Ok(()),
            false => Err(self.no_folder()),
        }
    }
}

/// How many programs may run.
#[derive(Debug)]
struct Slots {
    all: Arc<Semaphore>,
    events: Arc<Semaphore>,
}

/// The right to run one.
type Slot = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl Slots {
    fn new(processes: usize) -> Self {
        let processes = processes.min(Semaphore::MAX_PERMITS);
        let events = (processes - processes.div_ceil(4)).max(1);
        Self {
            all: Arc::new(Semaphore::new(processes)),
            events: Arc::new(Semaphore::new(events)),
        }
    }

    async fn take(&self, hook: HookName) -> Slot {
        async fn one(of: &Arc<Semaphore>) -> OwnedSemaphorePermit {
            let permit = Arc::clone(of).acquire_owned().await;
            permit.unwrap_or_else(|_| unreachable!("it is never closed"))
        }
        let event = match hook.is_question() {
            true => None,
            false => Some(one(&self.events).await),
        };
        (event, one(&self.all).await)
    }
}

/// The exit code as Go gives it.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

/// The most bytes of an output that are put into a sentence.
const EXCERPT: usize = 16 * 1024;

fn excerpt(output: &[u8]) -> String {
    match output.get(..EXCERPT) {
        Some(start) if output.len() > EXCERPT => format!("{}…", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(output).into_owned(),
    }
}

fn is_missing(file: &Path) -> bool {
    // One look at a local folder: not worth another thread.
    matches!(std::fs::metadata(file), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Why a program that is there doesn't start, with what to do about it.
fn not_started(file: &Path, error: io::Error) -> Failure {
    let name = file.display();
    let is_runnable = std::fs::metadata(file)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    let text = match error.kind() {
        io::ErrorKind::PermissionDenied if !is_runnable => {
            format!("the hook {name} is not executable: chmod +x {name}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("the hook {name} may not be run by this user: {error}")
        }
        io::ErrorKind::NotFound => {
            format!("the hook {name} is there, but not the interpreter that its first line names")
        }
        io::ErrorKind::ExecutableFileBusy => {
            format!("the hook {name} is being written to")
        }
        _ => format!("the hook {name} can't be run (does it begin with #!?): {error}"),
    };
    Failure::because(text, error)
}
