//! Progress between nodes on one PostgreSQL, with `NOTIFY`.
//!
//! A notification wakes only nodes that need it:
//!
//! - A node with readers announces their subjects to nodes with uploads, at once and periodically.
//! - Nodes with uploads send the progress of announced subjects to the channel of each such node, and to a shared
//!   channel if some node reads all subjects.
//! - A node whose first upload starts asks for announcements.
//!
//! A node without readers and uploads has no connection for notifications. Without readers, nothing but that question
//! is sent. Lost notifications are compensated when progress is written to the jobs.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{JobId, Scope, reports::Unsent, shared::Shared};
use crate::sql::{DatabaseError, Statement};

/// Nodes with uploads listen.
const ANNOUNCEMENTS: &str = "landfall_queue_readers";
/// Nodes with readers listen.
const QUESTIONS: &str = "landfall_queue_uploads";
/// Nodes with readers of all subjects listen.
const PROGRESS: &str = "landfall_queue_progress_all";
const SEND_INTERVAL: Duration = Duration::from_secs(1);
/// The first reader of a subject is announced at once.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
/// After the last announcement of another node.
const SEND_FOR: Duration = Duration::from_secs(30);
const RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// For channels that are not needed.
const LISTEN_FOR: Duration = Duration::from_secs(30);
/// In bytes; PostgreSQL accepts less than 8000.
const MAX_PAYLOAD: usize = 7500;
/// Of one announcement. More are announced as all subjects.
const MAX_SUBJECTS: usize = 256;
/// Announcements of more nodes are ignored.
const MAX_PEERS: usize = 4096;

/// The announcements of other nodes.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<Announced>);

#[derive(Debug, Default)]
struct Announced {
    nodes: HashMap<String, (Instant, Readers)>,
    /// A node asks for announcements.
    is_asked: bool,
}

/// The subjects of a node's readers, as hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Readers {
    All,
    Of(HashSet<u64>),
}

impl Readers {
    fn of_node(shared: &Shared) -> Self {
        let scopes = shared.feed.scopes(MAX_SUBJECTS + 1);
        if scopes.len() > MAX_SUBJECTS {
            return Self::All;
        }
        let subjects = scopes.iter().map(|scope| match scope {
            Scope::All => None,
            Scope::Subject(subject) => Some(hash(subject)),
        });
        let subjects: Option<_> = subjects.collect();
        subjects.map_or(Self::All, Self::Of)
    }

    fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::All;
        }
        let hashes = text.split_whitespace();
        Self::Of(hashes.filter_map(|hash| hash.parse().ok()).collect())
    }

    fn to_text(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Of(subjects) => {
                let subjects: Vec<_> = subjects.iter().map(ToString::to_string).collect();
                subjects.join(" ")
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Of(subjects) if subjects.is_empty())
    }

    /// `subject` is a hash; `None` for an upload without a subject.
    fn include(&self, subject: Option<u64>) -> bool {
        match self {
            Self::All => true,
            Self::Of(subjects) => subject.is_some_and(|subject| subjects.contains(&subject)),
        }
    }
}

/// FNV-1a: it is computed for each running upload and second. A collision only sends progress in vain.
fn hash(subject: &str) -> u64 {
    subject.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let node = format!("{:016x}", rand::random::<u64>());
    tokio::select! {
        () = receive(&shared, &node) => {}
        () = send(&shared, &node) => {}
        _ = closing.changed() => {}
    }
}

fn own_channel(node: &str) -> String {
    format!("landfall_queue_progress_{node}")
}

fn needed_channels(shared: &Shared, node: &str) -> BTreeSet<String> {
    let mut channels = BTreeSet::new();
    if shared.reports.has_own() {
        channels.insert(ANNOUNCEMENTS.to_owned());
    }
    let readers = Readers::of_node(shared);
    if readers == Readers::All {
        channels.insert(PROGRESS.to_owned());
    }
    if !readers.is_empty() {
        channels.extend([QUESTIONS.to_owned(), own_channel(node)]);
    }
    channels
}

