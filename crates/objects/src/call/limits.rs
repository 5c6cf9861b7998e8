//! The limits of the attempts of a call, in number and time. It sends nothing.

use std::time::Duration;

use tokio::time::Instant;

/// The limits of each call of a client.
#[derive(Clone, Debug)]
pub struct CallLimits {
    /// Maximum number of attempts of a call, at least 1.
    pub attempts: u32,
    /// Deadline of a call, including all retries.
    ///
    /// The time to transfer the payload at [`min_throughput`](Self::min_throughput) is added.
    pub deadline: Duration,
    /// Timeout of connecting, including TLS.
    pub connect_timeout: Duration,
    /// Idle timeout: from the request to the start of the response, and between two pieces of its
    /// body.
    pub idle_timeout: Duration,
    /// Minimum throughput of uploads, in bytes per second.
    ///
    /// An attempt may take `connect_timeout` + `idle_timeout` + payload / `min_throughput`. Copies
    /// inside the service get the same time.
    pub min_throughput: u64,
    /// Maximum delay before the second attempt; it doubles with each attempt.
    pub backoff: Duration,
    /// Maximum delay between attempts.
    ///
    /// If the service requests more (`Retry-After`), the call fails at once, with that delay in its
    /// error.
    pub max_backoff: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            attempts: 5,
            deadline: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            min_throughput: 128 * 1024,
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
        }
    }
}

/// The attempts of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryPolicy {
    attempts: u32,
    backoff: Duration,
    max_backoff: Duration,
    deadline: Instant,
    attempt_limit: Duration,
}

impl RetryPolicy {
    /// Starts a call that transfers this many bytes.
    pub(crate) fn new(settings: &CallLimits, bytes: u64) -> Self {
        let transfer = Duration::from_secs(bytes / settings.min_throughput.max(1));
        Self {
            attempts: settings.attempts.max(1),
            backoff: settings.backoff,
            max_backoff: settings.max_backoff,
            deadline: Instant::now() + settings.deadline + transfer,
            attempt_limit: settings.connect_timeout + settings.idle_timeout + transfer,
        }
    }

    /// Returns the deadline of the call.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns the deadline of an attempt that starts now.
    pub(crate) fn attempt_deadline(&self) -> Instant {
        self.deadline.min(Instant::now() + self.attempt_limit)
    }

    /// Returns the delay after the failed attempt number `attempt` (from 1); `None`: no retry.
    ///
    /// `retry_after` is the delay that the service requests.
    pub(crate) fn next_delay(
        &self,
        attempt: u32,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        if attempt >= self.attempts || retry_after.is_some_and(|delay| delay > self.max_backoff) {
            return None;
        }
        let delay = landfall_net::backoff(attempt, self.backoff, self.max_backoff);
        let jittered = delay.mul_f64(rand::random::<f64>());
        let delay = jittered.max(retry_after.unwrap_or_default());
        (Instant::now() + delay < self.deadline).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> CallLimits {
        CallLimits {
            attempts: 4,
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(250),
            deadline: Duration::from_secs(10),
            min_throughput: 1_000,
            ..CallLimits::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn delays_double_up_to_the_maximum() {
        let policy = RetryPolicy::new(&settings(), 0);
        for (attempt, most) in [(1, 100), (2, 200), (3, 250)] {
            let waits: Vec<_> = (0..200)
                .map(|_| policy.next_delay(attempt, None).expect("again"))
                .collect();
            let most = Duration::from_millis(most);
            assert!(waits.iter().all(|wait| *wait <= most));
            assert!(
                waits.iter().any(|wait| *wait > most / 2),
                "spread to the top"
            );
            assert!(
                waits.iter().any(|wait| *wait < most / 2),
                "and to the bottom"
            );
        }
        assert_eq!(policy.next_delay(4, None), None, "four attempts");
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honored_or_ends_the_call() {
        let policy = RetryPolicy::new(&settings(), 0);
        let retry_after = Duration::from_millis(240);
        assert_eq!(policy.next_delay(1, Some(retry_after)), Some(retry_after));
        assert_eq!(
            policy.next_delay(1, Some(Duration::from_secs(1))),
            None,
            "more than we wait"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_grows_with_the_payload() {
        let policy = RetryPolicy::new(&settings(), 5_000);
        let started = Instant::now();
        assert_eq!(
            policy.attempt_deadline(),
            started + Duration::from_secs(15),
            "the deadline is sooner"
        );
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(policy.next_delay(1, None).is_some());
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(policy.next_delay(1, Some(Duration::from_millis(200))), None);
    }
}
