//! What is known of the other nodes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::records::{Ask, MOST_ASKS, NodeRecord, RecordError, Records};
use crate::client::Condition;

/// The most lives that are remembered. One that is forgotten is watched anew.
const MOST_PEERS: usize = 10_000;

/// The lives of nodes that hold leases which are wanted here. A life is over when its record has not
/// changed for as long as its leases last, by this machine's own clock.
#[derive(Debug)]
pub(super) struct Peers {
    ttl: Duration,
    seen: Mutex<HashMap<String, Peer>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    /// The last heartbeat, and when it was first seen; `None` if there is no record.
    sequence: Option<u64>,
    since: Instant,
    ttl: Duration,
    over: bool,
}

impl Peers {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            seen: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Peer>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a life is known to be over.
    pub(super) fn are_over(&self, owner: &str) -> bool {
        self.lock().get(owner).is_some_and(|peer| peer.over)
    }

    /// A life is over: one of this node's own.
    pub(super) fn is_over(&self, owner: &str) {
        let now = Instant::now();
        self.note(owner, None, self.ttl, now, true);
    }

    fn note(&self, owner: &str, sequence: Option<u64>, ttl: Duration, asked: Instant, over: bool) {
        let mut seen = self.lock();
        if seen.len() >= MOST_PEERS && !seen.contains_key(owner) {
            seen.clear();
        }
        let now = Peer {
            sequence,
            // When the answer is here: the heartbeat was sent before.
            since: Instant::now(),
            ttl,
            over,
        };
        let peer = seen.entry(owner.to_owned()).or_insert(now);
        if peer.sequence == sequence && peer.ttl == ttl {
            // The answer is no older than its question.
            peer.over |= over || asked.saturating_duration_since(peer.since) >= ttl;
        } else if !peer.over {
            *peer = now;
        }
    }

    /// Looks for a life's heartbeat, and asks it for a lease.
    pub(super) async fn look(
        &self,
        records: &Records,
        owner: &str,
        ask: Option<Ask>,
    ) -> Result<(), RecordError> {
        let place = records.node(owner);
        let asked = Instant::now();
        let Some((mut found, etag)) = records.read::<NodeRecord>(&place).await? else {
            self.note(owner, None, self.ttl, asked, false);
            return Ok(());
        };
        self.note(
            owner,
            Some(found.sequence),
            found.ttl().max(self.ttl),
            asked,
            false,
        );
        if let Some(ask) = ask
            && !found.asks.contains(&ask)
            && found.asks.len() < MOST_ASKS
            && !self.are_over(owner)
        {
            found.asks.push(ask);
            found.nonce = rand::random();
            // If somebody else was faster, this node comes back.
            records
                .write(&place, &found, Condition::IfMatch(etag))
                .await?;
        }
        Ok(())
    }
}
