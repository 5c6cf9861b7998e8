//! The mean rate of a transfer, and the time that the rest takes.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The time over which the rate is the mean.
const WINDOW: Duration = Duration::from_secs(5);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// The mean of a shorter time says nothing about the rest.
const MIN_MEASURED: Duration = Duration::from_secs(1);

/// The mean rate of the last seconds.
#[derive(Debug)]
pub struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Starts at a time at which no bytes were transferred.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let samples = VecDeque::from([(now, 0)]);
        Self { samples }
    }

    /// Starts anew at the next sample: the time of an outage is no part of the mean.
    pub fn restart(&mut self) {
        self.samples.clear();
    }

    /// Records the bytes transferred so far.
    ///
    /// Returns the rate in bytes per second, and the time that `remaining` bytes take at this rate, which is unknown
    /// in the first second and while no bytes are transferred.
    pub fn record(
        &mut self,
        now: Instant,
        transferred: u64,
        remaining: Option<u64>,
    ) -> (f64, Option<Duration>) {
        let samples = &mut self.samples;
        while samples.get(1).is_some_and(|(at, _)| now - *at > WINDOW) {
            samples.pop_front();
        }
        let (since, before) = samples.front().copied().unwrap_or((now, transferred));
        if samples
            .back()
            .is_none_or(|(at, _)| now - *at >= SAMPLE_INTERVAL)
        {
            samples.push_back((now, transferred));
        }
        let measured = now - since;
        let rate = match measured.is_zero() {
            true => 0.0,
            false => transferred.saturating_sub(before) as f64 / measured.as_secs_f64(),
        };
        let remaining = remaining
            .filter(|_| measured >= MIN_MEASURED && rate > 0.0)
            .and_then(|bytes| Duration::try_from_secs_f64(bytes as f64 / rate).ok());
        (rate, remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Option<u64> = Some(40_000_000);

    fn seconds(start: Instant, tenths: u32) -> Instant {
        start + Duration::from_millis(100) * tenths
    }

    #[test]
    fn the_time_of_an_outage_is_no_part_of_the_mean() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let mut bytes = 0;
        for tenths in 1..=30 {
            bytes += 4_000_000;
            rate.record(seconds(start, tenths), bytes, REST);
        }
        rate.restart();
        // Eight seconds later.
        bytes += 65_536;
        let first = rate.record(seconds(start, 110), bytes, REST);
        assert_eq!(first, (0.0, None));
        bytes += 40_000_000;
        let later = rate.record(seconds(start, 120), bytes, REST);
        assert_eq!(later, (40_000_000.0, Some(Duration::from_secs(1))));
    }

    #[test]
    fn the_time_left_is_unknown_before_a_second_has_passed_and_bytes_have_moved() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert_eq!(rate.record(seconds(start, 1), 3, REST), (30.0, None));
        assert_eq!(rate.record(seconds(start, 9), 9, REST), (10.0, None));
        let (_, left) = rate.record(seconds(start, 10), 10, Some(20));
        assert_eq!(left, Some(Duration::from_secs(2)));
        let mut stalled = Rate::new(start);
        assert_eq!(stalled.record(seconds(start, 50), 0, REST), (0.0, None));
    }

    #[test]
    fn the_mean_is_that_of_the_last_seconds_and_has_few_samples() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        for milliseconds in 0..20_000_u64 {
            // Ten times faster after ten seconds.
            let bytes = milliseconds + milliseconds.saturating_sub(10_000) * 9;
            rate.record(start + Duration::from_millis(milliseconds), bytes, None);
        }
        let (mean, _) = rate.record(seconds(start, 200), 110_000, None);
        assert!((mean - 10_000.0).abs() < 1.0, "{mean}");
        assert!(rate.samples.len() <= 52, "{}", rate.samples.len());
    }
}
