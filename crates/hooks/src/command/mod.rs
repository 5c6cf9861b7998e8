//! Command hooks: one program per event in a directory, like tusd's file hooks.
//!
//! `<dir>/<event>` (`pre-create`, `post-finish`, …) runs without arguments in the directory. It
//! reads the message as JSON from standard input. Its environment has `TUS_ID`, `TUS_SIZE`,
//! `TUS_OFFSET`, `LANDFALL_HOOK`, `LANDFALL_EVENT_ID`, `LANDFALL_SEQUENCE`, in pre-access
//! `LANDFALL_INTENT`, `LANDFALL_LABEL_<KEY>` for each label, and of a traced request `TRACEPARENT`
//! and `TRACESTATE`. It inherits all variables of this
//! process but `LANDFALL_…`, which may contain secrets.
//!
//! Standard output until the command exits is the response, and standard error is that of this process. An event without a
//! program is ignored. If the directory is missing, every call fails.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod orphans;
mod process;

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use crate::{DeliveryError, HookName, HookResponse, Message, Transport};
use async_trait::async_trait;
use landfall::hook::ClientResponse;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::orphans::reap_orphans;
use self::process::{Output, Process};
use crate::{
    SettingsError,
    format::{self, Format},
};

/// Settings of [`Command`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CommandSettings {
    /// The directory of the commands.
    pub dir: PathBuf,
    /// The format: tusd 2 ([`Format::V2`], default) or 1 ([`Format::V1`]); [`Format::Auto`] sends both and
    /// parses responses of tusd 2.
    pub format: Format,
    /// Timeout of a command, after which it and its children are terminated; 10 minutes by default. Children
    /// that outlive their command continue.
    pub timeout: Duration,
    /// Maximum concurrent processes; 32 by default. Events use at most three quarters, so that slow events do
    /// not delay blocking hooks.
    pub max_processes: usize,
    /// The exit code of post-receive that stops the upload; format 1 only.
    pub stop_code: Option<i32>,
}

impl CommandSettings {
    /// Creates default settings for the commands in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            format: Format::V2,
            timeout: Duration::from_secs(600),
            max_processes: 32,
            stop_code: None,
        }
    }
}

/// Runs commands as hooks.
#[derive(Debug)]
pub struct Command {
    settings: CommandSettings,
    excluded: Vec<OsString>,
    limits: ProcessLimits,
}

impl Command {
    /// Creates the transport.
    ///
    /// # Errors
    /// The directory is missing, or no processes are allowed.
    pub fn new(mut settings: CommandSettings) -> Result<Self, SettingsError> {
        if settings.max_processes == 0 {
            let text = "the maximum number of command hook processes must be at least 1";
            return Err(SettingsError(text.into()));
        }
        let checked = std::path::absolute(&settings.dir).and_then(|dir| {
            match std::fs::metadata(&dir)?.is_dir() {
                true => Ok(dir),
                false => Err(io::ErrorKind::NotADirectory.into()),
            }
        });
        settings.dir = checked.map_err(|error| {
            let dir = settings.dir.display();
            SettingsError(format!(
                "cannot use the directory {dir} for command hooks: {error}"
            ))
        })?;
        Ok(Self {
            excluded: excluded(),
            limits: ProcessLimits::new(settings.max_processes),
            settings,
        })
    }

    async fn run(&self, message: &Message) -> Result<Option<Output>, DeliveryError> {
        let file = self.settings.dir.join(message.hook.as_str());
        // Most events have no command: these do not wait for a permit.
        if is_missing(&file) {
            return self.check().await.map(|()| None);
        }
        let permit = self.limits.acquire(message.hook).await;
        let mut command = tokio::process::Command::new(&file);
        for name in &self.excluded {
            command.env_remove(name);
        }
        command
            .current_dir(&self.settings.dir)
            .envs(variables(message))
            .stdout(match self.forwards_output(message.hook) {
                true => Stdio::inherit(),
                false => Stdio::piped(),
            });
        let process = match Process::start(&mut command).await {
            Ok(process) => process,
            Err(_) if is_missing(&file) => return self.check().await.map(|()| None),
            Err(error) => return Err(spawn_error(&file, error)),
        };
        let input = format::body(self.settings.format, message);
        let children = self.limits.children.clone();
        let output = process.wait(input, self.settings.timeout, permit, children);
        let output = output.await;
        output.map(Some).map_err(|error| {
            let text = format!("the hook {} {error}", message.hook);
            DeliveryError::with_source(text, error)
        })
    }

