//! Limits connections, requests, uploads and downloads per client address, by counts in sharded tables.
//!
//! The tables are bounded: when a shard is full of active addresses, new ones are not counted or limited. No shard is
//! locked across an await. A permit must not be dropped under the lock of its shard, since its drop takes that lock.
//! `fair_queue` divides the time for reading bodies.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::HeaderMap;
use parking_lot::Mutex;

use super::fair_queue::{AddressQueue, QueuedBody};
use crate::function::Function;
use crate::log_throttle::LogThrottle;
use crate::rejection::HttpRejection;
use crate::stats::NetStats;

const SHARDS: usize = 16;

/// Maximum number of addresses per shard. Idle addresses are evicted; above it, new ones are not counted.
const MAX_PER_SHARD: usize = 8192;

/// Limits per client address; 0 disables a limit. IPv6 addresses are counted per /64.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AddressLimits {
    /// Maximum number of open connections. Up to twice as many get 503, and HEAD 423; further ones are closed
    /// at once.
    pub connections: AddressLimit,
    /// Average requests per second, also the burst size. Further requests get 503, and HEAD 423.
    pub requests: AddressLimit,
    /// Maximum number of concurrent requests with a body. Further requests get 503, and HEAD 423.
    ///
    /// While several addresses send, the bodies of one address are read in turns.
    pub uploads: AddressLimit,
    /// Maximum number of concurrent GET requests, whose responses may be long. Further requests get 503.
    pub downloads: AddressLimit,
    /// Finds the address that a request is counted for.
    pub client: ClientAddress,
}

/// A limit that can change while the server runs. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct AddressLimit(Arc<AtomicU32>);

impl AddressLimit {
    /// Applies to new connections and requests; open ones stay.
    pub fn set(&self, limit: u32) {
        self.0.store(limit, Relaxed);
    }
}

/// Finds the address that a request, or a connection without headers, is counted for.
///
/// `None` is not counted. The default is the address of the peer, unless it is a loopback address or a
/// UNIX socket, which suggests a reverse proxy.
pub type ClientAddress =
    Function<dyn Fn(&HeaderMap, Option<IpAddr>) -> Option<IpAddr> + Send + Sync>;

impl Default for ClientAddress {
    fn default() -> Self {
        Self(Arc::new(|_, peer| {
            peer.filter(|address| !address.to_canonical().is_loopback())
        }))
    }
}

/// A client is a network: one subscriber has a /64 of IPv6. ffff::/16 has multicast addresses, which no client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AddressKey(u64);

impl AddressKey {
    fn new(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => 0xffff << 48 | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        })
    }

    fn shard(self) -> usize {
        // The highest bits of the product depend on all others.
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % SHARDS
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitKind {
    Connections,
    Uploads,
    Downloads,
    Requests,
}

impl LimitKind {
    /// Returns the limit, the setting that it follows from, and the counter of rejections.
    fn limit(self, Addresses { limits, stats, .. }: &Addresses) -> (u32, &str, &AtomicU64) {
        let (limit, name, rejected) = match self {
            Self::Connections => (
                &limits.connections,
                "connections",
                &stats.address_connections,
            ),
            Self::Uploads => (&limits.uploads, "connections", &stats.address_uploads),
            Self::Downloads => (&limits.downloads, "connections", &stats.address_downloads),
            Self::Requests => (&limits.requests, "requests", &stats.address_requests),
        };
        (limit.0.load(Relaxed), name, rejected)
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Connections => "too many connections are open from this address",
            Self::Uploads => "too many concurrent uploads from this address",
            Self::Downloads => "too many concurrent downloads from this address",
            Self::Requests => "too many requests from this address",
        }
    }
}

#[derive(Debug)]
struct AddressUsage {
    /// By [`LimitKind`], without requests.
    open: [u32; 3],
    /// The requests so far have used up the rate until then, at most for a second.
    used_until: Instant,
    queue: Option<Arc<AddressQueue>>,
}

impl AddressUsage {
    fn is_idle(&self, now: Instant) -> bool {
        self.open == [0; 3] && self.used_until <= now
    }
}

