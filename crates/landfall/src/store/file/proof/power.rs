//! The power is cut after every change.
//!
//! From the journal of a run the test rebuilds what the disk may hold after a cut: what was synced
//! is there; of the rest anything may be, so that the worst cases are tried, and some by lot.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use super::{
    Durability, Script, Told, check,
    journal::{Op, Recording},
};

/// What was not synced but is there all the same.
#[derive(Debug, Clone, Copy)]
enum Luck {
    /// Nothing.
    Nothing,
    /// All names, but no bytes.
    Names,
    /// All bytes of the files whose names are there.
    Bytes,
    /// Everything.
    All,
    /// Decided for each file and directory by lot.
    Lot(u64),
}

impl Luck {
    const TRIED: [Self; 8] = [
        Self::Nothing,
        Self::Names,
        Self::Bytes,
        Self::All,
        Self::Lot(1),
        Self::Lot(2),
        Self::Lot(3),
        Self::Lot(4),
    ];

    fn keeps_names(self, node: usize) -> bool {
        match self {
            Self::Names | Self::All => true,
            Self::Nothing | Self::Bytes => false,
            Self::Lot(seed) => lot(seed, node),
        }
    }

    fn keeps_bytes(self, node: usize) -> bool {
        match self {
            Self::Bytes | Self::All => true,
            Self::Nothing | Self::Names => false,
            Self::Lot(seed) => lot(seed, node),
        }
    }
}

fn lot(seed: u64, node: usize) -> bool {
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

/// A disk that was written to.
struct Disk {
    /// Never reused, as inodes are.
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
            Op::Told(_) => {}
        }
    }

    /// Writes down what is there after the power came back.
    fn restore(&self, node: usize, path: &Path, luck: Luck) {
        match &self.nodes[node] {
            Node::File { seen, synced } => {
                std::fs::write(path, if luck.keeps_bytes(node) { seen } else { synced }).unwrap();
            }
            Node::Dir { seen, synced } => {
                std::fs::create_dir_all(path).unwrap();
                for (name, node) in if luck.keeps_names(node) { seen } else { synced } {
                    self.restore(*node, &path.join(name), luck);
                }
            }
        }
    }
}

/// Runs a script, cuts the power after every change with every kind of luck, and checks that what
/// was `promised` is kept.
async fn cut_everywhere(script: Script, durability: Durability, promised: fn(&Told) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path(), None);
    script
        .run(dir.path(), durability, &|told| recording.tell(told))
        .await;
    let ops = recording.ops();
    assert!(ops.iter().any(|op| matches!(op, Op::Told(Told::Complete))));

    let mut disk = Disk::new(recording.root);
    let mut told = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        disk.apply(op);
        if let Op::Told(new) = op {
            told.extend(Some(*new).filter(promised));
        }
        for luck in Luck::TRIED {
            let left = tempfile::tempdir().unwrap();
            disk.restore(0, left.path(), luck);
            let done = tokio::spawn({
                let (path, told) = (left.path().to_owned(), told.clone());
                async move { check(script, &path, &told).await }
            });
            let mut change = format!("{op:?}");
            change.truncate(100);
            let cut = format!(
                "{script:?} cut after {n} of {}: {change}, {luck:?}",
                ops.len()
            );
            done.await.unwrap_or_else(|error| panic!("{cut}: {error}"));
        }
    }
}

#[tokio::test]
async fn cutting_the_power_loses_nothing_that_was_told_with_every_offset_synced() {
    for script in Script::ALL {
        cut_everywhere(script, Durability::Every, |_| true).await;
    }
}

/// With the durability `complete`, completion is what is promised; a promise of existence goes with
/// it. What isn't complete may be gone or damaged, but must not be taken for complete.
#[tokio::test]
async fn cutting_the_power_loses_no_complete_upload() {
    for script in Script::ALL {
        let dir = tempfile::tempdir().unwrap();
        let recording = Recording::of(dir.path(), None);
        script
            .run(dir.path(), Durability::Complete, &|told| {
                recording.tell(told)
            })
            .await;
        let ops = recording.ops();
        let complete = ops
            .iter()
            .position(|op| matches!(op, Op::Told(Told::Complete)))
            .unwrap();
        let mut disk = Disk::new(recording.root);
        for (n, op) in ops.iter().enumerate() {
            disk.apply(op);
            if n < complete {
                continue;
            }
            for luck in Luck::TRIED {
                let left = tempfile::tempdir().unwrap();
                disk.restore(0, left.path(), luck);
                check(script, left.path(), &[Told::Created, Told::Complete]).await;
            }
        }
    }
}

/// Without syncing a cut can lose a complete upload: else these tests would prove nothing.
#[tokio::test]
async fn cutting_the_power_without_syncing_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path(), None);
    let script = Script::Patches;
    script
        .run(dir.path(), Durability::None, &|told| recording.tell(told))
        .await;
    let mut disk = Disk::new(recording.root);
    for op in recording.ops() {
        disk.apply(&op);
    }
    let left = tempfile::tempdir().unwrap();
    disk.restore(0, left.path(), Luck::Nothing);
    let store = super::open(left.path(), Durability::None);
    use crate::store::Store;
    assert!(store.load(&script.id()).await.is_err());
}
