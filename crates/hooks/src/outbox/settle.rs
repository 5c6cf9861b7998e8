//! Settling: what became of announcements that nobody has told of.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use landfall::{Handler, Resolution, upload::UploadId};
use tokio::{sync::oneshot, task::JoinSet, time::sleep};

use super::{
    DatabaseError, Outbox,
    batch::{Command, InDoubt, Resolved},
    fact::kind_of,
    sql,
};
use crate::HookName;

/// How often it is looked for announcements that are due.
const LOOK: Duration = Duration::from_secs(1);
/// Announcements that are looked into at once.
const MOST: usize = 64;
/// A creation isn't under a lease, so that asking the store too early would be wrong: as often as the
/// time for others it may take.
const CREATION: u32 = 10;

impl Outbox {
    /// Settles what is due, again and again.
    pub(super) async fn settle_due(&self, handler: Handler) {
        loop {
            self.give_up_stale().await;
            let settled = match self.settle_some(&handler).await {
                Ok(settled) => settled,
                Err(error) => {
                    tracing::warn!(%error, "the outbox can't look for what is to be settled");
                    0
                }
            };
            if settled < MOST {
                sleep(LOOK).await;
            }
        }
    }

    /// Gives up this process's announcements that have been open for long: an upload that was broken
    /// off may never be finished.
    async fn give_up_stale(&self) {
        let after = self.shared.settings.settle_after;
        let now = Instant::now();
        let mut stale = Vec::new();
        self.shared.open().retain(|event, (since, hook)| {
            let longest = match hook {
                HookName::PostCreate => after * CREATION,
                _ => after,
            };
            let is_stale = now.duration_since(*since) >= longest;
            if is_stale {
                stale.push(event.clone());
            }
            !is_stale
        });
        for events in stale.chunks(MOST) {
            let _ = self.commands.send(Command::Abandon(events.to_vec())).await;
        }
    }

    async fn settle_some(&self, handler: &Handler) -> Result<usize, DatabaseError> {
        let shared = &self.shared;
        let due = sql::is_in_doubt(shared.database.clock().millis());
        if shared.database.read(due).await?.is_empty() {
            return Ok(0);
        }
        let (done, taken) = oneshot::channel();
        let command = Command::ClaimInDoubt { most: MOST, done };
        if self.commands.send(command).await.is_err() {
            return Ok(0);
        }
        let taken = taken.await.unwrap_or_default();
        let found = taken.len();
        let events = taken.iter().map(|one| one.event.clone()).collect();
        // One after the other for each upload: they would find its lease taken by each other.
        let mut uploads: BTreeMap<String, Vec<InDoubt>> = BTreeMap::new();
        for one in taken {
            let of_upload = uploads.entry(one.message.upload.id.clone());
            of_upload.or_default().push(one);
        }
        let mut running = JoinSet::new();
        for of_upload in uploads.into_values() {
            while running.len() >= shared.settings.parallel.max(1) {
                running.join_next().await;
            }
            running.spawn(self.clone().settle_upload(handler.clone(), of_upload));
        }
        while running.join_next().await.is_some() {}
        let _ = self.commands.send(Command::Requeue(events)).await;
        Ok(found)
    }

    async fn settle_upload(self, handler: Handler, unsettled: Vec<InDoubt>) {
        for one in unsettled {
            self.settle_one(&handler, one).await;
        }
    }

    async fn settle_one(&self, handler: &Handler, unsettled: InDoubt) {
        let message = &unsettled.message;
        let (Some(kind), Ok(id)) = (kind_of(message.hook), UploadId::new(&message.upload.id))
        else {
            tracing::error!(
                event = unsettled.event,
                "an announcement is of no known kind"
            );
            return;
        };
        let settled = match handler.resolve(kind, &id, message.upload.created).await {
            Ok(Resolution::Happened(snapshot)) => {
                Resolved::Happened(Box::new((unsettled, snapshot)))
            }
            Ok(Resolution::DidNotHappen) => Resolved::Not(unsettled.event),
            // It comes again, later each time.
            Ok(Resolution::Busy) => return,
            Err(error) => {
                tracing::warn!(%id, %error, "it can't be found out what became of an upload");
                return;
            }
        };
        let _ = self.commands.send(Command::Resolved(settled)).await;
    }
}