    /// tusd 1 reads the output for blocking hooks only.
    fn forwards_output(&self, hook: HookName) -> bool {
        self.settings.format == Format::V1 && !hook.is_blocking()
    }

    /// The exit code is the response.
    fn parse_v1(&self, hook: HookName, output: &Output) -> Result<HookResponse, DeliveryError> {
        let mut response = HookResponse::default();
        if output.status.success() {
            return Ok(response);
        }
        let status = process::describe(output.status);
        if hook.is_blocking() {
            let printed = String::from_utf8_lossy(&output.stdout);
            response.failed = true;
            let text = format!("{hook} hook failed: {status}\n{printed}\n");
            response.client_response = ClientResponse::text(500, text);
            return Ok(response);
        }
        let code = output.status.code();
        if hook == HookName::PostReceive && code.is_some() && code == self.settings.stop_code {
            response.stop_upload = true;
            return Ok(response);
        }
        let text = format!("the hook {hook} failed: {status}");
        Err(DeliveryError::new(text))
    }
}

/// The output is the response.
fn parse_v2(hook: HookName, output: &Output) -> Result<HookResponse, DeliveryError> {
    if !output.status.success() {
        let (code, printed) = (code(output.status), excerpt(&output.stdout));
        let printed = match printed.is_empty() {
            true => "no output; its standard error, if any, is in the log of the server",
            false => &printed,
        };
        let text = format!("unexpected return code {code} from hook endpoint: {printed}");
        return Err(DeliveryError::new(text));
    }
    if output.stdout.is_empty() {
        return Ok(HookResponse::default());
    }
    let response = if output.is_truncated {
        Err(DeliveryError::new(format!(
            "the response of the hook {hook} is larger than {} bytes",
            process::MAX_OUTPUT_BYTES
        )))
    } else {
        format::parse_response(&output.stdout).map_err(|error| {
            let output = excerpt(&output.stdout);
            let text = format!("failed to parse hook response: {error}, response was: {output}");
            DeliveryError::with_source(text, error)
        })
    };
    match response {
        // The response has no effect here and the command succeeded: do not run it again.
        Err(failure) if !hook.is_blocking() && hook != HookName::PostReceive => Ok(HookResponse {
            ignored: Some(failure.to_string()),
            ..HookResponse::default()
        }),
        response => response,
    }
}

#[async_trait]
impl Transport for Command {
    fn name(&self) -> &str {
        "command"
    }

    /// # Cancel safety
    /// Dropping the future terminates the command and its children.
    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let Some(output) = self.run(message).await? else {
            return Ok(HookResponse::default());
        };
        match self.settings.format {
            Format::V1 => self.parse_v1(message.hook, &output),
            Format::V2 | Format::Auto => parse_v2(message.hook, &output),
        }
    }

    /// Fails if the directory is missing, as after a lost mount.
    async fn check(&self) -> Result<(), DeliveryError> {
        let dir = &self.settings.dir;
        match dir.is_dir() {
            true => Ok(()),
            false => {
                let text = format!("the directory {} is missing", dir.display());
                Err(DeliveryError::new(text))
            }
        }
    }
}

#[derive(Debug)]
struct ProcessLimits {
    all: Arc<Semaphore>,
    events: Arc<Semaphore>,
    /// Those that outlive their command and keep its output open.
    children: Arc<Semaphore>,
}

