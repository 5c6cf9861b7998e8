//! When requests are repeated.

use std::time::Duration;

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
