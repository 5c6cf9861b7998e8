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

/// Below the ports that the system hands out by itself (Linux: from 32768), to a listener that
/// asks for any or to an outgoing connection: one of those could be handed out again while a
/// service is still on its way to listening on it.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// Where the next look begins. A process never gives a port twice before it has been around the
/// whole range, and two processes begin far from one another.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(begin()));

/// A port of loopback that nobody listens on, and that this process gives to nobody else.
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
