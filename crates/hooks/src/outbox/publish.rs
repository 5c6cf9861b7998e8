//! Publishing events that were not prepared: those of the upload queue.

use std::collections::BTreeMap;

use landfall_database::Statement;
use tokio::sync::oneshot;

use super::{
    Outbox, OutboxError,
    batch::{Command, Stored},
    commit::rows,
    fact::Fact,
    sql::{self, parts},
};
use crate::{HookName, HookNames, Message};

impl Outbox {
    /// The names that some route wants.
    #[must_use]
    pub fn names(&self) -> HookNames {
        let routes = self.shared.routes.iter();
        routes.fold(HookNames::default(), |all, route| all.or(route.names))
    }

    /// Tells what has happened elsewhere and nobody announced: events of the upload queue. On return
    /// they are kept, for each route that wants them, and will be delivered like all others, in the
    /// order of their sequence numbers for each [lane](Message::lane). What is posted again with the
    /// same id while it waits is told once. Progress that waits is replaced by newer progress.
    ///
    /// Waits for the database for as long as it takes.
    ///
    /// # Errors
    /// The outbox is full or closed, or one can't be written: none of them are kept.
    ///
    /// # Cancel safety
    /// May be dropped; whether they are kept is then unknown, and they can be posted again.
    pub async fn post(&self, messages: Vec<Message>) -> Result<(), OutboxError> {
        let shared = &self.shared;
        if *shared.closing.borrow() {
            return Err(OutboxError::Closed);
        }
        let wanted = messages
            .into_iter()
            .filter(|message| shared.rows_of(message.hook) > 0);
        let facts = wanted.map(Fact::of).collect::<Result<Vec<_>, _>>()?;
        if facts.is_empty() {
            return Ok(());
        }
        let reserved = facts.iter().map(|fact| shared.size_of(fact)).sum();
        let (done, stored) = oneshot::channel();
        let command = Command::Publish(Stored {
            facts,
            implied: Vec::new(),
            reserved,
            done,
        });
        self.send(command, reserved, 1).await?;
        stored.await.map_err(|_| OutboxError::Closed)?
    }

    /// Returns the statements that store events as pending deliveries.
    ///
    /// The caller executes them in a transaction of its own on the same database, so that its change
    /// and the events are stored together, and then calls [`notify_pending`](Self::notify_pending).
    /// Each route that wants an event gets a delivery; a delivery that exists stays as it is. Pending
    /// progress of an upload queue's job is replaced by newer progress.
    ///
    /// A full outbox does not refuse these events: check [`is_full`](Self::is_full) before a change
    /// that leads to further events, such as a new grant.
    ///
    /// # Errors
    /// The outbox is closed, or a message cannot be serialized.
    pub fn insert_statements(&self, messages: &[Message]) -> Result<Vec<Statement>, OutboxError> {
        let shared = &self.shared;
        if *shared.closing.borrow() {
            return Err(OutboxError::Closed);
        }
        let wanted = messages
            .iter()
            .filter(|message| shared.rows_of(message.hook) > 0);
        let facts = wanted
            .map(|message| Fact::of(message.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        let now = shared.clock.now();
        let mut statements = Vec::new();
        let newest = newest_progress(&facts);
        for part in parts(&newest) {
            statements.push(sql::supersede(HookName::UploadProgress.as_str(), part));
        }
        let mut deliveries: Vec<_> = facts
            .iter()
            .flat_map(|fact| rows(shared, fact).map(|(_, row)| row))
            .collect();
        // Every node locks rows in the same order, so that transactions do not deadlock.
        deliveries.sort_by_key(|row| (row.event, row.route));
        for part in parts(&deliveries) {
            statements.push(sql::insert_pending(part, now));
        }
        Ok(statements)
    }

    /// Wakes the delivery of events that a committed transaction has stored with
    /// [`insert_statements`](Self::insert_statements).
    ///
    /// Without this call they are found within a second.
    pub fn notify_pending(&self) {
        self.shared.queues.claimable.notify_one();
    }

    /// Returns whether the outbox has reached its limit, at which creations are refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.tally.is_full(&self.shared.settings)
    }
}

/// The newest progress of each ordering key, in the order in which all nodes lock rows.
pub(super) fn newest_progress<'a>(
    facts: impl IntoIterator<Item = &'a Fact>,
) -> Vec<(&'a str, i64)> {
    let progress = facts
        .into_iter()
        .filter(|fact| fact.message.hook == HookName::UploadProgress);
    let newest: BTreeMap<&str, i64> = progress.map(|fact| (&*fact.key, fact.sequence)).collect();
    newest.into_iter().collect()
}
