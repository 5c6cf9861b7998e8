//! A rate limit for failed authentication.
//!
//! The secret is checked first and only failures are recorded, so the limit never rejects a valid
//! secret. Clients behind one NAT address, or a page of another site that makes browsers send
//! invalid secrets, cannot lock each other out.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::sync::{EntryAction, EntryResult};

use crate::cache::{BoundedCache, bounded};

/// Failures that one source may cause in a burst.
const BURST: u32 = 10;

/// Time after which a further failure is allowed.
const INTERVAL: Duration = Duration::from_secs(6);

/// Length of the prefix that identifies a secret.
const PREFIX_CHARS: usize = 12;

/// Limits failed attempts: ten at once, then ten per minute. Cheap to clone; clones share the
/// counts.
///
/// Attempts are counted per address (IPv6: per /64 network) and per prefix of a secret. Attempts
/// caused by pages of other sites are counted separately.
#[derive(Clone)]
pub struct FailedAttempts(Arc<Limiter>);

struct Limiter {
    /// When the whole burst of a source is available again (GCRA's theoretical arrival time).
    clear_at: BoundedCache<Source, Instant>,
    hasher: RandomState,
}

/// A source of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Network(IpAddr),
    /// Pages of other sites, in browsers of this network.
    OtherSite(IpAddr),
    /// A hash of a prefix, so that no secrets are in memory.
    Prefix(u64),
}

/// A failed attempt.
#[derive(Clone, Copy, Default)]
pub struct FailedAttempt<'a> {
    /// The client's address; attempts without one are not counted per address.
    pub client: Option<IpAddr>,
    /// The invalid API key or upload token.
    pub secret: Option<&'a str>,
    /// True if a page of another site may have caused it.
    pub is_cross_site: bool,
}

impl FailedAttempts {
    /// Records a failed attempt.
    ///
    /// # Errors
    /// Too many failed before. Returns the time to wait.
    pub fn record(&self, attempt: &FailedAttempt<'_>) -> Result<(), Duration> {
        self.record_at(attempt, Instant::now())
    }

    fn record_at(&self, attempt: &FailedAttempt<'_>, now: Instant) -> Result<(), Duration> {
        let by_address = attempt.client.map(|client| match attempt.is_cross_site {
            true => Source::OtherSite(network(client)),
            false => Source::Network(network(client)),
        });
        let by_prefix = attempt.secret.map(|secret| {
            let prefix: String = secret.chars().take(PREFIX_CHARS).collect();
            Source::Prefix(self.0.hasher.hash_one(prefix))
        });
        // An address at its limit adds no prefixes, since it can make up any number of them.
        for source in [by_address, by_prefix].into_iter().flatten() {
            let wait = self.0.add(source, now);
            if !wait.is_zero() {
                return Err(wait);
            }
        }
        Ok(())
    }
}

impl Limiter {
    /// Counts a failure. Returns the time to wait, zero within the limit.
    fn add(&self, source: Source, now: Instant) -> Duration {
        let add = |clear_at: &mut Instant| {
            let from = now.max(*clear_at);
            // By then, all but one of the burst are used.
            let wait = (from - now).saturating_sub(INTERVAL * (BURST - 1));
            if wait.is_zero() {
                *clear_at = from + INTERVAL;
            }
            wait
        };
        let entry = self.clear_at.entry(&source, None, |_, clear_at| {
            EntryAction::Retain(add(clear_at))
        });
        match entry {
            EntryResult::Retained(wait) => wait,
            EntryResult::Vacant(guard) => {
                let _ = guard.insert(now + INTERVAL);
                Duration::ZERO
            }
            // There is no timeout, and nothing is removed.
            _ => Duration::ZERO,
        }
    }
}

/// Returns the network that counts as one source.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

impl Default for FailedAttempts {
    fn default() -> Self {
        Self(Arc::new(Limiter {
            clear_at: bounded(),
            hasher: RandomState::new(),
        }))
    }
}

impl fmt::Debug for FailedAttempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailedAttempts")
    }
}

