//! Work that a shutdown waits for: transfers, concatenations, and detached effects.
//!
//! An effect runs to completion together with its event, even if the request is dropped.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use landfall_protocol::ProblemKind;
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit},
    task::JoinHandle,
    time::timeout,
};
use tracing::Instrument as _;

use super::{Engine, Error};

const EFFECT_TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Runs `effect` to completion, even if the request is dropped.
    ///
    /// If a slot is free, the effect starts at once, not when the result is first polled. A request that
    /// is dropped while it waits for a slot has changed nothing. A shutdown waits for the effect.
    pub(super) fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        effect: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        // Not an `async fn`, which would make each request's future as large as all its effects.
        let started = match self.effects.clone().try_acquire_owned() {
            Ok(permit) => Ok(self.spawn_effect(effect, permit)),
            Err(_) => Err(Box::pin(effect)),
        };
        async move {
            let effect = match started {
                Ok(task) => return task.await?,
                Err(effect) => effect,
            };
            let permit = timeout(EFFECT_TIMEOUT, self.effects.clone().acquire_owned());
            let Ok(Ok(permit)) = permit.await else {
                return Err(ProblemKind::Unavailable.into());
            };
            self.spawn_effect(effect, permit).await?
        }
    }

    fn spawn_effect<T: Send + 'static>(
        &self,
        effect: impl Future<Output = Result<T, Error>> + Send + 'static,
        permit: OwnedSemaphorePermit,
    ) -> JoinHandle<Result<T, Error>> {
        let in_flight = self.in_flight.enter();
        // Not an `async` block, which would store the effect twice.
        let effect = effect.map(move |result| {
            drop((permit, in_flight));
            result
        });
        tokio::spawn(effect.in_current_span())
    }

    /// Does not wait for the effect; false if too many are running.
    #[must_use]
    pub(super) fn try_detach(
        &self,
        runtime: &Handle,
        effect: impl Future<Output = ()> + Send + 'static,
    ) -> bool {
        let Ok(permit) = self.effects.clone().try_acquire_owned() else {
            return false;
        };
        runtime.spawn(async move {
            effect.await;
            drop(permit);
        });
        true
    }
}
