//! Request files: a waiter creates one to request a lease from another process.
//!
//! A waiter keeps its file locked for as long as it waits. So only an unlocked file of at least a minute is removed:
//! its process has died, or could not remove it. A poll reads at most 4096 entries of the directory.

use std::{
    fs::{self, DirEntry, File},
    io,
    ops::Range,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::lock;

const MAX_AGE: Duration = Duration::from_secs(60);
/// Which a waiter keeps locked in its request.
const BYTE: Range<u64> = 0..1;
const SCAN_LIMIT: usize = 4096;
/// Others may remove a request file before it is locked.
const MAX_ATTEMPTS: u32 = 8;

/// A request is an empty file, named after the byte of the lease and the number of the requesting
/// locker. The waiter keeps it locked: an unlocked file belongs to a dead process.
#[derive(Debug)]
pub(super) struct RequestDir {
    dir: PathBuf,
    waiter: u64,
}

impl RequestDir {
    pub(super) fn new(dir: PathBuf, waiter: u64) -> Self {
        Self { dir, waiter }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn request(&self, byte: u64) -> io::Result<RequestFile> {
        let path = self.dir.join(format!("{byte:016x}-{:016x}", self.waiter));
        if let Some(above) = self.dir.parent() {
            lock::make_dir(above)?;
        }
        let mut attempts = MAX_ATTEMPTS;
        loop {
            let file = lock::open_or_create(&path)?;
            lock::lock(&file, &BYTE)?;
            attempts -= 1;
            // With different clocks, another process may have removed it as old before it was locked.
            if attempts == 0 || file.metadata()?.nlink() > 0 {
                return Ok(RequestFile { path, file });
            }
        }
    }

    pub(super) fn poll_requests(
        &self,
        held: impl Fn(u64) -> bool,
        mut requested: impl FnMut(u64),
    ) -> io::Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries.take(SCAN_LIMIT) {
            let entry = entry?;
            let Some((byte, waiter)) = parse(&entry) else {
                continue;
            };
            if waiter == self.waiter {
                continue;
            }
            let wanted = held(byte);
            // A request that vanishes meanwhile has been granted or withdrawn.
            if (wanted || is_old(&entry))
                && let Ok(file) = File::open(entry.path())
            {
                match lock::conflict(&file, &BYTE).map(|conflict| conflict.is_some()) {
                    Ok(true) if wanted => requested(byte),
                    Ok(false) if is_old(&entry) => drop(fs::remove_file(entry.path())),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn parse(entry: &DirEntry) -> Option<(u64, u64)> {
    let name = entry.file_name();
    let (byte, waiter) = name.to_str()?.split_once('-')?;
    Some((
        u64::from_str_radix(byte, 16).ok()?,
        u64::from_str_radix(waiter, 16).ok()?,
    ))
}

fn is_old(entry: &DirEntry) -> bool {
    let modified = entry.metadata().and_then(|data| data.modified());
    modified.is_ok_and(|at| {
        SystemTime::now()
            .duration_since(at)
            .is_ok_and(|age| age > MAX_AGE)
    })
}

#[derive(Debug)]
pub(super) struct RequestFile {
    path: PathBuf,
    #[cfg_attr(not(test), allow(dead_code, reason = "open, so that it stays locked"))]
    file: File,
}

impl Drop for RequestFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(path = %self.path.display(), %error, "failed to remove a lease request");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(dir: &RequestDir) -> Vec<u64> {
        let mut bytes = Vec::new();
        dir.poll_requests(|_| true, |byte| bytes.push(byte))
            .unwrap();
        bytes.sort_unstable();
        bytes
    }

    fn two(dir: &Path) -> (RequestDir, RequestDir) {
        let new = |waiter| RequestDir::new(dir.to_owned(), waiter);
        (new(1), new(2))
    }

    #[test]
    fn request_is_visible_to_others_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (waiter, holder) = two(&dir.path().join("requests"));
        assert!(requested(&holder).is_empty());

        let first = waiter.request(7).unwrap();
        let _second = waiter.request(0x3fff_ffff_ffff_ffff).unwrap();
        assert_eq!(requested(&holder), [7, 0x3fff_ffff_ffff_ffff]);
        assert!(
            requested(&waiter).is_empty(),
            "a locker must not see its own request"
        );

        drop(first);
        assert_eq!(requested(&holder), [0x3fff_ffff_ffff_ffff]);
    }

    #[test]
    fn request_of_a_dead_process_is_ignored_and_removed_when_old() {
        let dir = tempfile::tempdir().unwrap();
        let (_, holder) = two(dir.path());
        let path = dir.path().join("0000000000000007-0000000000000001");
        let left = File::create(&path).unwrap();
        assert!(requested(&holder).is_empty());
        assert!(path.exists(), "a young one may not be locked yet");

        left.set_modified(SystemTime::now() - 2 * MAX_AGE).unwrap();
        assert!(requested(&holder).is_empty());
        assert!(!path.exists());
    }

    #[test]
    fn request_of_a_live_process_survives_clock_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (waiter, holder) = two(dir.path());
        let request = waiter.request(7).unwrap();
        let hour = Duration::from_secs(3600);
        for modified in [SystemTime::now() - hour, SystemTime::now() + hour] {
            request.file.set_modified(modified).unwrap();
            assert_eq!(requested(&holder), [7]);
            assert_eq!(requested(&holder), [7]);
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (_, holder) = two(dir.path());
        let path = dir.path().join("notes.txt");
        File::create(&path)
            .unwrap()
            .set_modified(SystemTime::now() - 2 * MAX_AGE)
            .unwrap();
        assert!(requested(&holder).is_empty());
        assert!(path.exists());
    }
}
