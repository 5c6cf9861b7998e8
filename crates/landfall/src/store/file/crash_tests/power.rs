//! Power-loss tests: the power is cut after every change.
//!
//! From the journal of a run the test rebuilds the possible states of the disk after a power loss.
//! Synced data survives; of the rest the worst cases and some random selections are tried.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use super::{
    Acknowledged, Durability, Script, check,
    journal::{Op, Recording},
};

/// The unsynced data that survives a power loss.
#[derive(Debug, Clone, Copy)]
enum PowerLoss {
    Nothing,
    /// All names, but no bytes.
    Names,
    /// All bytes, but no names.
    Bytes,
    All,
    /// A random selection of files and directories.
    Random(u64),
}

impl PowerLoss {
    const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Names,
        Self::Bytes,
        Self::All,
        Self::Random(1),
        Self::Random(2),
        Self::Random(3),
        Self::Random(4),
    ];

    fn keeps_names(self, node: usize) -> bool {
        match self {
            Self::Names | Self::All => true,
            Self::Nothing | Self::Bytes => false,
            Self::Random(seed) => is_kept_at_random(seed, node),
        }
    }

    fn keeps_bytes(self, node: usize) -> bool {
        match self {
            Self::Bytes | Self::All => true,
            Self::Nothing | Self::Names => false,
            Self::Random(seed) => is_kept_at_random(seed, node),
        }
    }
}

fn is_kept_at_random(seed: u64, node: usize) -> bool {
    let mixed = (node as u64 + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23)
        ^ seed;
    mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 63 == 1
}

/// A file or a directory: as processes see it, and as it is on the disk.
#[derive(Debug, Clone)]
enum Node {
    File {
        seen: Vec<u8>,
        synced: Vec<u8>,
    },
    Dir {
        seen: BTreeMap<String, usize>,
        synced: BTreeMap<String, usize>,
    },
}

struct Disk {
    /// Indexes are never reused, unlike inodes.
    nodes: Vec<Node>,
    by_ino: HashMap<u64, usize>,
}

impl Disk {
    fn new(root: u64) -> Self {
        let dir = Node::Dir {
            seen: BTreeMap::new(),
            synced: BTreeMap::new(),
        };
        Self {
            nodes: vec![dir],
            by_ino: HashMap::from([(root, 0)]),
        }
    }

    fn add(&mut self, dir: u64, name: &str, ino: u64, node: Node) {
        self.nodes.push(node);
        let this = self.nodes.len() - 1;
        self.by_ino.insert(ino, this);
        self.names(dir).insert(name.into(), this);
    }

    fn node(&mut self, ino: u64) -> &mut Node {
        &mut self.nodes[self.by_ino[&ino]]
    }

    fn names(&mut self, dir: u64) -> &mut BTreeMap<String, usize> {
        match self.node(dir) {
            Node::Dir { seen, .. } => seen,
            Node::File { .. } => panic!("a file is no directory"),
        }
    }

    fn bytes(&mut self, ino: u64) -> &mut Vec<u8> {
        match self.node(ino) {
            Node::File { seen, .. } => seen,
            Node::Dir { .. } => panic!("a directory has no bytes"),
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::MakeDir { dir, name, ino } => {
                let node = Node::Dir {
                    seen: BTreeMap::new(),
                    synced: BTreeMap::new(),
                };
                self.add(*dir, name, *ino, node);
            }
            Op::Create { dir, name, ino } => {
                let node = Node::File {
                    seen: Vec::new(),
                    synced: Vec::new(),
                };
                self.add(*dir, name, *ino, node);
            }
            Op::Write { ino, offset, bytes } => {
                let (file, offset) = (self.bytes(*ino), usize::try_from(*offset).unwrap());
                file.resize(file.len().max(offset + bytes.len()), 0);
                file[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Op::Truncate { ino, len } => {
                self.bytes(*ino).resize(usize::try_from(*len).unwrap(), 0);
            }
            Op::Fill { ino, bytes } => self.bytes(*ino).clone_from(bytes),
            Op::Rename { dir, from, to } => {
                let node = self.names(*dir).remove(from).unwrap();
                self.names(*dir).insert(to.clone(), node);
            }
            Op::Unlink { dir, name } => {
                self.names(*dir).remove(name);
            }
            Op::SyncFile { ino } | Op::SyncDir { ino } => match self.node(*ino) {
                Node::File { seen, synced } => synced.clone_from(seen),
                Node::Dir { seen, synced } => synced.clone_from(seen),
            },
            Op::Acknowledged(_) => {}
        }
    }

    /// Writes the state after a power loss to a real directory.
    fn restore(&self, node: usize, path: &Path, loss: PowerLoss) {
        match &self.nodes[node] {
            Node::File { seen, synced } => {
                std::fs::write(path, if loss.keeps_bytes(node) { seen } else { synced }).unwrap();
            }
            Node::Dir { seen, synced } => {
                std::fs::create_dir_all(path).unwrap();
                for (name, node) in if loss.keeps_names(node) { seen } else { synced } {
                    self.restore(*node, &path.join(name), loss);
                }
            }
        }
    }
}

/// Runs a script, simulates every power loss after every change, and checks the acknowledgements
/// that are `guaranteed`.
async fn lose_power_everywhere(
    script: Script,
    durability: Durability,
    guaranteed: fn(&Acknowledged) -> bool,
) {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path(), None);
    script
        .run(dir.path(), durability, &|acknowledged| {
            recording.ack(acknowledged)
        })
        .await;
    let ops = recording.ops();
    assert!(
        ops.iter()
            .any(|op| matches!(op, Op::Acknowledged(Acknowledged::Complete)))
    );

    let mut disk = Disk::new(recording.root);
    let mut acknowledged = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        disk.apply(op);
        if let Op::Acknowledged(new) = op {
            acknowledged.extend(Some(*new).filter(guaranteed));
        }
        for loss in PowerLoss::ALL {
            let left = tempfile::tempdir().unwrap();
            disk.restore(0, left.path(), loss);
            let done = tokio::spawn({
                let (path, acknowledged) = (left.path().to_owned(), acknowledged.clone());
                async move { check(script, &path, &acknowledged).await }
            });
            let mut change = format!("{op:?}");
            change.truncate(100);
            let cut = format!(
                "{script:?} cut after {n} of {}: {change}, {loss:?}",
                ops.len()
            );
            done.await.unwrap_or_else(|error| panic!("{cut}: {error}"));
        }
    }
}

