//! Delays before retries. Callers spread them and decide when to give up.

use std::time::Duration;

/// Returns the delay after some failures in a row: `min`, doubled with each after the first, up to `max`.
#[must_use]
pub fn backoff(failures: u32, min: Duration, max: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    min.saturating_mul(1 << doublings).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let delay = |failures| backoff(failures, Duration::from_secs(1), Duration::from_secs(60));
        let delays = [0, 1, 2, 3, 6, 7, 8, 40, u32::MAX].map(|failures| delay(failures).as_secs());
        assert_eq!(delays, [1, 1, 2, 4, 32, 60, 60, 60, 60]);
        assert_eq!(backoff(1, Duration::MAX, Duration::MAX), Duration::MAX);
        assert_eq!(backoff(9, Duration::MAX, Duration::MAX), Duration::MAX);
    }
}
