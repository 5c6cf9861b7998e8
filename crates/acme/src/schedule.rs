//! When to renew, and when to try again. All functions are pure: times and random numbers are arguments.

use std::time::{Duration, SystemTime};

const MIN_BACKOFF: Duration = Duration::from_secs(60);
const MAX_BACKOFF: Duration = Duration::from_secs(24 * 3600);

/// Before the backoff, each challenge type is tried once, and orders whose nonces were rejected are repeated.
pub(crate) const NEXT_ATTEMPT: Duration = Duration::from_secs(1);

/// Likely to be enough where nonces are rejected at random (RFC 8555 section 6.5).
pub(crate) const NONCE_REPETITIONS: u32 = 2;

/// A rate limit of Let's Encrypt ends within a week.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// RFC 9773 section 4.3.2.
const RENEWAL_INFO_INTERVAL: [Duration; 2] = [MIN_BACKOFF, MAX_BACKOFF];

/// After this part of its lifetime, unless the authority suggests a time.
pub(crate) fn default_renewal(starts: SystemTime, expires: SystemTime) -> SystemTime {
    let lifetime = expires.duration_since(starts).unwrap_or_default();
    starts + lifetime * 2 / 3
}

/// After an error, or if the authority suggests no time.
pub(crate) const RENEWAL_INFO_RETRY: Duration = Duration::from_secs(6 * 3600);

/// A time within the window that the authority suggests (RFC 9773 section 4.2); `random` is from 0 to 1.
pub(crate) fn suggested_renewal(start: SystemTime, end: SystemTime, random: f64) -> SystemTime {
    let span = end.duration_since(start).unwrap_or_default();
    start + span.mul_f64(random.clamp(0.0, 1.0))
}

/// When to request the window again.
pub(crate) fn renewal_info_interval(retry_after: Duration) -> Duration {
    let [min, max] = RENEWAL_INFO_INTERVAL;
    retry_after.clamp(min, max)
}

/// The time until the next attempt, after some `failures` (at least 1) in a row.
pub(crate) fn backoff(failures: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    let delay = landfall_net::backoff(failures, MIN_BACKOFF, MAX_BACKOFF);
    // Servers that failed together do not come back together.
    let jittered = delay.mul_f64(1.0 + random / 4.0);
    let wanted = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    jittered.min(MAX_BACKOFF).max(wanted)
}

/// The time until the next attempt, after validations have failed with some of `methods` challenge types.
pub(crate) fn retry_delay(
    failures: u32,
    methods: u32,
    is_validation: bool,
    retry_after: Option<Duration>,
    random: f64,
) -> Duration {
    match is_validation && retry_after.is_none() && failures < methods {
        true => NEXT_ATTEMPT,
        false => backoff(failures, retry_after, random),
    }
}

/// The time in which several orders are suspicious.
pub(crate) const RECENT: Duration = Duration::from_secs(24 * 3600);

/// The time until the next order may start, after some that succeeded within [`RECENT`].
///
/// A clock that is wrong by a year, or an authority that always suggests a renewal, would use up rate limits.
pub(crate) fn pause(recent_orders: u32) -> Duration {
    match recent_orders.saturating_sub(2) {
        0 => Duration::ZERO,
        surplus => backoff(surplus, None, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(days: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * days
    }

    #[test]
    fn certificates_are_renewed_after_two_thirds_of_their_lifetime() {
        assert_eq!(default_renewal(at(100), at(190)), at(160));
        assert_eq!(default_renewal(at(100), at(106)), at(104));
        // An invalid one at once.
        assert_eq!(default_renewal(at(100), at(90)), at(100));
    }

    #[test]
    fn a_suggested_window_is_used_uniformly() {
        assert_eq!(suggested_renewal(at(10), at(20), 0.0), at(10));
        assert_eq!(suggested_renewal(at(10), at(20), 0.5), at(15));
        assert_eq!(suggested_renewal(at(10), at(20), 1.0), at(20));
        assert_eq!(suggested_renewal(at(20), at(10), 0.5), at(20));
        assert_eq!(renewal_info_interval(Duration::ZERO), MIN_BACKOFF);
        assert_eq!(renewal_info_interval(DAY / 4), DAY / 4);
        assert_eq!(renewal_info_interval(DAY * 30), DAY);
    }

    #[test]
    fn the_backoff_doubles_from_a_minute_to_a_day() {
        let seconds = |failures| backoff(failures, None, 0.0).as_secs();
        assert_eq!([1, 2, 3, 4, 11].map(seconds), [60, 120, 240, 480, 61_440]);
        assert_eq!([12, 40, u32::MAX].map(seconds), [86_400; 3]);
        assert_eq!(backoff(1, None, 1.0).as_secs(), 75);
        assert_eq!(backoff(40, None, 1.0), DAY);
    }

    #[test]
    fn certificates_that_are_due_at_once_do_not_use_up_rate_limits() {
        let seconds = [0, 1, 2, 3, 4, 20].map(|orders| pause(orders).as_secs());
        assert_eq!(seconds, [0, 0, 0, 60, 120, 86_400]);
    }

    #[test]
    fn rate_limits_are_respected() {
        assert_eq!(backoff(1, Some(DAY * 2), 0.5), DAY * 2);
        assert_eq!(backoff(1, Some(DAY * 400), 0.5), DAY * 7);
        assert_eq!(backoff(4, Some(Duration::from_secs(5)), 0.0).as_secs(), 480);
    }

    #[test]
    fn another_challenge_type_is_tried_before_the_backoff() {
        let delay = |failures, methods| retry_delay(failures, methods, true, None, 0.0).as_secs();
        assert_eq!(delay(1, 2), 1);
        assert_eq!(delay(2, 2), 120);
        assert_eq!(delay(1, 1), 60);
        // Unlike after an error that another type would not avoid.
        assert_eq!(retry_delay(1, 2, false, None, 0.0).as_secs(), 60);
        assert_eq!(retry_delay(1, 2, true, Some(DAY), 0.0), DAY);
    }
}
