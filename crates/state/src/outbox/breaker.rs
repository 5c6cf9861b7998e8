//! Circuit breakers: a route whose receiver is down is tried with one delivery at a time.
//!
//! A breaker opens after twenty consecutive failed first attempts and a second without success. While it
//! is open, deliveries are made one at a time with a growing delay. Any success closes it. Failed
//! retries do not count, because an event that always fails says nothing about the receiver; they do
//! show that the second has passed.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use super::settings::CircuitBreaker;
use crate::sql::millis;

/// A running attempt then no longer delays the next one.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Times are milliseconds of the outbox's clock.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: CircuitBreaker,
    state: Mutex<State>,
    /// True also while deliveries that waited for the route are not rescheduled yet.
    is_down: AtomicBool,
    opened: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    failing_since: i64,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    delay: Duration,
    next_at: i64,
    probe: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    Any,
    One,
    Wait(Duration),
}

impl Breaker {
    pub(super) fn new(settings: CircuitBreaker) -> Self {
        Self {
            settings,
            state: Mutex::default(),
            is_down: AtomicBool::new(false),
            opened: AtomicU64::new(0),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Acquire)
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn permit(&self, now: i64) -> Permit {
        let Some(open) = self.state.lock().open else {
            return Permit::Any;
        };
        let (allowed_at, longest) = match open.probe {
            Some(since) => (since.saturating_add(millis(PROBE_TIMEOUT)), PROBE_TIMEOUT),
            None => (open.next_at, open.delay),
        };
        match u64::try_from(allowed_at.saturating_sub(now)).map(Duration::from_millis) {
            // Longer than ever wanted: the clock was set back.
            Ok(wait) if !wait.is_zero() && wait <= longest => Permit::Wait(wait),
            _ => Permit::One,
        }
    }

    /// Returns the longest time until the next attempt, while the breaker is open.
    pub(super) fn wait(&self, now: i64) -> Option<Duration> {
        match self.permit(now) {
            Permit::Any => None,
            Permit::One => Some(Duration::ZERO),
            Permit::Wait(wait) => Some(wait),
        }
    }

    pub(super) fn started(&self, now: i64) {
        if let Some(open) = &mut self.state.lock().open {
            open.probe = Some(now);
        }
    }

    /// Returns since when the route was down, if it was.
    pub(super) fn succeeded(&self) -> Option<i64> {
        let mut state = self.state.lock();
        state.failures = 0;
        state.open.take().map(|_| state.failing_since)
    }

    pub(super) fn failed(&self, is_first_attempt: bool, now: i64) -> bool {
        let mut state = self.state.lock();
        if let Some(open) = &mut state.open {
            // Other attempts started before the breaker opened.
            if open.probe.take().is_some() {
                open.delay = open.delay.saturating_mul(2).min(self.settings.max_delay);
                open.next_at = now.saturating_add(millis(open.delay));
            }
            return false;
        }
        if is_first_attempt {
            if state.failures == 0 || state.failing_since > now {
                state.failing_since = now;
            }
            state.failures = state.failures.saturating_add(1);
        }
        let failing_for = now.saturating_sub(state.failing_since);
        if state.failures < self.settings.failures.max(1)
            || failing_for < millis(self.settings.min_duration)
        {
            return false;
        }
        let (delay, probe) = (self.settings.min_delay, None);
        let next_at = now.saturating_add(millis(delay));
        state.open = Some(Open {
            delay,
            next_at,
            probe,
        });
        self.is_down.store(true, Ordering::Release);
        self.opened.fetch_add(1, Ordering::Relaxed);
        true
    }

    pub(super) fn recovered(&self) {
        let state = self.state.lock();
        if state.open.is_none() {
            self.is_down.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(CircuitBreaker {
            failures: 5,
            min_duration: Duration::from_millis(4),
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
        })
    }

    fn wait(milliseconds: u64) -> Permit {
        Permit::Wait(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_retry_opens_the_breaker_after_a_burst_of_failed_first_attempts() {
        let breaker = breaker();
        for _ in 0..5 {
            assert!(!breaker.failed(true, 10));
        }
        assert!(!breaker.failed(false, 13));
        assert!(breaker.failed(false, 14));
        assert_eq!(breaker.succeeded(), Some(10));
        assert!(!breaker.failed(false, 20), "a success ended the burst");
    }

    #[test]
    fn consecutive_failed_first_attempts_open_the_breaker() {
        let breaker = breaker();
        for now in 0..4 {
            assert!(!breaker.failed(true, now));
        }
        assert_eq!(breaker.succeeded(), None);
        for now in 10..14 {
            assert!(!breaker.failed(true, now));
            assert!(!breaker.failed(false, now), "a retry shows nothing");
            assert_eq!(breaker.permit(now), Permit::Any);
        }
        assert!(breaker.failed(true, 14));
        assert_eq!((breaker.is_down(), breaker.opened()), (true, 1));
        assert_eq!(breaker.succeeded(), Some(10), "since the first failure");
        assert_eq!((breaker.permit(14), breaker.wait(14)), (Permit::Any, None));
        assert!(breaker.is_down(), "the deliveries still wait");
        breaker.recovered();
        assert!(!breaker.is_down());
    }

    #[test]
    fn simultaneous_failures_do_not_open_the_breaker() {
        let breaker = breaker();
        for _ in 0..100 {
            assert!(!breaker.failed(true, 10));
        }
        assert!(!breaker.failed(true, 13));
        assert!(breaker.failed(true, 14));
    }

    #[test]
    fn open_breaker_allows_one_attempt_at_a_time_with_growing_delay() {
        let breaker = breaker();
        for now in 0..5 {
            breaker.failed(true, now);
        }
        let mut now = 4;
        for delay in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            assert_eq!(breaker.permit(now), wait(delay));
            now += i64::try_from(delay).unwrap();
            assert_eq!(breaker.permit(now), Permit::One);
            assert_eq!(breaker.wait(now), Some(Duration::ZERO));
            breaker.started(now);
            assert_eq!(breaker.permit(now), wait(30_000), "one is running");
            assert_eq!(breaker.permit(now + 30_000), Permit::One, "it hangs");
            assert!(!breaker.failed(true, now));
            assert!(!breaker.failed(true, now), "started before");
        }
        assert_eq!(breaker.opened(), 1);
    }
}
