//! Waiting in tests for what another task does. Not for the timing of what is tested: three minutes pass before it fails.

use std::{
    panic::Location,
    time::{Duration, Instant},
};

const POLL_INTERVAL: Duration = Duration::from_millis(5);
const TIMEOUT: Duration = Duration::from_secs(180);

/// Waits until a condition holds.
///
/// # Panics
///
/// When it does not within three minutes; the message names the line of the caller.
#[track_caller]
pub fn until(mut holds: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + TIMEOUT;
        while !holds().await {
            assert!(Instant::now() < deadline, "it never held: {caller}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
