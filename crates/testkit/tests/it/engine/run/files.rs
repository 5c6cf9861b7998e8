//! Unrelated files in the directory of a store.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use landfall::upload::UploadId;

use super::super::op::Litter;

/// Files other than those of uploads.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Files that a sweep must remove.
    litter: BTreeSet<String>,
    /// Files that must never be removed.
    treasures: BTreeSet<String>,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            litter: BTreeSet::new(),
            treasures: BTreeSet::new(),
        }
    }

    pub(super) fn litter(&mut self, litter: Litter) {
        let id = UploadId::random();
        let (name, content) = match litter {
            Litter::Temporary => (
                format!(".{id}.info.0123abcd.tmp"),
                format!("{{\"ID\":\"{id}\",\"Size\":1,\"Landfall\":{{}}}}"),
            ),
            Litter::Empty => (id.to_string(), String::new()),
            Litter::Description => (format!("{id}.info"), "{\"ID\":\"x\",\"Size\":1}".to_owned()),
            Litter::Unrelated => (format!("report {id}.pdf"), "an unrelated file".to_owned()),
        };
        fs::write(self.dir.join(&name), content).unwrap();
        // Only what it contains proves that a file is ours.
        let kind = match litter {
            Litter::Temporary => &mut self.litter,
            _ => &mut self.treasures,
        };
        kind.insert(name);
    }

    /// Takes a description away.
    pub(super) fn adopt(&mut self, id: &UploadId) {
        fs::remove_file(self.dir.join(format!("{id}.info"))).unwrap();
        self.treasures.insert(id.to_string());
    }

    /// Fails unless there is nothing but the files of `uploads`, and all treasures.
    pub(super) fn check_swept(&mut self, uploads: &BTreeSet<String>) -> Result<(), String> {
        self.litter.clear();
        let names: BTreeSet<_> = fs::read_dir(&self.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        if let Some(lost) = self.treasures.difference(&names).next() {
            return Err(format!("{lost} was swept away"));
        }
        let is_known = |name: &str| {
            let base = name.strip_suffix(".info").unwrap_or(name);
            uploads.contains(base) || self.treasures.contains(name) || name == ".landfall"
        };
        match names.iter().find(|name| !is_known(name)) {
            Some(left) => Err(format!("{left} was left behind")),
            None => Ok(()),
        }
    }
}
