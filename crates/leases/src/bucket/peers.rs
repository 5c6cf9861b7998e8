//! Watches the heartbeats of other nodes, by the clock of this machine. It ends no lease.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::records::{
    BucketLeaseError, LeaseRecords, LeaseRequest, MAX_REQUESTS, NodeRecord, Records,
};

const MAX_PEERS: usize = 10_000;

/// Incarnations of other nodes whose leases are requested here.
///
/// An incarnation is dead when its record has not changed for its TTL, by this machine's clock.
#[derive(Debug)]
pub(super) struct Peers {
    ttl: Duration,
    peers: Mutex<HashMap<String, Peer>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    sequence: Option<u64>,
    since: Instant,
    ttl: Duration,
    dead: bool,
}

impl Peers {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            peers: Mutex::default(),
        }
    }

    pub(super) fn is_dead(&self, owner: &str) -> bool {
        self.peers.lock().get(owner).is_some_and(|peer| peer.dead)
    }

    pub(super) fn mark_dead(&self, owner: &str) {
        let now = Instant::now();
        self.record(owner, None, self.ttl, now, true);
    }

    fn record(&self, owner: &str, sequence: Option<u64>, ttl: Duration, sent: Instant, dead: bool) {
        let mut peers = self.peers.lock();
        if peers.len() >= MAX_PEERS && !peers.contains_key(owner) {
            peers.clear();
        }
        let now = Peer {
            sequence,
            // Taken after the response: the heartbeat was sent earlier.
            since: Instant::now(),
            ttl,
            dead,
        };
        let peer = peers.entry(owner.to_owned()).or_insert(now);
        if peer.sequence == sequence && peer.ttl == ttl {
            // `sent`, because the record was read no earlier than that.
            peer.dead |= dead || sent.saturating_duration_since(peer.since) >= ttl;
        } else if !peer.dead {
            *peer = now;
        }
    }

    /// Reads the record of a node, and adds a request for a lease.
    pub(super) async fn probe<R: LeaseRecords>(
        &self,
        records: &Records<R>,
        owner: &str,
        request: Option<LeaseRequest>,
    ) -> Result<(), BucketLeaseError> {
        let key = NodeRecord::key(owner);
        let sent = Instant::now();
        let Some((mut found, version)) = records.read::<NodeRecord>(&key).await? else {
            self.record(owner, None, self.ttl, sent, false);
            return Ok(());
        };
        let ttl = Duration::from_millis(found.ttl_ms).max(self.ttl);
        self.record(owner, Some(found.sequence), ttl, sent, false);
        if let Some(request) = request
            && !found.requests.contains(&request)
            && found.requests.len() < MAX_REQUESTS
            && !self.is_dead(owner)
        {
            found.requests.push(request);
            found.nonce = rand::random();
            // If another node wrote first, the next poll adds the request.
            let write = records.write(&key, &found, Some(version));
            write.await?;
        }
        Ok(())
    }
}
