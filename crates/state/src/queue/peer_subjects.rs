use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Scope, numbers::lock_key};

const VALID_FOR: Duration = Duration::from_secs(30);
const MAX_NODES: usize = 256;
/// A node with readers of more subjects announces all subjects.
const MAX_SUBJECTS: usize = 350;

#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<HashMap<String, Announcement>>);

#[derive(Debug)]
struct Announcement {
    received: Instant,
    subjects: Subjects,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subjects {
    All,
    Hashes(BTreeSet<i64>),
}

impl Peers {
    pub(super) fn subjects(&self) -> Option<Subjects> {
        let mut nodes = self.0.lock();
        nodes.retain(|_, announcement| announcement.received.elapsed() < VALID_FOR);
        let mut hashes = BTreeSet::new();
        for announcement in nodes.values() {
            match &announcement.subjects {
                Subjects::All => return Some(Subjects::All),
                Subjects::Hashes(some) => hashes.extend(some),
            }
        }
        (!hashes.is_empty()).then_some(Subjects::Hashes(hashes))
    }

    pub(super) fn set_subjects(&self, node: &str, subjects: Subjects) {
        let mut nodes = self.0.lock();
        if nodes.len() >= MAX_NODES && !nodes.contains_key(node) {
            return;
        }
        let received = Instant::now();
        nodes.insert(node.to_owned(), Announcement { received, subjects });
    }
}

impl Subjects {
    pub(super) fn from_scopes(scopes: &[Scope]) -> Option<Self> {
        let hashes = scopes.iter().map(|scope| match scope {
            Scope::Subject(subject) => Some(hash(subject)),
            Scope::All => None,
        });
        match hashes.collect::<Option<BTreeSet<_>>>() {
            Some(hashes) if hashes.is_empty() => None,
            Some(hashes) if hashes.len() <= MAX_SUBJECTS => Some(Self::Hashes(hashes)),
            _ => Some(Self::All),
        }
    }

    pub(super) fn contains(&self, subject: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Hashes(hashes) => subject.is_some_and(|subject| hashes.contains(&hash(subject))),
        }
    }

    pub(super) fn format(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Hashes(hashes) => hashes.iter().fold(String::new(), |mut text, hash| {
                let _ = write!(text, "{hash:x} ");
                text
            }),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let hashes = text.split_whitespace();
        let hashes = hashes.map(|hash| u64::from_str_radix(hash, 16).map(u64::cast_signed));
        hashes.collect::<Result<_, _>>().ok().map(Self::Hashes)
    }
}

fn hash(subject: &str) -> i64 {
    lock_key("subject", subject)
}
