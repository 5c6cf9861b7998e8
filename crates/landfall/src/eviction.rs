//! Which clients make way when a limit of transfers or connections is reached.

use std::{cmp::Reverse, time::Duration};

const SILENT_AFTER: Duration = Duration::from_secs(2);
/// Bytes per second, measured over a time of at least `SILENT_AFTER`.
const MIN_RATE: u64 = 1024;

/// The time for which a client has been silent; zero if it is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Idleness(Duration);

impl Idleness {
    /// Measures a client that sent `received` bytes while the server `waited`; `None` if it makes progress.
    #[must_use]
    pub fn measure(silence: Duration, received: u64, waited: Duration) -> Option<Self> {
        if silence >= SILENT_AFTER {
            return Some(Self(silence));
        }
        let millis = u128::from(received) * 1000;
        let is_slow = waited >= SILENT_AFTER && millis < u128::from(MIN_RATE) * waited.as_millis();
        is_slow.then_some(Self(Duration::ZERO))
    }

    /// Returns at most `max` of the clients, the most silent one first.
    pub fn largest<T>(clients: impl Iterator<Item = (Self, T)>, max: usize) -> Vec<T> {
        let mut found: Vec<_> = clients.collect();
        found.sort_unstable_by_key(|(idleness, _)| Reverse(*idleness));
        found.truncate(max);
        found.into_iter().map(|(_, client)| client).collect()
    }
}
