//! Guesses: whoever tries secrets that are none has to wait.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// So many wrong ones may come at once from an address …
const MOST: u32 = 10;

/// … and then one in this time.
const ONE_IN: Duration = Duration::from_secs(6);

/// How many addresses are remembered.
const REMEMBERED: usize = 10_000;

/// Counts the wrong secrets (API keys, JWTs, upload tokens) that come from each address: ten at once,
/// then ten a minute. What is right isn't counted. Cheap to clone; all clones count together.
///
/// IPv6 addresses count by their /64, which is what one household or one server has. Where the address
/// isn't known nobody is limited: one guesser would lock out everyone.
#[derive(Clone, Default)]
pub struct Guesses(Arc<Mutex<HashMap<IpAddr, Instant>>>);

impl Guesses {
    /// Whether the address may try a secret.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn check(&self, client: Option<IpAddr>) -> Result<(), Duration> {
        self.check_at(client, Instant::now())
    }

    /// A secret from this address was wrong.
    pub fn failed(&self, client: Option<IpAddr>) {
        self.failed_at(client, Instant::now());
    }

    fn check_at(&self, client: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let Some(client) = client else {
            return Ok(());
        };
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(clean) = all.get(&site(client)) else {
            return Ok(());
        };
        // All but one of the guesses that may come at once are used up by then.
        let wait = clean
            .saturating_duration_since(now)
            .saturating_sub(ONE_IN * (MOST - 1));
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    fn failed_at(&self, client: Option<IpAddr>, now: Instant) {
        let Some(client) = client else {
            return;
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let site = site(client);
        if all.len() >= REMEMBERED && !all.contains_key(&site) {
            make_room(&mut all, now);
        }
        // When all is forgotten; each guess puts that off. Requests that were let in at the same time
        // can't put it off for ever.
        let clean = all.entry(site).or_insert(now);
        *clean = ((*clean).max(now) + ONE_IN).min(now + ONE_IN * MOST * 2);
    }
}

/// Forgets those who are clean; if that isn't enough, the half that is so soonest.
fn make_room(all: &mut HashMap<IpAddr, Instant>, now: Instant) {
    all.retain(|_, clean| *clean > now);
    if all.len() > REMEMBERED / 2 {
        let mut times: Vec<Instant> = all.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let mut surplus = all.len() - REMEMBERED / 2;
        all.retain(|_, clean| {
            let goes = surplus > 0 && *clean <= median;
            surplus -= usize::from(goes);
            !goes
        });
    }
}

/// What counts as one address.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

impl fmt::Debug for Guesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guesses")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn ten_at_once_and_ten_a_minute() {
        let guesses = Guesses::default();
        let twin = guesses.clone();
        let (guesser, other) = (from("192.0.2.1"), from("192.0.2.2"));
        let start = Instant::now();
        for _ in 0..MOST {
            assert_eq!(guesses.check_at(guesser, start), Ok(()));
            twin.failed_at(guesser, start);
        }
        assert_eq!(guesses.check_at(guesser, start), Err(ONE_IN));
        assert_eq!(
            guesses.check_at(from("::ffff:192.0.2.1"), start),
            Err(ONE_IN)
        );
        assert_eq!(guesses.check_at(other, start), Ok(()));
        let almost = start + ONE_IN - Duration::from_millis(1);
        assert!(guesses.check_at(guesser, almost).is_err());
        assert_eq!(guesses.check_at(guesser, start + ONE_IN), Ok(()));
        guesses.failed_at(guesser, start + ONE_IN);
        assert_eq!(guesses.check_at(guesser, start + ONE_IN), Err(ONE_IN));
        let rested = start + ONE_IN * (MOST + 1);
        for _ in 0..MOST {
            assert_eq!(guesses.check_at(guesser, rested), Ok(()));
            guesses.failed_at(guesser, rested);
        }
        assert!(guesses.check_at(guesser, rested).is_err());
        // Clones count together.
        assert!(twin.check_at(guesser, rested).is_err());
    }

    #[test]
    fn a_flood_that_was_let_in_at_once_is_over_in_two_minutes() {
        let guesses = Guesses::default();
        let start = Instant::now();
        for _ in 0..100_000 {
            guesses.failed_at(from("192.0.2.1"), start);
        }
        let wait = guesses.check_at(from("192.0.2.1"), start).unwrap_err();
        assert!(wait <= Duration::from_secs(120), "{wait:?}");
    }

    #[test]
    fn a_network_counts_as_one_and_nobody_is_not_counted() {
        let guesses = Guesses::default();
        let start = Instant::now();
        for last in 0..u16::try_from(MOST).unwrap() {
            guesses.failed_at(from(&format!("2001:db8:0:1::{last:x}")), start);
            guesses.failed_at(None, start);
        }
        assert!(
            guesses
                .check_at(from("2001:db8:0:1:ffff::"), start)
                .is_err()
        );
        assert_eq!(guesses.check_at(from("2001:db8:0:2::"), start), Ok(()));
        assert_eq!(guesses.check_at(None, start), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_those_who_guess_most_stay() {
        let guesses = Guesses::default();
        let start = Instant::now();
        let worst = from("192.0.2.1");
        for _ in 0..MOST {
            guesses.failed_at(worst, start);
        }
        for number in 0..100_000_u32 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            guesses.failed_at(Some(address), start);
        }
        let held = guesses.0.lock().unwrap().len();
        assert!(held <= REMEMBERED, "{held}");
        assert!(guesses.check_at(worst, start).is_err());
    }
}
