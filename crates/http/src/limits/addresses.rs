use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use http::HeaderMap;
use parking_lot::Mutex;

use super::fair_queue::{AddressQueue, QueuedBody};
use crate::log_throttle::LogThrottle;
use crate::rejection::HttpRejection;

const SHARDS: usize = 16;

/// Maximum number of addresses per shard. Idle addresses are evicted; above it, new ones are not counted.
const MAX_PER_SHARD: usize = 8192;

/// Limits per client address; 0 disables a limit. IPv6 addresses are counted per /64.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AddressLimits {
    /// Maximum number of open connections. Up to twice as many get 503, and HEAD 423,; further ones are closed
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

    fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

type FindAddress = dyn Fn(&HeaderMap, Option<IpAddr>) -> Option<IpAddr> + Send + Sync;

/// Finds the address that a request, or a connection without headers, is counted for.
///
/// `None` is not counted. The default is the address of the peer, unless it is a loopback address or a
/// UNIX socket, which suggests a reverse proxy.
#[derive(Clone)]
pub struct ClientAddress(pub Arc<FindAddress>);

impl Default for ClientAddress {
    fn default() -> Self {
        Self(Arc::new(|_, peer| {
            peer.filter(|address| !address.to_canonical().is_loopback())
        }))
    }
}

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAddress(…)")
    }
}

/// One subscriber has a /64 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AddressKey {
    V4(u32),
    V6(u64),
}

impl AddressKey {
    fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }

    fn shard(self) -> usize {
        let bits = match self {
            Self::V4(bits) => u64::from(bits),
            Self::V6(bits) => bits,
        };
        // The highest bits of the product depend on all others.
        (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % SHARDS
    }
}

#[derive(Debug)]
struct AddressUsage {
    connections: u32,
    uploads: u32,
    downloads: u32,
    /// Token bucket, as of `refilled`.
    tokens: f64,
    refilled: Instant,
    queue: Option<Arc<AddressQueue>>,
}

impl AddressUsage {
    fn is_idle(&self, now: Instant) -> bool {
        self.connections == 0
            && self.uploads == 0
            && self.downloads == 0
            && now.duration_since(self.refilled).as_secs() >= 1
    }
}

#[derive(Debug)]
pub(crate) struct Addresses {
    limits: AddressLimits,
    workers: usize,
    senders: Arc<AtomicUsize>,
    shards: [Mutex<HashMap<AddressKey, AddressUsage>>; SHARDS],
    /// By [`LimitKind`].
    warned: [Mutex<LogThrottle>; 4],
}

#[derive(Clone, Copy, Debug)]
enum LimitKind {
    Connections,
    Requests,
    Uploads,
    Downloads,
}

/// Of the program, by [`LimitKind`].
const SETTINGS: [&str; 4] = [
    "--max-connections-per-address",
    "--max-requests-per-address",
    "--max-uploads-per-address",
    "--max-downloads-per-address",
];

#[derive(Debug)]
pub(crate) enum Admission {
    Allowed(Option<AddressPermit>),
    OverLimit(AddressPermit),
    Dropped,
}

impl Addresses {
    pub(crate) fn new(limits: AddressLimits, workers: usize) -> Self {
        Self {
            limits,
            workers,
            senders: Arc::default(),
            shards: Default::default(),
            warned: Default::default(),
        }
    }

    /// Names the address, which may be that of a proxy, and what to change.
    fn warn(&self, kind: LimitKind, limit: u32, headers: &HeaderMap, peer: Option<IpAddr>) {
        let Some(address) = (self.limits.client.0)(headers, peer) else {
            return;
        };
        if self.warned[kind as usize].lock().is_due(Instant::now()) {
            let (address, setting) = (address.to_canonical(), SETTINGS[kind as usize]);
            tracing::warn!(
                %address,
                limit,
                setting,
                "limit per client address reached, further requests get 503: raise the setting, or add \
                 the address to --trusted-proxies if it is a proxy of yours"
            );
        }
    }

