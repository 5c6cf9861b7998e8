//! The finished files of an unfinished command, which its next run does not upload again.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf, absolute},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    selection::{FileVersion, SelectedFile},
    state,
};

/// Records of commands that were not repeated for this long are removed.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The record of a command with these arguments. It is removed when all files are uploaded.
#[derive(Debug)]
pub(super) struct RunRecord {
    path: PathBuf,
    finished: HashMap<String, FinishedFile>,
    /// Opened by the first file.
    file: Option<File>,
}

/// A line of the record.
#[derive(Debug, Serialize, Deserialize)]
struct FinishedFile {
    path: String,
    length: u64,
    /// In nanoseconds since 1970.
    modified: u64,
    url: String,
}

impl RunRecord {
    /// Opens the record of a command; without `resume`, an empty one.
    pub(super) fn open(
        directory: &Path,
        endpoint: &str,
        paths: &[PathBuf],
        resume: bool,
    ) -> io::Result<Self> {
        purge(directory)?;
        let mut hasher = Sha256::new();
        for argument in paths {
            hasher.update(absolute(argument)?.as_os_str().as_encoded_bytes());
            hasher.update([0]);
        }
        hasher.update(endpoint);
        let name = hex::encode(&hasher.finalize()[..16]);
        let path = directory.join(format!("{name}.jsonl"));
        let mut finished = HashMap::new();
        if !resume {
            remove(&path)?;
        }
        match File::open(&path) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n') {
                    // A line may be torn.
                    if let Ok(file) = serde_json::from_slice::<FinishedFile>(&line?) {
                        finished.insert(file.path.clone(), file);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            path,
            finished,
            file: None,
        })
    }

    /// Returns the URL of a file that is uploaded and has not changed since.
    pub(super) fn url(&self, file: &SelectedFile) -> Option<&str> {
        let finished = self.finished.get(&key(&file.path)?)?;
        let version = (finished.length, finished.modified);
        (version == (file.version.length, nanoseconds(file.version)?)).then_some(&finished.url)
    }

    /// Adds an uploaded file. A file without a time of its last change is not added.
    pub(super) fn add(
        &mut self,
        file: &SelectedFile,
        version: FileVersion,
        url: &str,
    ) -> io::Result<()> {
        let (Some(path), Some(modified)) = (key(&file.path), nanoseconds(version)) else {
            return Ok(());
        };
        let (length, url) = (version.length, url.to_owned());
        let mut line = serde_json::to_vec(&FinishedFile {
            path,
            length,
            modified,
            url,
        })?;
        line.push(b'\n');
        let output = match &mut self.file {
            Some(file) => file,
            None => {
                let mut opened = state::append(&self.path)?;
                // Ends a torn line.
                opened.write_all(b"\n")?;
                self.file.insert(opened)
            }
        };
        output.write_all(&line)
    }

    /// Removes the record: the command is complete.
    pub(super) fn remove(self) {
        // Its files would be skipped for 30 days, which the output shows.
        let _ = remove(&self.path);
    }
}

/// `None` if the path is not UTF-8.
fn key(path: &Path) -> Option<String> {
    Some(absolute(path).ok()?.to_str()?.to_owned())
}

fn nanoseconds(version: FileVersion) -> Option<u64> {
    let since = version.modified?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn purge(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let now = SystemTime::now();
    for entry in entries {
        let entry = entry?;
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified
            .ok()
            .and_then(|modified| now.duration_since(modified).ok());
        if age.is_some_and(|age| age > MAX_AGE) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> SelectedFile {
        SelectedFile {
            path: path.to_owned(),
            relative_path: None,
            version: FileVersion::read(path).unwrap(),
        }
    }

    #[test]
    fn unchanged_files_have_their_url() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a.txt");
        fs::write(&source, "a").unwrap();
        let open = |endpoint: &str, resume| {
            let runs = directory.path().join("runs");
            RunRecord::open(&runs, endpoint, std::slice::from_ref(&source), resume).unwrap()
        };
        let first = file(&source);
        let mut record = open("http://a/", true);
        assert_eq!(record.url(&first), None);
        record.add(&first, first.version, "http://a/1").unwrap();
        // A torn line, as a crash leaves it.
        state::append(&record.path)
            .unwrap()
            .write_all(b"{\"path\":")
            .unwrap();
        let mut again = open("http://a/", true);
        assert_eq!(again.url(&first), Some("http://a/1"));
        again.add(&first, first.version, "http://a/2").unwrap();
        assert_eq!(open("http://a/", true).url(&first), Some("http://a/2"));
        assert_eq!(open("http://b/", true).url(&first), None);

        fs::write(&source, "ab").unwrap();
        assert_eq!(open("http://a/", true).url(&file(&source)), None);
        assert_eq!(open("http://a/", false).url(&first), None);
        open("http://a/", true).remove();
        assert_eq!(
            fs::read_dir(directory.path().join("runs")).unwrap().count(),
            0
        );
    }

    #[test]
    fn old_records_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["old.jsonl", "new.jsonl"];
        for name in names {
            File::create(directory.path().join(name)).unwrap();
        }
        let old = File::options()
            .write(true)
            .open(directory.path().join(names[0]))
            .unwrap();
        old.set_modified(SystemTime::now() - 2 * MAX_AGE).unwrap();
        purge(directory.path()).unwrap();
        let left = fs::read_dir(directory.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [names[1]]);
    }
}
