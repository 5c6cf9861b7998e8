//! How a process asks another for a lease.

use std::{
    fs::{self, DirEntry, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::lock;

/// When the ask of a process that died is removed.
const OLD: Duration = Duration::from_secs(60);
/// How many asks are looked at in one go.
const LOOK_AT: usize = 4096;

/// The directory in which processes ask each other for leases.
///
/// An ask is an empty file, named after the place of the lease and the locker that asks, which the
/// asker keeps locked: an ask that isn't locked was left by a process that died, and means nothing.
#[derive(Debug)]
pub(super) struct Asks {
    dir: PathBuf,
    asker: u64,
}

impl Asks {
    /// The directory, for the locker with this number, which no other locker may have.
    pub(super) fn new(dir: PathBuf, asker: u64) -> Self {
        Self { dir, asker }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Asks for the lease at `place`, until the ask is dropped.
    pub(super) fn ask(&self, place: u64) -> io::Result<Ask> {
        let path = self.dir.join(format!("{place:016x}-{:016x}", self.asker));
        if let Some(above) = self.dir.parent() {
            lock::make_dir(above)?;
        }
        let file = lock::open_or_create(&path)?;
        let ask = Ask { path, file };
        lock::lock(&ask.file, 0)?;
        Ok(ask)
    }

    /// Finds what others ask for among the places that `held` knows, and clears away what is old.
    pub(super) fn look(
        &self,
        held: impl Fn(u64) -> bool,
        mut asked: impl FnMut(u64),
    ) -> io::Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries.take(LOOK_AT) {
            let entry = entry?;
            let Some((place, asker)) = parse(&entry) else {
                continue;
            };
            if asker == self.asker {
                continue;
            }
            let wanted = held(place);
            // An ask that vanishes under our eyes has been answered.
            if (wanted || is_old(&entry))
                && let Ok(file) = File::open(entry.path())
            {
                match lock::is_locked(&file, 0) {
                    Ok(true) if wanted => asked(place),
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
    let (place, asker) = name.to_str()?.split_once('-')?;
    Some((
        u64::from_str_radix(place, 16).ok()?,
        u64::from_str_radix(asker, 16).ok()?,
    ))
}

fn is_old(entry: &DirEntry) -> bool {
    let modified = entry.metadata().and_then(|data| data.modified());
    modified.is_ok_and(|at| {
        SystemTime::now()
            .duration_since(at)
            .is_ok_and(|age| age > OLD)
    })
}

/// An ask; dropping it takes it back.
#[derive(Debug)]
pub(super) struct Ask {
    path: PathBuf,
    file: File,
}

impl Drop for Ask {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(path = %self.path.display(), %error, "an ask could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(asks: &Asks) -> Vec<u64> {
        let mut places = Vec::new();
        asks.look(|_| true, |place| places.push(place)).unwrap();
        places.sort_unstable();
        places
    }

    #[test]
    fn others_see_an_ask_while_it_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let asker = Asks::new(dir.path().join("asks"), 1);
        let other = Asks::new(dir.path().join("asks"), 2);
        assert!(places(&other).is_empty());

        let first = asker.ask(7).unwrap();
        let _second = asker.ask(0x3fff_ffff_ffff_ffff).unwrap();
        assert_eq!(places(&other), [7, 0x3fff_ffff_ffff_ffff]);
        assert!(places(&asker).is_empty(), "a locker heard its own ask");

        drop(first);
        assert_eq!(places(&other), [0x3fff_ffff_ffff_ffff]);
    }

    #[test]
    fn the_ask_of_a_dead_process_means_nothing_and_goes_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let other = Asks::new(dir.path().to_owned(), 2);
        let path = dir.path().join("0000000000000007-0000000000000001");
        let left = File::create(&path).unwrap();
        assert!(places(&other).is_empty());
        assert!(path.exists(), "a young ask may still be in the making");

        left.set_modified(SystemTime::now() - 2 * OLD).unwrap();
        assert!(places(&other).is_empty());
        assert!(!path.exists());
    }

    #[test]
    fn the_ask_of_a_live_process_never_gets_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let asker = Asks::new(dir.path().to_owned(), 1);
        let other = Asks::new(dir.path().to_owned(), 2);
        let ask = asker.ask(7).unwrap();
        ask.file.set_modified(SystemTime::now() - 2 * OLD).unwrap();
        assert_eq!(places(&other), [7]);
        assert_eq!(places(&other), [7]);
    }

    #[test]
    fn foreign_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let other = Asks::new(dir.path().to_owned(), 2);
        let path = dir.path().join("notes.txt");
        File::create(&path)
            .unwrap()
            .set_modified(SystemTime::now() - 2 * OLD)
            .unwrap();
        assert!(places(&other).is_empty());
        assert!(path.exists());
    }
}
