//! The limits learnt of hosts: the content that one request may have.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use url::{Origin, Url};

use crate::Capabilities;

/// The least content of one request that a limit leaves.
const MIN_CHUNK_BYTES: u64 = 64 * 1024;
/// A limit that grows to this size is removed.
const UNLIMITED_BYTES: u64 = 1 << 30;
const CACHE_CAPACITY: usize = 1024;
const CACHE_TTL: Duration = Duration::from_secs(300);

/// The hosts that a client has used.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    limits: Mutex<HashMap<Origin, ChunkLimit>>,
    capabilities: Mutex<HashMap<Url, (Instant, Capabilities)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChunkLimit {
    bytes: u64,
    /// True if it was learnt from a rejection (413), not from a lost connection.
    is_rejected: bool,
}

impl Hosts {
    /// Returns the most content of one request.
    pub(crate) fn max_chunk(&self, url: &Url) -> u64 {
        let limits = self.limits.lock();
        limits
            .get(&url.origin())
            .map_or(u64::MAX, |limit| limit.bytes)
    }

    /// Halves the content of one request after one of `bytes` failed. Returns the new limit; `None` if it cannot be
    /// lower.
    pub(crate) fn reduce(&self, url: &Url, bytes: u64, is_rejected: bool) -> Option<u64> {
        let half = (bytes / 2).max(MIN_CHUNK_BYTES);
        if half >= bytes {
            return None;
        }
        let mut limits = self.limits.lock();
        make_room(&mut limits);
        let limit = ChunkLimit {
            bytes: half,
            is_rejected,
        };
        limits.insert(url.origin(), limit);
        Some(half)
    }

    /// Records that a request of the limit succeeded: after lost connections the limit grows again.
    pub(crate) fn succeeded(&self, url: &Url, bytes: u64) {
        let mut limits = self.limits.lock();
        let origin = url.origin();
        if let Some(limit) = limits.get_mut(&origin)
            && !limit.is_rejected
            && bytes >= limit.bytes
        {
            limit.bytes = limit.bytes.saturating_mul(2);
            if limit.bytes >= UNLIMITED_BYTES {
                limits.remove(&origin);
            }
        }
    }

    pub(crate) fn capabilities(&self, endpoint: &Url) -> Option<Capabilities> {
        let capabilities = self.capabilities.lock();
        let (at, found) = capabilities.get(endpoint)?;
        (at.elapsed() < CACHE_TTL).then(|| found.clone())
    }

    pub(crate) fn set_capabilities(&self, endpoint: &Url, found: Capabilities) {
        let mut capabilities = self.capabilities.lock();
        make_room(&mut capabilities);
        capabilities.insert(endpoint.clone(), (Instant::now(), found));
    }
}

/// Removes an entry of a full cache; each can be learnt again.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(cache: &mut HashMap<K, V>) {
    if cache.len() >= CACHE_CAPACITY
        && let Some(key) = cache.keys().next().cloned()
    {
        cache.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_halve_down_to_a_minimum_and_grow_only_after_lost_connections() {
        let hosts = Hosts::default();
        let url: Url = "http://localhost:1/a".parse().unwrap();
        assert_eq!(hosts.max_chunk(&url), u64::MAX);
        assert_eq!(hosts.reduce(&url, 1 << 20, false), Some(1 << 19));
        hosts.succeeded(&url, 1 << 19);
        assert_eq!(hosts.max_chunk(&url), 1 << 20);
        assert_eq!(hosts.reduce(&url, 1 << 20, true), Some(1 << 19));
        hosts.succeeded(&url, 1 << 19);
        assert_eq!(hosts.max_chunk(&url), 1 << 19);
        assert_eq!(hosts.reduce(&url, MIN_CHUNK_BYTES, true), None);
        assert_eq!(hosts.max_chunk(&"http://other/".parse().unwrap()), u64::MAX);
    }
}
