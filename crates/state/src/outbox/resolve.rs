//! Resolves prepared events in doubt: finds out from the store whether they happened; the writer records it.
//!
//! Events of one upload are resolved one after another, since each needs its lease. An event without outcome becomes
//! due again, with a growing delay: for this node if the upload was busy, because with leases in a bucket only
//! a node that has looked before can tell that the holder is dead; for any node if this one failed. Events of
//! this process count as in doubt after `resolve_after`, creations after ten times as long, because a creation holds no lease.

use std::{collections::BTreeMap, time::Duration};

use landfall::{Handler, Resolution, upload::UploadId};
use landfall_hooks::HookName;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    DatabaseError, Outbox,
    batch::{Command, InDoubt, Resolved},
    event::event_kind,
    sql,
};

const POLL_INTERVAL: Duration = Duration::from_secs(1);
const BATCH_SIZE: usize = 64;
/// A creation holds no lease, so that resolving it too early would be wrong.
const CREATION_FACTOR: u32 = 10;

impl Outbox {
    pub(super) async fn resolve_due(&self, handler: Handler) {
        loop {
            self.abandon_stale().await;
            self.shared.settings.creations.remove_old();
            let resolved = match self.resolve_batch(&handler).await {
                Ok(resolved) => resolved,
                Err(error) => {
                    tracing::warn!(%error, "failed to poll for prepared events in doubt");
                    0
                }
            };
            if resolved < BATCH_SIZE {
                sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// An interrupted upload may never be completed.
    async fn abandon_stale(&self) {
        let after = self.shared.settings.resolve_after;
        let now = Instant::now();
        let mut stale = Vec::new();
        self.shared.prepared.lock().retain(|event, (since, hook)| {
            let max_age = match hook {
                HookName::PostCreate => after * CREATION_FACTOR,
                _ => after,
            };
            let is_stale = now.duration_since(*since) >= max_age;
            if is_stale {
                stale.push(event.clone());
            }
            !is_stale
        });
        for events in stale.chunks(BATCH_SIZE) {
            let _ = self.commands.send(Command::Abandon(events.to_vec())).await;
        }
    }

    async fn resolve_batch(&self, handler: &Handler) -> Result<usize, DatabaseError> {
        let shared = &self.shared;
        let me = shared.lease.lock().node.clone();
        let due = sql::is_in_doubt(&me, shared.database.clock().millis());
        if shared.database.read(due).await?.is_empty() {
            return Ok(0);
        }
        let (done, claimed) = oneshot::channel();
        let limit = BATCH_SIZE;
        let command = Command::ClaimInDoubt { limit, done };
        if self.commands.send(command).await.is_err() {
            return Ok(0);
        }
        let claimed = claimed.await.unwrap_or_default();
        let found = claimed.len();
        // One at a time per upload: otherwise they would find its lease held by each other.
        let mut uploads: BTreeMap<String, Vec<InDoubt>> = BTreeMap::new();
        for one in claimed {
            let of_upload = uploads.entry(one.message.upload.id.clone());
            of_upload.or_default().push(one);
        }
        let mut running = JoinSet::new();
        for of_upload in uploads.into_values() {
            while running.len() >= shared.settings.max_concurrency.max(1) {
                running.join_next().await;
            }
            running.spawn(self.clone().resolve_upload(handler.clone(), of_upload));
        }
        while running.join_next().await.is_some() {}
        Ok(found)
    }

    async fn resolve_upload(self, handler: Handler, in_doubt: Vec<InDoubt>) {
        for one in in_doubt {
            self.resolve_event(&handler, one).await;
        }
    }

    async fn resolve_event(&self, handler: &Handler, in_doubt: InDoubt) {
        let message = &in_doubt.message;
        let (Some(kind), Ok(id)) = (event_kind(message.hook), UploadId::new(&message.upload.id))
        else {
            let event = &in_doubt.event;
            tracing::error!(event, "a prepared event has an unknown kind");
            return self.requeue(in_doubt).await;
        };
        let resolved = match handler.resolve(kind, &id, message.upload.created).await {
            Ok(Resolution::Happened(snapshot)) => {
                Resolved::Happened(Box::new((in_doubt, snapshot)))
            }
            Ok(Resolution::DidNotHappen) => Resolved::DidNotHappen(in_doubt.event),
            Ok(Resolution::Busy) => return,
            Err(error) => {
                tracing::warn!(%id, %error, "failed to resolve a prepared event");
                return self.requeue(in_doubt).await;
            }
        };
        let _ = self.commands.send(Command::Resolved(resolved)).await;
    }

    async fn requeue(&self, in_doubt: InDoubt) {
        let requeue = Command::Requeue(vec![in_doubt.event]);
        let _ = self.commands.send(requeue).await;
    }
}
