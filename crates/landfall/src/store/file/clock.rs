//! The memory of the clock of the sweeps, in a file next to the leases.

use std::{
    fs, io,
    os::fd::AsFd,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    paths::Root,
    sys::{self, FileVersion},
};
use crate::removal::ClockMemory;

const DIR: &str = ".landfall";
const FILE: &str = "clock";
const TEMPORARY: &str = "clock.new";
const MAX_LEN: usize = 256;

/// Without the file, the last change of the directory shows that it was in use then.
pub(super) fn load(root: &Root) -> Option<ClockMemory> {
    let changed = || Some(ClockMemory::last_used(changed(root).ok()?.modified()));
    read(root).ok().flatten().or_else(changed)
}

fn changed(root: &Root) -> io::Result<FileVersion> {
    sys::stat_open(root.handle())
}

fn read(root: &Root) -> io::Result<Option<ClockMemory>> {
    let dir = sys::open_dir(root.handle(), DIR)?;
    let file = sys::open_read(dir.as_fd(), FILE)?;
    let mut text = vec![0; MAX_LEN];
    let len = sys::read_at(file.as_fd(), &mut text, 0)?;
    text.truncate(len);
    Ok(String::from_utf8(text)
        .ok()
        .and_then(|text| parse(&text, uptime())))
}

/// Identifies the time since the machine was started, and returns how long that is.
fn uptime() -> Option<(u64, Duration)> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let seconds = uptime.split(['.', ' ']).next()?.parse().ok()?;
    let id = id.trim_end().replace('-', "");
    Some((
        u64::from_str_radix(id.get(..16)?, 16).ok()?,
        Duration::from_secs(seconds),
    ))
}

/// Another process that does the same writes the same, or an older time.
pub(super) fn save(root: &Root, memory: ClockMemory, mode: u32) -> io::Result<()> {
    let dir = match sys::open_dir(root.handle(), DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            sys::make_dir(root.handle(), DIR, mode)?;
            sys::open_dir(root.handle(), DIR)?
        }
        opened => opened?,
    };
    let dir = dir.as_fd();
    // Left by a process that died.
    sys::unlink(dir, TEMPORARY)?;
    let file = sys::create_new(dir, TEMPORARY, 0o600)?;
    sys::write_from(file.as_fd(), print(memory, uptime()).as_bytes(), 0)?;
    sys::rename(dir, TEMPORARY, FILE)
}

/// Seconds since 1970 until which two clocks agreed, the wall clock then, and for how long it was doubted; of the
/// machine, the id of its last start, and the seconds since then.
fn print(memory: ClockMemory, uptime: Option<(u64, Duration)>) -> String {
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (agreed, wall) = (seconds(memory.agreed), seconds(memory.wall));
    let (start, uptime) = uptime.unwrap_or_default();
    let doubted = memory.doubted.as_secs();
    format!("{agreed} {wall} {doubted} {start} {}\n", uptime.as_secs())
}

fn parse(text: &str, uptime: Option<(u64, Duration)>) -> Option<ClockMemory> {
    let numbers: Result<Vec<u64>, _> = text.trim_end().split(' ').map(str::parse).collect();
    let &[agreed, wall, doubted, start, then] = numbers.ok()?.as_slice() else {
        return None;
    };
    let passed = uptime
        .filter(|(id, _)| *id == start)
        .and_then(|(_, now)| now.checked_sub(Duration::from_secs(then)));
    Some(ClockMemory {
        agreed: UNIX_EPOCH.checked_add(Duration::from_secs(agreed))?,
        wall: UNIX_EPOCH.checked_add(Duration::from_secs(wall))?,
        doubted: Duration::from_secs(doubted),
        passed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), 0o755, &[]).unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let fresh = load(&root).unwrap();
        assert!(fresh.agreed > at(1_700_000_000), "of the directory");
        for doubted in [0, 77] {
            let memory = ClockMemory {
                agreed: at(1_800_000_000),
                wall: at(1_900_000_000),
                doubted: Duration::from_secs(doubted),
                passed: None,
            };
            save(&root, memory, 0o755).unwrap();
            let loaded = load(&root).unwrap();
            // The machine has not started again.
            assert!(loaded.passed.unwrap() < Duration::from_secs(60));
            let passed = None;
            assert_eq!(ClockMemory { passed, ..loaded }, memory);
        }
        let text = print(
            ClockMemory::last_used(at(9)),
            Some((5, Duration::from_secs(100))),
        );
        let passed = |id, seconds| {
            parse(&text, Some((id, Duration::from_secs(seconds))))
                .unwrap()
                .passed
        };
        assert_eq!(passed(5, 170), Some(Duration::from_secs(70)));
        assert_eq!(passed(5, 99), None, "a container with its own uptime");
        assert_eq!(passed(6, 170), None, "another start");
        for broken in [
            "",
            "1 2",
            "1 2 x",
            "\u{0}",
            "1 2 3",
            "-1 2 3 4 5",
            "18446744073709551615 1 1 1 1",
        ] {
            std::fs::write(dir.path().join(".landfall/clock"), broken).unwrap();
            assert!(
                load(&root).unwrap().agreed > at(1_700_000_000),
                "{broken:?}"
            );
        }
    }
}
