//! Command hooks with real programs: input, responses and termination.

mod input;
mod lifecycle;
mod orphans;
mod responses;

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use landfall_hooks::{DeliveryError, HookName, HookResponse, Message, Transport};
use landfall_hooks::{
    command::{Command, CommandSettings},
    format::Format,
};
use rustix::process::{Pid, test_kill_process};

use crate::samples::{TRACEPARENT, samples, traced};

/// A directory of hooks.
struct Hooks {
    folder: tempfile::TempDir,
}

impl Hooks {
    fn none() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    /// Creates a directory with one hook, a shell script.
    fn sh(hook: HookName, lines: &str) -> Self {
        Self::none().with(hook, lines)
    }

    fn with(self, hook: HookName, lines: &str) -> Self {
        self.file(hook, 0o755, &format!("#!/bin/sh\n{lines}\n"))
    }

    fn file(self, hook: HookName, mode: u32, text: &str) -> Self {
        fs::write(self.path(hook.as_str()), text).unwrap();
        self.chmod(hook, mode)
    }

    fn chmod(self, hook: HookName, mode: u32) -> Self {
        fs::set_permissions(self.path(hook.as_str()), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn settings(&self) -> CommandSettings {
        CommandSettings::new(self.folder.path())
    }

    fn command(&self) -> Command {
        Command::new(self.settings()).unwrap()
    }

    fn v1(&self) -> Command {
        let mut settings = self.settings();
        settings.format = Format::V1;
        settings.stop_code = Some(42);
        Command::new(settings).unwrap()
    }

    async fn deliver(&self, hook: HookName) -> Result<HookResponse, DeliveryError> {
        self.command().deliver(&message(hook)).await
    }
}

fn message(hook: HookName) -> Message {
    samples().into_iter().find(|it| it.hook == hook).unwrap()
}

/// Waits at most 20 seconds for a condition.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 20 seconds: {what}");
}

/// Reads the number that a script writes to a file.
async fn pid_in(file: &Path) -> Pid {
    let mut found = None;
    eventually("a script writes its number", || {
        let text = fs::read_to_string(file).unwrap_or_default();
        found = text
            .strip_suffix('\n')
            .and_then(|digits| Pid::from_raw(digits.parse().ok()?));
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Returns whether a process is gone and reaped.
fn is_gone(pid: Pid) -> bool {
    test_kill_process(pid).is_err()
}

/// Returns whether a process has ended. Its parent may not have reaped it yet.
fn is_dead(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    state.is_empty() || state.starts_with('Z')
}