#[derive(Debug)]
pub(crate) struct Addresses {
    limits: AddressLimits,
    workers: usize,
    stats: Arc<NetStats>,
    senders: Arc<AtomicUsize>,
    shards: [Mutex<HashMap<AddressKey, AddressUsage>>; SHARDS],
    /// By [`LimitKind`].
    warned: [LogThrottle; 4],
}

impl Addresses {
    pub(crate) fn new(limits: AddressLimits, workers: usize, stats: Arc<NetStats>) -> Self {
        Self {
            limits,
            workers,
            stats,
            senders: Arc::default(),
            shards: Default::default(),
            warned: Default::default(),
        }
    }

    /// Counts a rejection, and logs the address, which may be that of a proxy, and what to change.
    pub(crate) fn reject(
        &self,
        kind: LimitKind,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> HttpRejection {
        let (limit, name, rejected) = kind.limit(self);
        NetStats::add(rejected, 1);
        if let Some(address) = (self.limits.client.0)(headers, peer)
            && self.warned[kind as usize].is_due()
        {
            tracing::warn!(
                address = %address.to_canonical(),
                limit,
                setting = format_args!("--max-{name}-per-address"),
                "limit per client address reached, further requests get 503: raise the setting, or add \
                 the address to --trusted-proxies if it is a proxy of yours"
            );
        }
        HttpRejection::busy(kind.reason())
    }

    /// Counts one more until the permit is dropped. Requests of connections above the limit are rejected.
    pub(crate) fn open(
        self: &Arc<Self>,
        kind: LimitKind,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Option<AddressPermit>, HttpRejection> {
        let opened = self.update(kind, headers, peer, |key, limit, usage| {
            let open = &mut usage.open[kind as usize];
            let max = match kind {
                LimitKind::Connections => limit.saturating_mul(2),
                _ => limit,
            };
            if *open >= max {
                return None;
            }
            *open += 1;
            let is_over_limit = *open > limit;
            let queue = (kind == LimitKind::Uploads).then(|| {
                if *open == 1 {
                    self.senders.fetch_add(1, Relaxed);
                }
                let new = || AddressQueue::new(self.workers, self.senders.clone()).into();
                Arc::clone(usage.queue.get_or_insert_with(new))
            });
            Some(AddressPermit {
                addresses: Arc::clone(self),
                key,
                kind,
                queue,
                is_over_limit,
            })
        });
        match opened {
            Some(None) => Err(self.reject(kind, headers, peer)),
            opened => Ok(opened.flatten()),
        }
    }

    pub(crate) fn request(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<(), HttpRejection> {
        let admitted = self.update(LimitKind::Requests, headers, peer, |_, limit, usage| {
            let now = Instant::now();
            let used_until = usage.used_until.max(now) + Duration::from_secs(1) / limit;
            let admitted = used_until <= now + Duration::from_secs(1);
            if admitted {
                usage.used_until = used_until;
            }
            admitted
        });
        match admitted {
            Some(false) => Err(self.reject(LimitKind::Requests, headers, peer)),
            _ => Ok(()),
        }
    }

    /// `None` if the address is not counted.
    fn update<R>(
        &self,
        kind: LimitKind,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        change: impl FnOnce(AddressKey, u32, &mut AddressUsage) -> R,
    ) -> Option<R> {
        let (limit, ..) = kind.limit(self);
        if limit == 0 {
            return None;
        }
        let key = AddressKey::new((self.limits.client.0)(headers, peer)?);
        let mut shard = self.shards[key.shard()].lock();
        if !shard.contains_key(&key) && shard.len() >= MAX_PER_SHARD {
            let now = Instant::now();
            shard.retain(|_, usage| !usage.is_idle(now));
            if shard.len() >= MAX_PER_SHARD {
                return None;
            }
        }
        let usage = shard.entry(key).or_insert_with(|| AddressUsage {
            open: [0; 3],
            used_until: Instant::now(),
            queue: None,
        });
        Some(change(key, limit, usage))
    }
}

#[derive(Debug)]
pub(crate) struct AddressPermit {
    addresses: Arc<Addresses>,
    key: AddressKey,
    kind: LimitKind,
    queue: Option<Arc<AddressQueue>>,
    pub(crate) is_over_limit: bool,
}

impl AddressPermit {
    pub(crate) fn enqueue(&self) -> Option<Box<QueuedBody>> {
        let queue = self.queue.clone()?;
        Some(Box::new(QueuedBody::new(queue)))
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut shard = self.addresses.shards[self.key.shard()].lock();
        if let Some(usage) = shard.get_mut(&self.key) {
            let open = &mut usage.open[self.kind as usize];
            *open = open.saturating_sub(1);
            if *open == 0 && self.kind == LimitKind::Uploads {
                self.addresses.senders.fetch_sub(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(connections: u32, requests: u32, uploads: u32) -> Arc<Addresses> {
        let limits = AddressLimits::default();
        limits.connections.set(connections);
        limits.requests.set(requests);
        limits.uploads.set(uploads);
        Arc::new(Addresses::new(limits, 1, Arc::default()))
    }

    fn connect(
        addresses: &Arc<Addresses>,
        peer: Option<IpAddr>,
    ) -> Result<Option<AddressPermit>, HttpRejection> {
        addresses.open(LimitKind::Connections, &HeaderMap::new(), peer)
    }

    fn upload(
        addresses: &Arc<Addresses>,
        peer: &str,
    ) -> Result<Option<AddressPermit>, HttpRejection> {
        addresses.open(LimitKind::Uploads, &HeaderMap::new(), ip(peer))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn ipv6_addresses_count_per_network_and_mapped_ones_as_ipv4() {
        let addresses = addresses(0, 0, 1);
        let first = upload(&addresses, "2001:db8::1").unwrap();
        assert!(first.is_some());
        assert!(upload(&addresses, "2001:db8::ffff:2").is_err());
        assert!(upload(&addresses, "2001:db8:0:1::1").is_ok());
        let mapped = upload(&addresses, "::ffff:192.0.2.1").unwrap();
        assert!(upload(&addresses, "192.0.2.1").is_err());
        drop((first, mapped));
        assert!(upload(&addresses, "192.0.2.1").is_ok());
        assert!(upload(&addresses, "2001:db8::3").is_ok());
    }

    #[test]
    fn loopback_and_unix_peers_are_exempt() {
        let addresses = addresses(1, 1, 1);
        for peer in [ip("127.0.0.1"), ip("::1"), ip("::ffff:127.0.0.9"), None] {
            for _ in 0..5 {
                assert!(addresses.request(&HeaderMap::new(), peer).is_ok());
                assert!(matches!(connect(&addresses, peer), Ok(None)));
            }
        }
    }

    #[test]
    fn connections_over_the_limit_are_rejected_and_then_dropped() {
        let addresses = addresses(2, 0, 0);
        let mut held = Vec::new();
        let connected = |peer| {
            let permit = connect(&addresses, ip(peer)).ok()?;
            Some(permit.expect("the address is counted"))
        };
        for is_over_limit in [false, false, true, true] {
            let permit = connected("192.0.2.1").unwrap();
            assert_eq!(permit.is_over_limit, is_over_limit);
            held.push(permit);
        }
        assert!(connected("192.0.2.1").is_none());
        assert!(!connected("192.0.2.2").unwrap().is_over_limit);
        held.clear();
        assert!(!connected("192.0.2.1").unwrap().is_over_limit);
    }

    #[test]
    fn requests_are_admitted_again_as_time_passes() {
        let addresses = addresses(0, 20, 0);
        let request = || {
            addresses
                .request(&HeaderMap::new(), ip("192.0.2.1"))
                .is_ok()
        };
        let begin = Instant::now();
        let mut admitted = 0;
        while begin.elapsed().as_millis() < 500 {
            admitted += u32::from(request());
        }
        // A full bucket, and half a second's worth.
        assert!((20..=20 + 30).contains(&admitted), "{admitted}");
        assert!(admitted > 20, "{admitted}");
    }

    #[test]
    fn the_table_is_bounded() {
        let addresses = addresses(0, 5, 0);
        let total = u32::try_from(SHARDS * MAX_PER_SHARD * 2).unwrap();
        for n in 0..total {
            let peer = Some(IpAddr::V4((0x0b00_0000 + n).into()));
            assert!(addresses.request(&HeaderMap::new(), peer).is_ok());
        }
        for shard in &addresses.shards {
            assert!(shard.lock().len() <= MAX_PER_SHARD);
        }
    }
}
