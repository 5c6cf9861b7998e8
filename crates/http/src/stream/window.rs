//! Flow control of the bytes that clients send, in a memory that all connections share.
//!
//! A client may send [`BASE_WINDOW`] bytes that nobody reads: HTTP/2 has no smaller window of a connection. More is
//! *granted* to a body, of [`ConnectionLimits::unread_memory`](crate::ConnectionLimits::unread_memory): a little while
//! its service does not read it, much when it is read and long, most if it arrives fast. So all unread bytes fit into
//! that memory and the base of each connection. A connection may have as much of it as is free, so the one that has
//! the most waits first, and none takes it all.
//!
//! A window cannot be withdrawn. What a client may still send of one, after its body has ended early, is an *excess*
//! that stays reserved until the connection has received as much, or ended. A grant shrinks with the rest of its body,
//! so that few bodies leave any.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::limits::timeouts::ServerShared;

/// Bytes of all requests of a connection that a client may send before the service reads them.
pub(crate) const BASE_WINDOW: u32 = 65_535;

/// Bytes of one request that are granted while the service does not read it,
pub(crate) const SMALL_WINDOW: u32 = 64 << 10;
/// when it does,
pub(crate) const WINDOW: u32 = 1 << 20;
/// and for a long body that arrives fast: what 1 Gb/s sends in 130 ms. `ConnectionLimits::large_reads`
/// limits their number.
pub(crate) const LARGE_WINDOW: u32 = 16 << 20;

/// A body is fast if as many bytes arrive
const MEASURED: u64 = 2 << 20;
/// in this time: a longer round trip is rare.
const FAST: Duration = Duration::from_secs(2);

/// The most of a connection: a window of HTTP/2 is below 2 GiB.
const MAX_OWN: u64 = 256 << 20;

/// Steps in which a grant shrinks.
const STEP: u32 = 64 << 10;

/// Bodies that are not read have a small part of the memory.
const UNREAD_PART: u64 = 4;

/// The flow-control windows of a connection.
pub(crate) struct ReceiveWindow {
    server: Arc<ServerShared>,
    state: Mutex<WindowState>,
    changed: Box<dyn Fn(u32) + Send + Sync>,
}

#[derive(Default)]
struct WindowState {
    /// To all bodies.
    granted: u32,
    /// Of `granted`, left by a body for the next one.
    spare: u32,
    excess: u32,
    /// Received content that the service has not taken.
    held: u32,
    bodies: u32,
    /// Bodies with a large grant.
    large: u32,
    /// A service has read a body that is longer than a small window.
    is_read: bool,
    /// The sizes with which the connection was notified.
    known: (u32, u32),
}

impl ReceiveWindow {
    /// `changed` is called with each size of the connection's window after the first, without what is held.
    pub(crate) fn new(
        server: Arc<ServerShared>,
        changed: impl Fn(u32) + Send + Sync + 'static,
    ) -> Self {
        Self {
            server,
            state: Mutex::new(WindowState {
                known: (BASE_WINDOW, SMALL_WINDOW),
                ..WindowState::default()
            }),
            changed: Box::new(changed),
        }
    }

    /// Returns the bytes that the connection may have sent that the service has not taken.
    pub(crate) fn size(&self) -> u32 {
        BASE_WINDOW + self.state.lock().granted
    }

    /// Returns the window of each stream.
    pub(crate) fn of_streams(&self) -> u32 {
        self.state.lock().of_streams()
    }

    /// Returns whether the connection has an excess that others need, and no use for it.
    pub(crate) fn is_stale(&self) -> bool {
        let state = self.state.lock();
        state.bodies == 0 && state.excess > WINDOW && !self.has_much_free()
    }

    fn has_much_free(&self) -> bool {
        let limit = self.server.limits.unread_memory;
        self.server.stats.unread_bytes.load(Relaxed) <= limit / 2
    }

