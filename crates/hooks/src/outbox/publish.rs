//! Publishing events that were not prepared: those of the upload queue.

use std::collections::BTreeMap;

use landfall_database::{Statement, parts};

use super::{Outbox, OutboxError, commit::rows, fact::Fact, sql};
use crate::{HookName, HookNames, Message};

impl Outbox {
    /// The names that some route wants.
    #[must_use]
    pub fn names(&self) -> HookNames {
        let routes = self.shared.routes.iter();
        routes.fold(HookNames::default(), |all, route| all.or(route.names))
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
        let now = shared.database.clock().millis();
        let mut statements = Vec::new();
        // The newest progress of each ordering key, in the order in which all nodes lock rows.
        let progress = facts
            .iter()
            .filter(|fact| fact.message.hook == HookName::UploadProgress);
        let newest: BTreeMap<&str, i64> =
            progress.map(|fact| (&*fact.key, fact.sequence)).collect();
        let newest: Vec<_> = newest.into_iter().collect();
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
