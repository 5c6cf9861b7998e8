//! The queue's events on their way to the application.

use std::sync::Arc;

use anyhow::Context as _;
use landfall_grants::{
    Relay,
    policy::{Asked, Policy, Rules},
};
use landfall_hooks::{Asker, HookNames, outbox::Outbox};

use super::Grants;
use crate::settings::Settings;

impl Grants {
    /// Begins to move the queue's events into the outbox, if some way wants to hear of them. To be
    /// called before the first of them can happen, and to be closed before queue and outbox.
    ///
    /// # Errors
    /// The database can't be used.
    pub(in crate::app) async fn relay(
        &self,
        outbox: Option<Outbox>,
    ) -> anyhow::Result<Option<Arc<Relay>>> {
        let Some(outbox) = outbox else {
            return Ok(None);
        };
        let wanted = outbox.names().and(HookNames::OF_QUEUE);
        if wanted.is_empty() {
            return Ok(None);
        }
        let relay = Relay::open(self.queue.clone())
            .await
            .with_context(|| format!("events of grants can't be read from {}", self.place))?;
        let relay = Arc::new(relay);
        let moving = relay.clone();
        tokio::spawn(async move { moving.run(&outbox, wanted).await });
        Ok(Some(relay))
    }
}

/// Who decides what may be asked for, however it is uploaded: the rules, then these.
pub(in crate::app) fn policies(
    settings: &Settings,
    askers: Vec<Arc<Asker>>,
) -> Vec<Arc<dyn Policy>> {
    let mut limits = super::limits(&settings.grants.limits);
    // What would be refused later isn't granted.
    limits.max_size = settings.largest_grant();
    let mut policies: Vec<Arc<dyn Policy>> = vec![Arc::new(Rules::new(limits))];
    if !askers.is_empty() {
        policies.push(Arc::new(Asked::new(askers)));
    }
    policies
}