    /// Grants up to `more` bytes: of what is free, as much as the connection has.
    fn grant(&self, state: &mut WindowState, more: u32, is_read: bool) -> u32 {
        let limit = match self.server.limits.unread_memory {
            limit if is_read => limit,
            limit => limit / UNREAD_PART,
        };
        let own = u64::from(state.granted) + u64::from(state.excess);
        let more = u64::from(more).min(MAX_OWN.saturating_sub(own));
        let mut granted = 0;
        let reserved = &self.server.stats.unread_bytes;
        let _ = reserved.try_update(Relaxed, Relaxed, |reserved| {
            let free = limit.saturating_sub(reserved);
            granted = more.min(free.saturating_sub(own) / 2);
            Some(reserved + granted)
        });
        // It is at most `more`.
        let granted = granted as u32;
        state.granted += granted;
        granted
    }

    /// Ends a grant, whose bytes may still arrive.
    fn shrink(state: &mut WindowState, less: u32) {
        state.granted -= less;
        state.excess += less;
    }

    /// Bytes that were received or held leave the window.
    fn leave(&self, state: &mut WindowState, len: u64) {
        let freed = u64::from(state.excess).min(len);
        if freed == 0 {
            return;
        }
        state.excess -= freed as u32;
        self.server.stats.unread_bytes.fetch_sub(freed, Relaxed);
    }

    fn notify(&self, state: &mut WindowState) {
        let size = BASE_WINDOW + state.granted.saturating_sub(state.held);
        let sizes = (size, state.of_streams());
        if mem::replace(&mut state.known, sizes) != sizes {
            (self.changed)(size);
        }
    }
}

impl WindowState {
    fn of_streams(&self) -> u32 {
        match self.large {
            1.. => LARGE_WINDOW,
            0 if self.is_read => WINDOW,
            0 => SMALL_WINDOW,
        }
    }
}

impl Drop for ReceiveWindow {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let reserved = u64::from(state.granted) + u64::from(state.excess);
        self.server.stats.unread_bytes.fetch_sub(reserved, Relaxed);
    }
}

/// The part of a body in the window of its connection.
pub(crate) struct WindowUse {
    window: Arc<ReceiveWindow>,
    granted: u32,
    held: u32,
    large: Option<OwnedSemaphorePermit>,
    /// Bytes that have been read since then.
    received: u64,
    since: Instant,
}

impl WindowUse {
    pub(super) fn new(window: Arc<ReceiveWindow>) -> Self {
        let mut state = window.state.lock();
        state.bodies += 1;
        // The connection has it already.
        let granted = mem::take(&mut state.spare);
        drop(state);
        Self {
            window,
            granted,
            held: 0,
            large: None,
            received: 0,
            since: Instant::now(),
        }
    }

    /// Returns how many more bytes may be held. `rest` is what may follow.
    pub(super) fn space(&mut self, rest: Option<u64>) -> u32 {
        let mut state = self.window.state.lock();
        let most = match state.is_read {
            true => WINDOW,
            false => SMALL_WINDOW,
        };
        let wanted = SMALL_WINDOW.max(self.held.saturating_mul(2)).min(most);
        let wanted = limited(wanted, rest.map(|rest| rest + u64::from(self.held)));
        // In few steps.
        if self.held >= self.granted / 2 && self.granted < wanted {
            let more = wanted - self.granted;
            let granted = self.window.grant(&mut state, more, false);
            if granted > 0 {
                self.granted += granted;
                self.window.notify(&mut state);
            }
        }
        self.granted.saturating_sub(self.held)
    }

    /// Counts bytes that are kept until the service takes them.
    pub(super) fn hold(&mut self, len: usize) {
        let mut state = self.window.state.lock();
        self.held += len as u32;
        state.held += len as u32;
        let held = &self.window.server.stats.held_bytes;
        held.fetch_add(len as u64, Relaxed);
        self.window.notify(&mut state);
    }

