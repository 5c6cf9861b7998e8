//! Processes whose parent has exited, in a container without an init process.
//!
//! The first process of a container becomes the parent of every orphan, such as a child that a command
//! leaves behind, and has to wait for it. Without this, an orphan that has exited stays as a zombie.

use std::{collections::BTreeSet, fs, io, time::Duration};

use parking_lot::Mutex;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, getpid, waitid, waitpid};
use tokio::process::{Child, Command};

const INTERVAL: Duration = Duration::from_secs(2);

/// Commands that are waited for elsewhere, which needs their exit codes.
static COMMANDS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// The process is a command and no orphan, until this is dropped.
#[derive(Debug)]
pub(super) struct WaitedFor(u32);

impl WaitedFor {
    /// No orphan is waited for meanwhile: the command may exit at once.
    pub(super) fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
        let mut commands = COMMANDS.lock();
        let child = command.spawn()?;
        let id = child.id().unwrap_or_default();
        commands.insert(id);
        Ok((child, Self(id)))
    }
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        COMMANDS.lock().remove(&self.0);
    }
}

/// Waits for orphans that have exited, again and again, if this is the first process of a container or another
/// reaper of orphans; otherwise it returns.
///
/// An orphan is found by two looks in a row. The processes of other parts of the program, such as one that
/// prints credentials, are waited for as soon as they exit, and by the second look they are gone.
///
/// # Cancel safety
/// Can be dropped.
pub async fn reap_orphans() {
    if !is_reaper() {
        return;
    }
    let mut exited = BTreeSet::new();
    loop {
        exited = reap(&exited);
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(target_os = "linux")]
fn is_reaper() -> bool {
    let is_subreaper = rustix::process::child_subreaper().is_ok_and(|pid| pid.is_some());
    getpid().is_init() || is_subreaper
}

#[cfg(not(target_os = "linux"))]
fn is_reaper() -> bool {
    getpid().is_init()
}

/// Waits for those that had exited at the last look, and returns those that have exited since.
fn reap(exited_before: &BTreeSet<i32>) -> BTreeSet<i32> {
    // None of the commands is started or forgotten meanwhile.
    let commands = COMMANDS.lock();
    let mut exited = BTreeSet::new();
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(waitid(WaitId::All, options), Ok(Some(_))) {
        return exited;
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return exited;
    };
    let parent = getpid();
    for entry in entries.flatten() {
        let id = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(id) = id.filter(|id: &i32| !commands.contains(&id.unsigned_abs())) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(orphan) = Pid::from_raw(id).filter(|_| is_zombie_of(&stat, parent)) {
            if exited_before.contains(&id) {
                // An error means that it is gone.
                let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
            } else {
                exited.insert(id);
            }
        }
    }
    exited
}

/// `stat` is `PID (NAME) STATE PARENT …`, and the name may contain anything.
fn is_zombie_of(stat: &str, parent: Pid) -> bool {
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let mut fields = fields.unwrap_or_default().split_whitespace();
    let is_zombie = fields.next() == Some("Z");
    let found = fields.next().and_then(|id| id.parse().ok());
    is_zombie && found == Some(parent.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that another part of the program waits for, such as one that prints credentials.
    #[test]
    fn a_process_that_has_just_exited_is_left_to_its_parent() {
        let exited = || {
            let child = std::process::Command::new("true").spawn().unwrap();
            let id = i32::try_from(child.id()).unwrap();
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(Pid::from_raw(id).unwrap()), options).unwrap();
            (child, id)
        };
        let (mut child, id) = exited();
        assert!(reap(&BTreeSet::new()).contains(&id));
        assert!(child.wait().unwrap().success());
        // This one is still there at the second look.
        let (mut orphan, id) = exited();
        assert!(!reap(&BTreeSet::from([id])).contains(&id));
        assert!(orphan.wait().is_err());
    }

    #[test]
    fn zombies_are_found_by_their_parent() {
        let me = Pid::from_raw(7).unwrap();
        assert!(is_zombie_of("8 (sh) Z 7 8 8 0", me));
        assert!(is_zombie_of("8 (a) R 7 () ) Z 7 8", me));
        assert!(!is_zombie_of("8 (sh) S 7 8 8 0", me));
        assert!(!is_zombie_of("8 (sh) Z 1 8 8 0", me));
        assert!(!is_zombie_of("8 (Z 7", me));
        assert!(!is_zombie_of("", me));
    }
}
