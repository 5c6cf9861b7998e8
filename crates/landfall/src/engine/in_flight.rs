//! Work that a shutdown waits for: transfers, concatenations, and detached effects.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use landfall_protocol::ProblemKind;
use tokio::sync::Notify;

use super::{Engine, Error};

#[derive(Debug, Default)]
pub(super) struct InFlight {
    count: AtomicUsize,
    is_shutting_down: AtomicBool,
    idle: Notify,
}

impl InFlight {
    pub(super) fn enter(self: &Arc<Self>) -> InFlightGuard {
        self.count.fetch_add(1, SeqCst);
        InFlightGuard(self.clone())
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.is_shutting_down.load(SeqCst)
    }

    async fn wait_idle(&self) {
        loop {
            let mut idle = pin!(self.idle.notified());
            // Registers before counting, so that no notification is missed.
            idle.as_mut().enable();
            if self.count.load(SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

#[derive(Debug)]
pub(super) struct InFlightGuard(Arc<InFlight>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let is_last = self.0.count.fetch_sub(1, SeqCst) == 1;
        if is_last && self.0.is_shutting_down() {
            self.0.idle.notify_waiters();
        }
    }
}

impl Engine {
    pub(super) fn enter_transfer(&self) -> Result<InFlightGuard, Error> {
        if self.in_flight.is_shutting_down() {
            return Err(ProblemKind::ShuttingDown.into());
        }
        Ok(self.in_flight.enter())
    }

    pub(crate) async fn shut_down(&self) {
        self.in_flight.is_shutting_down.store(true, SeqCst);
        // Transfers that enter after this point see the flag.
        self.live.shut_down();
        self.in_flight.wait_idle().await;
    }
}