    /// Counts bytes that are no longer kept.
    pub(super) fn release(&mut self, len: usize) {
        let mut state = self.window.state.lock();
        self.held -= len as u32;
        state.held -= len as u32;
        let held = &self.window.server.stats.held_bytes;
        held.fetch_sub(len as u64, Relaxed);
        self.window.notify(&mut state);
    }

    /// Counts bytes that the service takes. `rest` is what follows, if that is known.
    pub(super) fn receive(&mut self, len: u64, rest: Option<u64>) {
        let window = self.window.clone();
        let mut state = window.state.lock();
        self.received += len;
        window.leave(&mut state, len);
        let is_long = rest.is_none_or(|rest| rest > SMALL_WINDOW.into());
        let mut has_changed = false;
        if !state.is_read && is_long {
            state.is_read = true;
            has_changed = true;
        }
        if self.granted < WINDOW && is_long && self.large.is_none() {
            let wanted = limited(WINDOW, rest);
            if self.granted < wanted {
                let granted = window.grant(&mut state, wanted - self.granted, true);
                self.granted += granted;
                has_changed |= granted > 0;
            }
        }
        has_changed |= self.shrink_to(&mut state, rest);
        if self.received >= MEASURED {
            has_changed |= self.measure(&mut state, rest);
        }
        if has_changed {
            window.notify(&mut state);
        }
    }

    fn shrink_to(&mut self, state: &mut WindowState, rest: Option<u64>) -> bool {
        let Some(rest) = rest else {
            return false;
        };
        let kept = match self.window.has_much_free() {
            true => rest.max(WINDOW.into()),
            false => rest,
        };
        let kept = limited(self.granted, Some(kept));
        let is_step = self.granted - kept >= STEP;
        if is_step {
            ReceiveWindow::shrink(state, self.granted - kept);
            self.granted = kept;
        }
        is_step
    }

    fn measure(&mut self, state: &mut WindowState, rest: Option<u64>) -> bool {
        let now = Instant::now();
        let is_fast = now - self.since < FAST;
        (self.received, self.since) = (0, now);
        if !is_fast {
            return self.end_large(state);
        }
        if state.large == 0 {
            self.large = self.window.server.large_reads();
            if self.large.is_none() {
                return false;
            }
            state.large += 1;
        }
        let wanted = limited(LARGE_WINDOW, rest);
        let more = wanted.saturating_sub(self.granted);
        let granted = self.window.grant(state, more, true);
        self.granted += granted;
        // Others have come since then.
        let limit = self.window.server.limits.unread_memory;
        let free = limit.saturating_sub(self.window.server.stats.unread_bytes.load(Relaxed));
        let own = u64::from(state.granted);
        let less = (own.saturating_sub(free) / 2).min(self.granted.saturating_sub(WINDOW).into());
        if less >= STEP.into() {
            ReceiveWindow::shrink(state, less as u32);
            self.granted -= less as u32;
        }
        true
    }

    fn end_large(&mut self, state: &mut WindowState) -> bool {
        let was_large = self.large.take().is_some();
        if was_large {
            state.large -= 1;
            let less = self.granted.saturating_sub(WINDOW);
            ReceiveWindow::shrink(state, less);
            self.granted -= less;
        }
        was_large
    }
}

/// The body has ended.
impl Drop for WindowUse {
    fn drop(&mut self) {
        self.release(self.held as usize);
        let window = self.window.clone();
        let mut state = window.state.lock();
        state.bodies -= 1;
        self.end_large(&mut state);
        if state.spare == 0 && state.is_read && window.has_much_free() {
            state.spare = self.granted.min(WINDOW);
            self.granted -= state.spare;
        }
        ReceiveWindow::shrink(&mut state, self.granted);
        window.notify(&mut state);
    }
}

fn limited(size: u32, limit: Option<u64>) -> u32 {
    limit.map_or(size, |limit| u64::from(size).min(limit) as u32)
}
