//! Effects that run to completion together with their event, even if the request is dropped.

use std::{future::Future, sync::Arc, time::Duration};

use landfall_protocol::ProblemKind;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::timeout,
};

use super::{Engine, Error};

const MAX_EFFECTS: usize = 4096;
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Effects(Arc<Semaphore>);

impl Default for Effects {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_EFFECTS)))
    }
}

impl Engine {
    /// Runs `effect` to completion, even if the request is dropped.
    ///
    /// If a slot is free, the effect starts at once, not when the result is first polled. A request that
    /// is dropped while it waits for a slot has changed nothing. A shutdown waits for the effect.
    pub(super) fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        effect: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        // Not an `async fn`, which would make each request's future as large as all its effects.
        let started = match self.effects.0.clone().try_acquire_owned() {
            Ok(permit) => Ok(self.spawn_effect(effect, permit)),
            Err(_) => Err(Box::pin(effect)),
        };
        async move {
            let effect = match started {
                Ok(task) => return task.await?,
                Err(effect) => effect,
            };
            let permit = timeout(TIMEOUT, self.effects.0.clone().acquire_owned());
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
        tokio::spawn(async move {
            let result = effect.await;
            drop((permit, in_flight));
            result
        })
    }

    /// Does not wait for the effect; false if too many are running.
    #[must_use]
    pub(super) fn try_detach(
        &self,
        runtime: &Handle,
        effect: impl Future<Output = ()> + Send + 'static,
    ) -> bool {
        let Ok(permit) = self.effects.0.clone().try_acquire_owned() else {
            return false;
        };
        runtime.spawn(async move {
            effect.await;
            drop(permit);
        });
        true
    }
}