impl fmt::Debug for FailedAttempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailedAttempt")
            .field("client", &self.client)
            .field("is_cross_site", &self.is_cross_site)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CACHE_CAPACITY;

    fn from(text: &str) -> FailedAttempt<'static> {
        FailedAttempt {
            client: Some(text.parse().unwrap()),
            ..FailedAttempt::default()
        }
    }

    #[test]
    fn ten_at_once_and_ten_a_minute() {
        let attempts = FailedAttempts::default();
        let twin = attempts.clone();
        let (attacker, other) = (from("192.0.2.1"), from("192.0.2.2"));
        let start = Instant::now();
        for _ in 0..BURST {
            assert_eq!(twin.record_at(&attacker, start), Ok(()));
        }
        // Rejected attempts do not prolong the wait.
        for _ in 0..100 {
            assert_eq!(attempts.record_at(&attacker, start), Err(INTERVAL));
        }
        let mapped = from("::ffff:192.0.2.1");
        assert_eq!(attempts.record_at(&mapped, start), Err(INTERVAL));
        assert_eq!(attempts.record_at(&other, start), Ok(()));
        let almost = start + INTERVAL - Duration::from_millis(1);
        assert!(attempts.record_at(&attacker, almost).is_err());
        assert_eq!(attempts.record_at(&attacker, start + INTERVAL), Ok(()));
        assert!(attempts.record_at(&attacker, start + INTERVAL).is_err());
        let rested = start + INTERVAL * (BURST + 1);
        for _ in 0..BURST {
            assert_eq!(attempts.record_at(&attacker, rested), Ok(()));
        }
        assert!(twin.record_at(&attacker, rested).is_err());
    }

    #[test]
    fn ipv6_networks_count_as_one_and_unknown_addresses_do_not_count() {
        let attempts = FailedAttempts::default();
        let start = Instant::now();
        for last in 0..BURST {
            let attempt = from(&format!("2001:db8:0:1::{last:x}"));
            assert_eq!(attempts.record_at(&attempt, start), Ok(()));
        }
        for _ in 0..100 {
            let unknown = FailedAttempt::default();
            assert_eq!(attempts.record_at(&unknown, start), Ok(()));
        }
        let same = from("2001:db8:0:1:ffff::");
        assert!(attempts.record_at(&same, start).is_err());
        assert_eq!(attempts.record_at(&from("2001:db8:0:2::"), start), Ok(()));
    }

    #[test]
    fn pages_of_other_sites_use_up_nothing_of_the_address() {
        let attempts = FailedAttempts::default();
        let start = Instant::now();
        let own = from("192.0.2.1");
        let cross_site = FailedAttempt {
            is_cross_site: true,
            ..own
        };
        while attempts.record_at(&cross_site, start).is_ok() {}
        assert_eq!(attempts.record_at(&own, start), Ok(()));
    }

    #[test]
    fn a_prefix_is_limited_over_all_addresses() {
        let attempts = FailedAttempts::default();
        let start = Instant::now();
        let guess = |nth: u32, secret: &str| {
            let attempt = FailedAttempt {
                client: Some(IpAddr::from((0x0a00_0000 + nth).to_be_bytes())),
                secret: Some(secret),
                is_cross_site: false,
            };
            attempts.record_at(&attempt, start)
        };
        for nth in 0..BURST {
            assert_eq!(guess(nth, &format!("lfk_abcdefgh{nth}")), Ok(()));
        }
        assert!(guess(BURST, "lfk_abcdefghx").is_err());
        assert_eq!(guess(BURST + 1, "lfk_abcdefgi"), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = FailedAttempts::default();
        let start = Instant::now();
        for number in 0..50_000_u32 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            let attempt = FailedAttempt {
                client: Some(address),
                ..FailedAttempt::default()
            };
            assert_eq!(attempts.record_at(&attempt, start), Ok(()));
        }
        let count = attempts.0.clear_at.len();
        assert!(count <= CACHE_CAPACITY, "{count}");
        // A source with many failures is still counted.
        let worst = from("192.0.2.1");
        let limited = (0..=BURST).any(|_| attempts.record_at(&worst, start).is_err());
        assert!(limited);
    }
}
