//! The network between a node, the database and the receiver of events.

use async_trait::async_trait;
use landfall_hooks::{DeliveryError, HookName, HookResponse, Message, Transport};
use landfall_state::sql::{DatabaseError, Network};

use crate::{
    settings::Mutant,
    world::{Port, Service},
};

#[derive(Debug)]
pub(crate) struct DatabaseNetwork(pub(crate) Port);

impl DatabaseNetwork {
    async fn travel(&self) -> Result<(), DatabaseError> {
        match self.0.travel(Service::Database).await {
            true => Ok(()),
            false => Err(DatabaseError::Timeout(std::time::Duration::from_secs(3))),
        }
    }
}

#[async_trait]
impl Network for DatabaseNetwork {
    async fn request(&self) -> Result<(), DatabaseError> {
        self.travel().await
    }

    async fn response(&self) -> Result<(), DatabaseError> {
        self.travel().await
    }
}

#[derive(Debug)]
pub(crate) struct Receiver(pub(crate) Port);

#[async_trait]
impl Transport for Receiver {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let (world, hook) = (self.0.world.clone(), message.hook);
        let id = message.upload.id.clone();
        let received = self.0.call(Service::Receiver, move || {
            let is_chosen = world.state.lock().random.chance(200);
            let is_end = hook == HookName::PostFinish;
            if world.is_mutant(Mutant::LostEvent) && is_chosen && is_end {
                return;
            }
            let is_late = world.is_mutant(Mutant::ReorderedEvent) && is_chosen;
            world.checks.delivered(world.now(), &id, hook, is_late);
        });
        match received.await {
            Some(()) => Ok(HookResponse::default()),
            None => Err(DeliveryError::new("the receiver does not answer")),
        }
    }
}
