//! How many may listen.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use http::StatusCode;

use super::super::{ApiStats, problem::Problem};

/// When to try again where all seats are taken.
const LATER: Duration = Duration::from_secs(30);

/// How many may listen at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    /// In all.
    pub total: usize,
    /// Of one subject, so that it can't keep all others out.
    pub per_subject: usize,
}

impl Default for Seats {
    /// 16,384 in all, 2,048 of one subject.
    fn default() -> Self {
        Self {
            total: 16_384,
            per_subject: 2048,
        }
    }
}

/// Who sits where.
#[derive(Debug)]
pub(in super::super) struct SeatTable {
    seats: Seats,
    stats: Arc<ApiStats>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_subject: HashMap<String, usize>,
}

/// A seat; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    table: Arc<SeatTable>,
    subject: String,
}

impl SeatTable {
    pub(in super::super) fn new(seats: Seats, stats: Arc<ApiStats>) -> Arc<Self> {
        Arc::new(Self {
            seats,
            stats,
            taken: Mutex::default(),
        })
    }

    /// A seat for somebody.
    pub(super) fn take(self: &Arc<Self>, subject: &str) -> Result<Seat, Problem> {
        let mut taken = self.lock();
        let own = taken.by_subject.get(subject).copied().unwrap_or_default();
        if own >= self.seats.per_subject {
            let detail = "too many listen in your name";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(LATER));
        }
        if taken.total >= self.seats.total {
            let detail = "too many listen right now";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(LATER));
        }
        taken.total += 1;
        taken.by_subject.insert(subject.to_owned(), own + 1);
        self.stats.listening.fetch_add(1, Relaxed);
        Ok(Seat {
            table: self.clone(),
            subject: subject.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Counts are right even if somebody panicked beside them.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.table.lock();
        taken.total -= 1;
        if let Some(own) = taken.by_subject.get_mut(&self.subject) {
            *own -= 1;
            if *own == 0 {
                taken.by_subject.remove(&self.subject);
            }
        }
        self.table.stats.listening.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_come_free_again() {
        let seats = Seats {
            total: 3,
            per_subject: 2,
        };
        let stats = Arc::<ApiStats>::default();
        let table = SeatTable::new(seats, stats.clone());
        let first = table.take("a").unwrap();
        let _second = table.take("a").unwrap();
        assert!(!table.take("a").unwrap_err().is_ours());
        let _third = table.take("b").unwrap();
        assert!(table.take("c").unwrap_err().is_ours());
        assert_eq!(stats.listening.load(Relaxed), 3);
        drop(first);
        let _fourth = table.take("a").unwrap();
        assert_eq!(stats.listening.load(Relaxed), 3);
        assert_eq!(table.lock().by_subject["a"], 2);
    }
}