async fn receive(shared: &Shared, node: &str) {
    loop {
        while needed_channels(shared, node).is_empty() {
            sleep(SEND_INTERVAL).await;
        }
        if let Err(error) = listen(shared, node).await {
            tracing::debug!(%error, "failed to receive progress from other nodes");
            sleep(RECONNECT_DELAY).await;
        }
    }
}

/// Until a channel is not needed any more. The needs depend on all running uploads, so they are looked at once in an
/// interval, however many notifications arrive.
async fn listen(shared: &Shared, node: &str) -> Result<(), DatabaseError> {
    let mut listener = shared.database.listener().await?;
    let mut channels = BTreeSet::new();
    let mut needed_at = Instant::now();
    let mut tick = interval(SEND_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changed = async {
            loop {
                tick.tick().await;
                let needed = needed_channels(shared, node);
                if needed == channels && !needed.is_empty() {
                    needed_at = Instant::now();
                } else if !needed.is_subset(&channels) || needed_at.elapsed() >= LISTEN_FOR {
                    return needed;
                }
            }
        };
        let needed = tokio::select! {
            payload = listener.receive() => {
                apply(shared, node, &payload?);
                continue;
            }
            // Dropping the other future may lose a notification.
            needed = changed => needed,
        };
        if needed_at.elapsed() >= LISTEN_FOR {
            return Ok(());
        }
        for channel in needed.difference(&channels) {
            listener.listen(channel).await?;
            if channel == ANNOUNCEMENTS {
                let question = (QUESTIONS.to_owned(), format!("uploads {node}"));
                notify(shared, vec![question]).await?;
            }
        }
        channels.extend(needed);
    }
}

/// `readers NODE *` or `readers NODE SUBJECT …`, `uploads NODE`, and `progress NODE JOB:OFFSET:RATE …`.
fn apply(shared: &Shared, node: &str, payload: &str) {
    let mut fields = payload.splitn(3, ' ');
    let (Some(kind), Some(sender)) = (fields.next(), fields.next()) else {
        return;
    };
    if sender == node {
        return;
    }
    shared.counters.lock().notifications += 1;
    let rest = fields.next().unwrap_or_default();
    match kind {
        "readers" => {
            let mut announced = shared.peers.0.lock();
            let nodes = &mut announced.nodes;
            if nodes.len() < MAX_PEERS || nodes.contains_key(sender) {
                let readers = Readers::parse(rest);
                nodes.insert(sender.to_owned(), (Instant::now(), readers));
            }
        }
        "uploads" => shared.peers.0.lock().is_asked = true,
        "progress" => {
            let progress = rest.split_whitespace().filter_map(|entry| {
                let mut numbers = entry.splitn(3, ':').map(str::parse::<u64>);
                let job = i64::try_from(numbers.next()?.ok()?).ok()?;
                Some((JobId(job), numbers.next()?.ok()?, numbers.next()?.ok()?))
            });
            shared.reports.set_remote(progress);
        }
        _ => {}
    }
}