    pub(crate) fn connect(self: &Arc<Self>, peer: Option<IpAddr>) -> Admission {
        let limit = self.limits.connections.get();
        let Some(key) = self.key(limit, &HeaderMap::new(), peer) else {
            return Admission::Allowed(None);
        };
        let count = self.update(key, |entry| {
            let dropped = entry.connections >= limit.saturating_mul(2);
            entry.connections += u32::from(!dropped);
            (entry.connections, dropped)
        });
        let permit = || AddressPermit {
            addresses: Arc::clone(self),
            key,
            kind: PermitKind::Connection,
            queue: None,
        };
        if count.is_some_and(|(count, dropped)| dropped || count > limit) {
            self.warn(LimitKind::Connections, limit, &HeaderMap::new(), peer);
        }
        match count {
            None => Admission::Allowed(None),
            Some((_, true)) => Admission::Dropped,
            Some((count, _)) if count > limit => Admission::OverLimit(permit()),
            Some(_) => Admission::Allowed(Some(permit())),
        }
    }

    pub(crate) fn request(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<(), HttpRejection> {
        let limit = self.limits.requests.get();
        let Some(key) = self.key(limit, headers, peer) else {
            return Ok(());
        };
        let burst = f64::from(limit);
        let admitted = self.update(key, |entry| {
            let now = Instant::now();
            let passed = now.duration_since(entry.refilled).as_secs_f64();
            entry.tokens = (entry.tokens + passed * burst).min(burst);
            entry.refilled = now;
            let admitted = entry.tokens >= 1.0;
            entry.tokens -= f64::from(u8::from(admitted));
            admitted
        });
        match admitted {
            Some(false) => {
                self.warn(LimitKind::Requests, limit, headers, peer);
                Err(TOO_MANY_REQUESTS)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn upload(
        self: &Arc<Self>,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Option<AddressPermit>, HttpRejection> {
        let limit = self.limits.uploads.get();
        let Some(key) = self.key(limit, headers, peer) else {
            return Ok(None);
        };
        let admitted = self.update(key, |entry| {
            if entry.uploads >= limit {
                return None;
            }
            entry.uploads += 1;
            if entry.uploads == 1 {
                self.senders.fetch_add(1, Relaxed);
            }
            Some(self.queue(entry))
        });
        match admitted {
            None => Ok(None),
            Some(None) => {
                self.warn(LimitKind::Uploads, limit, headers, peer);
                Err(TOO_MANY_UPLOADS)
            }
            Some(queue) => Ok(Some(AddressPermit {
                addresses: Arc::clone(self),
                key,
                kind: PermitKind::Upload,
                queue,
            })),
        }
    }

    pub(crate) fn download(
        self: &Arc<Self>,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Option<AddressPermit>, HttpRejection> {
        let limit = self.limits.downloads.get();
        let Some(key) = self.key(limit, headers, peer) else {
            return Ok(None);
        };
        let admitted = self.update(key, |entry| {
            let is_admitted = entry.downloads < limit;
            entry.downloads += u32::from(is_admitted);
            is_admitted
        });
        match admitted {
            None => Ok(None),
            Some(false) => {
                self.warn(LimitKind::Downloads, limit, headers, peer);
                Err(TOO_MANY_DOWNLOADS)
            }
            Some(true) => Ok(Some(AddressPermit {
                addresses: Arc::clone(self),
                key,
                kind: PermitKind::Download,
                queue: None,
            })),
        }
    }

    fn queue(&self, entry: &mut AddressUsage) -> Arc<AddressQueue> {
        let new = || AddressQueue::new(self.workers, self.senders.clone()).into();
        Arc::clone(entry.queue.get_or_insert_with(new))
    }

    fn key(&self, limit: u32, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<AddressKey> {
        if limit == 0 {
            return None;
        }
        (self.limits.client.0)(headers, peer).map(AddressKey::new)
    }

    fn update<R>(&self, key: AddressKey, change: impl FnOnce(&mut AddressUsage) -> R) -> Option<R> {
        let mut shard = self.shards[key.shard()].lock();
        if !shard.contains_key(&key) && shard.len() >= MAX_PER_SHARD {
            let now = Instant::now();
            shard.retain(|_, entry| !entry.is_idle(now));
            if shard.len() >= MAX_PER_SHARD {
                return None;
            }
        }
        Some(change(shard.entry(key).or_insert_with(|| AddressUsage {
            connections: 0,
            uploads: 0,
            downloads: 0,
            tokens: f64::from(self.limits.requests.get()),
            refilled: Instant::now(),
            queue: None,
        })))
    }
}

#[derive(Debug)]
pub(crate) struct AddressPermit {
    addresses: Arc<Addresses>,
    key: AddressKey,
    kind: PermitKind,
    queue: Option<Arc<AddressQueue>>,
}

impl AddressPermit {
    pub(crate) fn enqueue(&self) -> Option<Box<QueuedBody>> {
        let queue = self.queue.clone()?;
        Some(Box::new(QueuedBody::new(queue)))
    }
}

#[derive(Clone, Copy, Debug)]
enum PermitKind {
    Connection,
    Upload,
    Download,
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut shard = self.addresses.shards[self.key.shard()].lock();
        if let Some(entry) = shard.get_mut(&self.key) {
            match self.kind {
                PermitKind::Connection => entry.connections = entry.connections.saturating_sub(1),
                PermitKind::Download => entry.downloads = entry.downloads.saturating_sub(1),
                PermitKind::Upload => {
                    entry.uploads = entry.uploads.saturating_sub(1);
                    if entry.uploads == 0 {
                        self.addresses.senders.fetch_sub(1, Relaxed);
                    }
                }
            }
        }
    }
}

pub(crate) const TOO_MANY_CONNECTIONS: HttpRejection =
    HttpRejection::busy("too many connections are open from this address");
const TOO_MANY_REQUESTS: HttpRejection = HttpRejection::busy("too many requests from this address");
const TOO_MANY_UPLOADS: HttpRejection =
    HttpRejection::busy("too many concurrent uploads from this address");
const TOO_MANY_DOWNLOADS: HttpRejection =
    HttpRejection::busy("too many concurrent downloads from this address");

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(connections: u32, requests: u32, uploads: u32) -> Arc<Addresses> {
        let limits = AddressLimits::default();
        limits.connections.set(connections);
        limits.requests.set(requests);
        limits.uploads.set(uploads);
        Arc::new(Addresses::new(limits, 1))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn ipv6_addresses_count_per_network_and_mapped_ones_as_ipv4() {
        let addresses = addresses(0, 0, 1);
        let none = HeaderMap::new();
        let first = addresses.upload(&none, ip("2001:db8::1")).unwrap();
        assert!(first.is_some());
        assert!(addresses.upload(&none, ip("2001:db8::ffff:2")).is_err());
        assert!(addresses.upload(&none, ip("2001:db8:0:1::1")).is_ok());
        let mapped = addresses.upload(&none, ip("::ffff:192.0.2.1")).unwrap();
        assert!(addresses.upload(&none, ip("192.0.2.1")).is_err());
        drop((first, mapped));
        assert!(addresses.upload(&none, ip("192.0.2.1")).is_ok());
        assert!(addresses.upload(&none, ip("2001:db8::3")).is_ok());
    }

    #[test]
    fn loopback_and_unix_peers_are_exempt() {
        let addresses = addresses(1, 1, 1);
        for peer in [ip("127.0.0.1"), ip("::1"), ip("::ffff:127.0.0.9"), None] {
            for _ in 0..5 {
                assert!(addresses.request(&HeaderMap::new(), peer).is_ok());
                let admission = addresses.connect(peer);
                assert!(matches!(admission, Admission::Allowed(None)));
            }
        }
    }

    #[test]
    fn connections_over_the_limit_are_rejected_and_then_dropped() {
        let addresses = addresses(2, 0, 0);
        let mut held = Vec::new();
        for expected in [
            "Allowed",
            "Allowed",
            "OverLimit",
            "OverLimit",
            "Dropped",
            "Dropped",
        ] {
            let admission = addresses.connect(ip("192.0.2.1"));
            assert!(format!("{admission:?}").starts_with(expected));
            held.push(admission);
        }
        let other = addresses.connect(ip("192.0.2.2"));
        assert!(matches!(other, Admission::Allowed(Some(_))));
        held.clear();
        let admission = addresses.connect(ip("192.0.2.1"));
        assert!(matches!(admission, Admission::Allowed(Some(_))));
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
