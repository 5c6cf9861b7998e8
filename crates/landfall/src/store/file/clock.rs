//! The memory of the clock of the sweeps, in a file next to the leases.

use std::{
    io,
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
    Ok(String::from_utf8(text).ok().as_deref().and_then(parse))
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
    sys::write_from(file.as_fd(), print(memory).as_bytes(), 0)?;
    sys::rename(dir, TEMPORARY, FILE)
}

/// Seconds since 1970 until which two clocks agreed, the wall clock then, and for how long it was doubted.
fn print(memory: ClockMemory) -> String {
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (agreed, wall) = (seconds(memory.agreed), seconds(memory.wall));
    format!("{agreed} {wall} {}\n", memory.doubted.as_secs())
}

fn parse(text: &str) -> Option<ClockMemory> {
    let mut numbers = text.trim_end().split(' ').map(str::parse::<u64>);
    let mut next = || Some(Duration::from_secs(numbers.next()?.ok()?));
    let (agreed, wall, doubted) = (next()?, next()?, next()?);
    Some(ClockMemory {
        agreed: UNIX_EPOCH.checked_add(agreed)?,
        wall: UNIX_EPOCH.checked_add(wall)?,
        doubted,
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
            };
            save(&root, memory, 0o755).unwrap();
            assert_eq!(load(&root), Some(memory));
        }
        for broken in [
            "",
            "1 2",
            "1 2 x",
            "\u{0}",
            "-1 2 3",
            "18446744073709551615 1 1",
        ] {
            std::fs::write(dir.path().join(".landfall/clock"), broken).unwrap();
            assert!(
                load(&root).unwrap().agreed > at(1_700_000_000),
                "{broken:?}"
            );
        }
    }
}
