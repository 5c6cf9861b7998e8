//! What a lease service knows of a lease, for stores whose bytes several processes can write.
//!
//! The clock counts while the machine is suspended. It cannot count the time for which a hypervisor or a debugger
//! stopped all clocks, so a store must not rely on it alone.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// The end of a lease, and whether its former holder may still write.
///
/// A locker whose leases end without their holder attaches it to them ([`Lease::with_terms`](super::Lease::with_terms)).
/// A lease is settled if the former holder has released it, so that it writes no more. Otherwise that one may be
/// stopped in the middle of a write. A store that can exclude it [settles](Self::settle) the lease; the locker then
/// releases it as settled. A lease that ends unsettled leaves the next one unsettled.
#[derive(Debug)]
pub struct LeaseTerms {
    /// Nanoseconds of [`LeaseTerms::now`].
    ends: AtomicU64,
    is_settled: AtomicBool,
}

impl LeaseTerms {
    /// Creates the terms of a lease that has no end yet.
    #[must_use]
    pub fn new(is_settled: bool) -> Self {
        Self {
            ends: AtomicU64::new(u64::MAX),
            is_settled: AtomicBool::new(is_settled),
        }
    }

    /// Returns the time since the machine was started, with that for which it was suspended.
    #[must_use]
    pub fn now() -> Duration {
        #[cfg(all(
            feature = "file-store",
            any(target_os = "linux", target_os = "android")
        ))]
        {
            use nix::time::{ClockId, clock_gettime};
            // Since Linux 2.6.39, and without a system call.
            clock_gettime(ClockId::CLOCK_BOOTTIME)
                .map(Duration::from)
                .unwrap_or_default()
        }
        #[cfg(not(all(
            feature = "file-store",
            any(target_os = "linux", target_os = "android")
        )))]
        {
            use std::{sync::OnceLock, time::Instant};
            static START: OnceLock<Instant> = OnceLock::new();
            START.get_or_init(Instant::now).elapsed()
        }
    }

    /// Sets the end. A lease that has [ended](Self::end) stays so.
    pub fn end_at(&self, at: Duration) {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let later = |ends| match ends {
            0 => None,
            u64::MAX => Some(at.max(1)),
            ends => Some(at.max(ends)),
        };
        let _ = (self.ends).fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }

    /// Ends the lease now: it was lost or released.
    pub fn end(&self) {
        self.ends.store(0, Ordering::Release);
    }

    /// Returns whether the lease has ended: its holder must write and acknowledge nothing more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let ends = self.ends.load(Ordering::Acquire);
        ends != u64::MAX && Self::now() >= Duration::from_nanos(ends)
    }

    /// Records that no former holder can change the upload any more.
    pub fn settle(&self) {
        self.is_settled.store(true, Ordering::Release);
    }

    /// Returns whether no former holder can change the upload.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_renewal_extends_a_lease_until_it_has_ended() {
        let terms = LeaseTerms::new(true);
        assert!(!terms.has_ended());
        terms.end_at(LeaseTerms::now());
        assert!(terms.has_ended());
        terms.end_at(LeaseTerms::now() + HOUR);
        assert!(!terms.has_ended());
        // That of a renewal that was sent earlier.
        terms.end_at(LeaseTerms::now());
        assert!(!terms.has_ended());
        terms.end();
        terms.end_at(LeaseTerms::now() + HOUR);
        assert!(terms.has_ended());
    }

    #[test]
    fn the_clock_advances() {
        let before = LeaseTerms::now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(LeaseTerms::now() > before);
    }
}
