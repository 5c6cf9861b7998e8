//! When requests are repeated.

use std::time::Duration;

use crate::Error;

/// When failed requests are repeated.
///
/// The first retry follows after [`Self::min_delay`], each further one after twice the time, up to
/// [`Self::max_delay`]; the delay is reduced at random by up to a half. `Retry-After` has precedence. An attempt
/// that made progress starts the count and the delays anew, so that transfers over bad connections finish.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The number of attempts without progress after which the transfer fails.
    pub max_attempts: u32,
    /// The delay before the first retry.
    pub min_delay: Duration,
    /// The longest delay, except by `Retry-After`.
    pub max_delay: Duration,
    /// The longest `Retry-After` that is waited for; a longer one ends the transfer.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 12,
            min_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(30),
            max_retry_after: Duration::from_secs(600),
        }
    }
}

impl RetryPolicy {
    /// Returns a policy with another number of attempts; 1 means no retry.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Returns a policy with other delays.
    #[must_use]
    pub fn with_delays(mut self, min: Duration, max: Duration) -> Self {
        self.min_delay = min;
        self.max_delay = max;
        self
    }
}

/// The attempts of one transfer.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: RetryPolicy,
    /// Failed attempts since the last progress.
    attempts: u32,
    /// The most bytes that the server had.
    best: Option<u64>,
}

impl Backoff {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            attempts: 0,
            best: None,
        }
    }

    /// Returns whether the offset is larger than all before.
    pub(crate) fn is_progress(&self, offset: u64) -> bool {
        self.best.is_none_or(|best| offset > best)
    }

    /// Records the offset of the server. One that is larger than all before is progress.
    pub(crate) fn reached(&mut self, offset: u64) {
        if self.is_progress(offset) {
            self.best = Some(offset);
            self.attempts = 0;
        }
    }

    /// Returns the number of the failed attempt, the delay before the next one, and the error.
    ///
    /// # Errors
    /// The error if it is permanent, or [`Error::GaveUp`].
    pub(crate) fn failed(&mut self, error: Error) -> Result<(u32, Duration, Error), Error> {
        if !error.is_transient() {
            return Err(error);
        }
        self.attempts = self.attempts.saturating_add(1);
        let wait = error.retry_after();
        let is_too_long = wait.is_some_and(|wait| wait > self.policy.max_retry_after);
        if self.attempts >= self.policy.max_attempts || is_too_long {
            return Err(Error::GaveUp {
                attempts: self.attempts,
                last: Box::new(error),
            });
        }
        let delay = wait.unwrap_or_else(|| self.delay());
        Ok((self.attempts, delay, error))
    }

    fn delay(&self) -> Duration {
        let doublings = self.attempts.saturating_sub(1).min(20);
        let delay = (self.policy.min_delay * (1 << doublings)).min(self.policy.max_delay);
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Error {
        Error::Connection("cut".into())
    }

    #[test]
    fn delays_grow_up_to_the_limit_and_the_attempts_end() {
        let policy = RetryPolicy::default()
            .with_max_attempts(8)
            .with_delays(Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(policy);
        for attempt in 1..8 {
            let (number, delay, _) = backoff.failed(connection()).unwrap();
            let longest = Duration::from_millis(100 << (attempt - 1)).min(Duration::from_secs(1));
            assert_eq!(number, attempt);
            assert!(delay <= longest && delay >= longest / 2, "{delay:?}");
        }
        let error = backoff.failed(connection()).unwrap_err();
        assert!(
            matches!(error, Error::GaveUp { attempts: 8, .. }),
            "{error}"
        );
    }

    #[test]
    fn progress_starts_the_count_anew_and_lower_offsets_do_not() {
        let mut backoff = Backoff::new(RetryPolicy::default().with_max_attempts(3));
        for offset in 0..100 {
            backoff.reached(offset);
            assert_eq!(backoff.failed(connection()).unwrap().0, 1);
        }
        backoff.reached(7);
        assert_eq!(backoff.failed(connection()).unwrap().0, 2);
        assert!(backoff.failed(connection()).is_err());
    }

    #[test]
    fn permanent_errors_end_at_once() {
        let mut backoff = Backoff::new(RetryPolicy::default());
        let error = backoff.failed(Error::SourceChanged("size".into()));
        assert!(matches!(error, Err(Error::SourceChanged(_))));
    }
}
