//! The conversation with the driver: it reads the server's processor time and memory exactly
//! between the steps of a run.
//!
//! The client prints `ready` and how many uploads it has made when all is prepared, and waits for a
//! line; does the timed work; prints `done` and the figures as JSON, and waits for a line; checks what the server stored; and
//! prints `verified`. At any point it may print `fault` and a reason instead, and end with 1.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use crate::http::Fault;

/// Prints one line and waits until the driver answers with one.
///
/// # Errors
/// When the driver is gone.
pub(crate) fn pause(line: &str) -> Result<(), Fault> {
    say(line)?;
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(count) if count > 0 => Ok(()),
        _ => Err("the driver is gone".into()),
    }
}

/// Prints one line.
pub(crate) fn say(line: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| format!("stdout: {error}"))
}

/// What the timed work came to.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Wall-clock time of the timed work.
    pub(crate) wall: Duration,
    /// Bytes of upload bodies sent.
    pub(crate) bytes: u64,
    /// Time of each operation.
    pub(crate) latencies: Vec<Duration>,
    /// Processor time this client took in the timed work.
    pub(crate) client_cpu: Duration,
    /// Whether each small upload was one request.
    pub(crate) one_request_each: bool,
}

impl Figures {
    /// One line of JSON; times in seconds, latencies in microseconds.
    pub(crate) fn json(&mut self) -> String {
        self.latencies.sort_unstable();
        let micros = |share| quantile(&self.latencies, share).as_secs_f64() * 1e6;
        let wall = self.wall.as_secs_f64();
        format!(
            "{{\"wall_s\":{wall:.6},\"operations\":{},\"bytes\":{},\"p50_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1},\"client_cpu_s\":{:.6},\"one_request_each\":{}}}",
            self.latencies.len(),
            self.bytes,
            micros(0.5),
            micros(0.99),
            micros(1.0),
            self.client_cpu.as_secs_f64(),
            self.one_request_each,
        )
    }
}

/// The nearest-rank quantile of sorted values; zero if there are none.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// Processor time of this process so far, all threads: exact to the nanosecond for living
/// threads, which is why it is read before they end.
pub(crate) fn own_cpu() -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    let nanos = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(quantile(&sorted, 0.5), Duration::from_micros(100));
        assert_eq!(quantile(&sorted, 0.99), Duration::from_micros(198));
        assert_eq!(quantile(&sorted, 1.0), Duration::from_micros(200));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn own_cpu_grows_with_work() {
        let before = own_cpu();
        let mut sum = 0u64;
        while own_cpu() < before + Duration::from_millis(5) {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert_ne!(sum, 0);
    }
}