async fn send(shared: &Shared, node: &str) {
    let mut tick = interval(SEND_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut announced: Option<(Instant, Readers)> = None;
    loop {
        tick.tick().await;
        let mut notifications = Vec::new();
        let readers = Readers::of_node(shared);
        let is_asked = std::mem::take(&mut shared.peers.0.lock().is_asked);
        announced = announced.filter(|(at, known)| {
            at.elapsed() < ANNOUNCE_INTERVAL && *known == readers && !is_asked
        });
        let announces = announced.is_none() && !readers.is_empty();
        if announces {
            let announcement = format!("readers {node} {}", readers.to_text());
            notifications.push((ANNOUNCEMENTS.to_owned(), announcement));
        }
        let progress = add_progress(shared, node, &mut notifications);
        match notify(shared, notifications).await {
            Ok(()) => {
                shared.reports.set_sent(&progress);
                if announces {
                    announced = Some((Instant::now(), readers));
                }
            }
            Err(error) => tracing::debug!(%error, "failed to send progress to other nodes"),
        }
    }
}

/// Returns the progress that other nodes have readers for.
fn add_progress(
    shared: &Shared,
    node: &str,
    notifications: &mut Vec<(String, String)>,
) -> Vec<Unsent> {
    let mut announced = shared.peers.0.lock();
    let nodes = &mut announced.nodes;
    nodes.retain(|_, (at, _)| at.elapsed() < SEND_FOR);
    if nodes.is_empty() {
        return Vec::new();
    }
    let nodes: Vec<_> = nodes.iter().collect();
    let progress = shared.reports.unsent(|subject| {
        let subject = subject.map(hash);
        let mut readers = nodes.iter().map(|(_, (_, readers))| readers);
        readers.any(|readers| readers.include(subject))
    });
    let read_all = nodes
        .iter()
        .any(|(_, (_, readers))| *readers == Readers::All);
    if read_all {
        add(PROGRESS, node, &progress, notifications);
    }
    for (peer, (_, readers)) in nodes {
        if *readers != Readers::All {
            let progress = progress.iter();
            let of_subjects =
                progress.filter(|one| readers.include(one.subject.as_deref().map(hash)));
            add(&own_channel(peer), node, of_subjects, notifications);
        }
    }
    progress
}

fn add<'a>(
    channel: &str,
    node: &str,
    progress: impl IntoIterator<Item = &'a Unsent>,
    notifications: &mut Vec<(String, String)>,
) {
    let mut payload = String::new();
    for Unsent {
        job, offset, rate, ..
    } in progress
    {
        let entry = format!(" {}:{offset}:{rate}", job.0);
        if payload.len() + entry.len() > MAX_PAYLOAD {
            notifications.push((channel.to_owned(), std::mem::take(&mut payload)));
        }
        if payload.is_empty() {
            payload = format!("progress {node}");
        }
        payload.push_str(&entry);
    }
    if !payload.is_empty() {
        notifications.push((channel.to_owned(), payload));
    }
}

async fn notify(
    shared: &Shared,
    notifications: Vec<(String, String)>,
) -> Result<(), DatabaseError> {
    for part in crate::sql::parts(&notifications) {
        let notify = "SELECT CAST(pg_notify(v.column1, v.column2) AS TEXT) FROM";
        let rows = part
            .iter()
            .map(|(channel, payload)| [channel.as_str().into(), payload.as_str().into()]);
        let statement = Statement::from_rows(notify, rows, ["TEXT", "TEXT"], "");
        shared.database.read(statement).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_short_and_contain_everything() {
        let unsent = |job| Unsent {
            job: JobId(job),
            subject: None,
            offset: 1 << 40,
            rate: 9,
        };
        let progress: Vec<_> = (0..4096).map(unsent).collect();
        let mut sent = Vec::new();
        add("c", "n", &progress, &mut sent);
        assert!(sent.iter().all(|(_, payload)| payload.len() <= MAX_PAYLOAD));
        let entries = sent
            .iter()
            .flat_map(|(_, payload)| payload.split(' ').skip(2));
        assert_eq!(entries.count(), progress.len());
        sent.clear();
        add("c", "n", &progress[..0], &mut sent);
        assert_eq!(sent, []);
    }

    #[test]
    fn parsed_announcement_is_the_written_one() {
        let some = Readers::Of(["ann", "bob"].map(hash).into());
        for readers in [Readers::All, some.clone()] {
            assert_eq!(Readers::parse(&readers.to_text()), readers);
            assert!(readers.include(Some(hash("ann"))));
        }
        assert!(!some.include(Some(hash("eve"))) && !some.include(None) && !some.is_empty());
        assert!(Readers::Of(HashSet::new()).is_empty());
    }
}
