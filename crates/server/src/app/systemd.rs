//! Notifications of systemd (`sd_notify`), if it has set `NOTIFY_SOCKET`.

use sd_notify::NotifyState;

pub(super) fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "failed to read the clock for systemd"),
    }
}

pub(super) fn notify_stopping() {
    let status = NotifyState::Status("Finishing running requests");
    notify(&[NotifyState::Stopping, status]);
}

/// Proves at half of `WATCHDOG_USEC` that the runtime runs tasks: the one that accepts connections,
/// reloads and sweeps.
pub(super) fn run_watchdog() {
    if let Some(timeout) = sd_notify::watchdog_enabled() {
        tokio::spawn(async move {
            loop {
                notify(&[NotifyState::Watchdog]);
                tokio::time::sleep(timeout / 2).await;
            }
        });
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "failed to notify systemd");
    }
}
