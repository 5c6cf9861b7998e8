//! Ports for those who must know theirs before they listen.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Below the system's ephemeral ports (Linux: from 32768), which could be assigned to another socket
/// before the service listens.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// The next port to try. A process does not reuse a port before it has tried the whole range, and two
/// processes start far from one another.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(begin()));

/// Returns a free loopback port, which this process assigns only once.
///
/// # Panics
///
/// When every port is taken.
#[must_use]
pub fn free_port() -> u16 {
    for _ in RANGE {
        // As an offset, so that wrapping around at 65,536 does no harm.
        let port = RANGE.start + NEXT.fetch_add(1, Ordering::Relaxed) % (RANGE.end - RANGE.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("every port of {RANGE:?} is taken")
}

/// `N` times [`free_port`].
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| free_port())
}

/// Elsewhere for each process.
fn begin() -> u16 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = u64::from(process::id()) * 7919 + u64::from(now.subsec_micros());
    u16::try_from(seed % u64::from(u16::MAX)).unwrap()
}
