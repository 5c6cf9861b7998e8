//! An effect and its event as one unit: a dropped request does not cut them in two.

use std::{future::Future, sync::Arc, time::Duration};

use landfall_protocol::Fault;
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use super::{Engine, Error};

/// How many detached effects may run at once.
const MAX_EFFECTS: usize = 4096;
/// How long a request waits for one of them to end before it fails with 503.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The bound on effects that outlive their requests.
#[derive(Debug)]
pub(super) struct Effects(Arc<Semaphore>);

impl Default for Effects {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_EFFECTS)))
    }
}

impl Engine {
    /// Runs `effect` to its end, even if the caller is dropped.
    ///
    /// A request that is dropped while it waits for its turn has changed nothing. A shutdown waits for
    /// the effect.
    pub(super) async fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        effect: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let permits = &self.effects.0;
        let permit = match permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => match timeout(TIMEOUT, permits.clone().acquire_owned()).await {
                Ok(Ok(permit)) => permit,
                _ => return Err(Fault::Unavailable.into()),
            },
        };
        let in_flight = self.in_flight.enter();
        tokio::spawn(async move {
            let result = effect.await;
            drop((permit, in_flight));
            result
        })
        .await?
    }

    /// Runs `effect` to its end without waiting for it. False if too many effects are running.
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