#[tokio::test]
async fn power_loss_with_durability_every_loses_no_acknowledged_state() {
    for script in Script::ALL {
        lose_power_everywhere(script, Durability::Every, |_| true).await;
    }
}

/// With durability `complete`, only completion is guaranteed. An incomplete upload may be lost or
/// damaged, but must not look complete.
#[tokio::test]
async fn power_loss_with_durability_complete_loses_no_complete_upload() {
    for script in Script::ALL {
        let dir = tempfile::tempdir().unwrap();
        let recording = Recording::of(dir.path(), None);
        script
            .run(dir.path(), Durability::Complete, &|acknowledged| {
                recording.ack(acknowledged)
            })
            .await;
        let ops = recording.ops();
        let complete = ops
            .iter()
            .position(|op| matches!(op, Op::Acknowledged(Acknowledged::Complete)))
            .unwrap();
        let mut disk = Disk::new(recording.root);
        for (n, op) in ops.iter().enumerate() {
            disk.apply(op);
            if n < complete {
                continue;
            }
            for loss in PowerLoss::ALL {
                let left = tempfile::tempdir().unwrap();
                disk.restore(0, left.path(), loss);
                check(
                    script,
                    left.path(),
                    &[Acknowledged::Created, Acknowledged::Complete],
                )
                .await;
            }
        }
    }
}

/// Without syncs a power loss can lose a complete upload. Otherwise these tests would prove
/// nothing.
#[tokio::test]
async fn power_loss_without_syncs_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path(), None);
    let script = Script::Patches;
    script
        .run(dir.path(), Durability::None, &|acknowledged| {
            recording.ack(acknowledged)
        })
        .await;
    let mut disk = Disk::new(recording.root);
    for op in recording.ops() {
        disk.apply(&op);
    }
    let left = tempfile::tempdir().unwrap();
    disk.restore(0, left.path(), PowerLoss::Nothing);
    let store = super::open(left.path(), Durability::None);
    use crate::store::Store;
    assert!(store.load(&script.id()).await.is_err());
}

/// Without syncs a power loss may keep the mark of a finished upload and lose its bytes. It is then reported and kept.
#[tokio::test]
async fn upload_that_lost_bytes_after_it_was_finished_is_damaged() {
    use crate::store::{Enumerate as _, Store as _, StoreError};
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path(), None);
    let script = Script::Untracked;
    script.run(dir.path(), Durability::None, &|_| {}).await;
    let mut disk = Disk::new(recording.root);
    for op in recording.ops() {
        disk.apply(&op);
    }
    let left = tempfile::tempdir().unwrap();
    disk.restore(0, left.path(), PowerLoss::All);
    let path = left.path().join(script.id().as_str());
    let info = left.path().join(format!("{}.info", script.id()));
    let (path, info) = (
        std::fs::File::options().write(true).open(path).unwrap(),
        info,
    );
    let finished = info.metadata().unwrap().modified().unwrap();
    for len in [0, super::TOTAL as u64 - 1] {
        path.set_len(len).unwrap();
        path.set_modified(finished).unwrap();
        let store = super::open(left.path(), Durability::None);
        let loaded = store.load(&script.id()).await;
        assert!(
            matches!(loaded, Err(StoreError::Damaged { .. })),
            "{loaded:?}"
        );
        let page = store.page(None, 100).await.unwrap();
        assert_eq!(page.damaged.len(), 1, "{page:?}");
        // An application may change a finished file.
        path.set_modified(finished + std::time::Duration::from_secs(1))
            .unwrap();
        let snapshot = store.load(&script.id()).await.unwrap();
        assert!(
            snapshot.is_complete() && snapshot.offset == len,
            "{snapshot:?}"
        );
    }
}
