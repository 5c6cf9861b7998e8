//! How often and how long a call is tried.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::settings::ClientSettings;

/// The patience of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    attempts: u32,
    backoff: Duration,
    longest: Duration,
    deadline: Instant,
    attempt_limit: Duration,
}

impl Patience {
    /// For a payload of `bytes`.
    pub(super) fn new(settings: &ClientSettings, bytes: u64) -> Self {
        let transfer = Duration::from_secs(bytes / settings.slowest.max(1));
        Self {
            attempts: settings.attempts.max(1),
            backoff: settings.backoff,
            longest: settings.longest_backoff,
            deadline: Instant::now() + settings.deadline + transfer,
            attempt_limit: settings.connect_timeout + settings.idle_timeout + transfer,
        }
    }

    /// When the whole call ends.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When an attempt that begins now has to have its answer.
    pub(super) fn attempt_ends(&self) -> Instant {
        self.deadline.min(Instant::now() + self.attempt_limit)
    }

    /// How long to wait after failed attempt number `attempt` (from 1), where the service asked for
    /// `asked`; `None` to give up.
    pub(super) fn wait(&self, attempt: u32, asked: Option<Duration>) -> Option<Duration> {
        if attempt >= self.attempts || asked.is_some_and(|asked| asked > self.longest) {
            return None;
        }
        let doubled = self.backoff.saturating_mul(1 << (attempt - 1).min(16));
        let jittered = doubled
            .min(self.longest)
            .mul_f64(rand::rng().random::<f64>());
        let wait = jittered.max(asked.unwrap_or_default());
        (Instant::now() + wait < self.deadline).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ClientSettings {
        ClientSettings {
            attempts: 4,
            backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_millis(250),
            deadline: Duration::from_secs(10),
            slowest: 1_000,
            ..ClientSettings::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_longest() {
        let patience = Patience::new(&settings(), 0);
        for (attempt, most) in [(1, 100), (2, 200), (3, 250)] {
            let waits: Vec<_> = (0..200)
                .map(|_| patience.wait(attempt, None).expect("again"))
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
        assert_eq!(patience.wait(4, None), None, "four attempts");
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_is_given_the_time_it_asks_for_or_left_alone() {
        let patience = Patience::new(&settings(), 0);
        let asked = Duration::from_millis(240);
        assert_eq!(patience.wait(1, Some(asked)), Some(asked));
        assert_eq!(
            patience.wait(1, Some(Duration::from_secs(1))),
            None,
            "more than we wait"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_everything_and_grows_with_the_payload() {
        let patience = Patience::new(&settings(), 5_000);
        let begun = Instant::now();
        assert_eq!(
            patience.attempt_ends(),
            begun + Duration::from_secs(15),
            "the deadline is sooner"
        );
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(patience.wait(1, None).is_some());
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(patience.wait(1, Some(Duration::from_millis(200))), None);
    }
}