type ProcessPermit = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl ProcessLimits {
    fn new(max_processes: usize) -> Self {
        let max_processes = max_processes.min(Semaphore::MAX_PERMITS);
        let events = (max_processes - max_processes.div_ceil(4)).max(1);
        Self {
            all: Arc::new(Semaphore::new(max_processes)),
            events: Arc::new(Semaphore::new(events)),
            children: Arc::new(Semaphore::new(max_processes)),
        }
    }

    async fn acquire(&self, hook: HookName) -> ProcessPermit {
        async fn one(of: &Arc<Semaphore>) -> OwnedSemaphorePermit {
            let permit = Arc::clone(of).acquire_owned().await;
            permit.unwrap_or_else(|_| unreachable!("the semaphore is never closed"))
        }
        let event = match hook.is_blocking() {
            true => None,
            false => Some(one(&self.events).await),
        };
        (event, one(&self.all).await)
    }
}

/// Returns the code as Go does.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

const MAX_EXCERPT_BYTES: usize = 16 * 1024;

fn excerpt(output: &[u8]) -> String {
    match output.get(..MAX_EXCERPT_BYTES) {
        Some(start) if output.len() > MAX_EXCERPT_BYTES => {
            format!("{}…", String::from_utf8_lossy(start))
        }
        _ => String::from_utf8_lossy(output).into_owned(),
    }
}

fn is_missing(file: &Path) -> bool {
    // One `stat` is not worth a thread.
    matches!(std::fs::metadata(file), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn spawn_error(file: &Path, error: io::Error) -> DeliveryError {
    let name = file.display();
    let is_runnable = std::fs::metadata(file)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    let text = match error.kind() {
        io::ErrorKind::PermissionDenied if !is_runnable => {
            format!("the hook {name} is not executable: chmod +x {name}")
        }
        io::ErrorKind::PermissionDenied => format!("this user cannot run the hook {name}: {error}"),
        io::ErrorKind::NotFound => {
            format!("the interpreter in the first line of the hook {name} is missing")
        }
        io::ErrorKind::ExecutableFileBusy => format!("the hook {name} is being written to"),
        _ => format!("cannot run the hook {name} (does it begin with #!?): {error}"),
    };
    DeliveryError::with_source(text, error)
}

/// Landfall's settings may be keys, passwords or URLs that contain them. All other variables are
/// inherited, as with tusd.
pub(super) fn excluded() -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| is_excluded(name)).collect()
}

fn is_excluded(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"LANDFALL_")
}

pub(super) fn variables(message: &Message) -> Vec<(String, String)> {
    let upload = &message.upload;
    let size = upload.size.unwrap_or_default();
    let variables = [
        ("TUS_ID", upload.id.clone()),
        ("TUS_SIZE", size.to_string()),
        ("TUS_OFFSET", upload.offset.to_string()),
        ("LANDFALL_HOOK", message.hook.to_string()),
        ("LANDFALL_EVENT_ID", message.id.clone()),
        ("LANDFALL_SEQUENCE", message.sequence.to_string()),
    ];
    let intent = message
        .intent
        .map(|intent| ("LANDFALL_INTENT", intent.as_str().to_owned()));
    let variables = variables.into_iter().chain(intent);
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let trace = message.trace_headers();
    let trace = trace.map(|(name, value)| (name.to_ascii_uppercase(), value.to_owned()));
    let variables = variables.chain(trace);
    let labels = upload.labels.iter();
    let labels = labels.map(|(key, value)| {
        // A NUL ends the value, and the command would not start.
        (label(key), value.replace('\0', "\u{fffd}"))
    });
    variables.chain(labels).collect()
}

/// Each character other than a letter or digit becomes `_`.
fn label(key: &str) -> String {
    let key = key.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("LANDFALL_LABEL_{}", key.to_ascii_uppercase())
}

#[cfg(test)]
mod environment_tests {
    use super::*;

    #[test]
    fn settings_of_landfall_are_excluded() {
        for name in ["LANDFALL_ADMIN_KEY", "LANDFALL_DATABASE", "LANDFALL_"] {
            assert!(is_excluded(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "AWS_SECRET_ACCESS_KEY", "MY_LANDFALL_X", "LANDFALL"] {
            assert!(!is_excluded(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn label_names_are_valid_in_a_shell() {
        assert_eq!(label("tenant"), "LANDFALL_LABEL_TENANT");
        assert_eq!(label("virus-scan.2"), "LANDFALL_LABEL_VIRUS_SCAN_2");
        assert_eq!(label("a=b\0ä"), "LANDFALL_LABEL_A_B__");
    }
}
