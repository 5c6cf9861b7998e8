//! Publishing events that were not prepared: those of the upload queue.

use std::collections::BTreeMap;

use landfall_hooks::{HookName, HookNames, Message};

use super::{Outbox, OutboxError, commit::rows, event::OutboxEvent, sql};
use crate::sql::{Statement, in_parts};

impl Outbox {
    /// Returns the names that any route receives.
    #[must_use]
    pub fn names(&self) -> HookNames {
        let routes = self.shared.routes.iter();
        routes.fold(HookNames::default(), |all, route| all.union(route.names))
    }

    /// Returns the statements that store events as pending deliveries.
    ///
    /// The caller executes them in its own transaction on the same database, so that its change and
    /// the events are stored together, and then calls [`notify_pending`](Self::notify_pending).
    /// Each route that receives an event gets a delivery; an existing delivery stays unchanged.
    /// Pending progress of a job is replaced by newer progress.
    ///
    /// A full outbox does not reject these events: check [`is_full`](Self::is_full) before a change
    /// that leads to further events, such as a new grant.
    ///
    /// # Errors
    /// The outbox is closed, or a message cannot be serialized.
    pub fn insert_statements(&self, messages: &[Message]) -> Result<Vec<Statement>, OutboxError> {
        let shared = &self.shared;
        if *shared.closing.borrow() {
            return Err(OutboxError::Closed);
        }
        let wanted = messages.iter();
        let wanted = wanted.filter(|message| shared.row_count(message.hook) > 0);
        let events = wanted.map(|message| OutboxEvent::from_message(message.clone()));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        let now = shared.database.clock().millis();
        // The newest progress of each ordering key, in the order in which all nodes lock rows.
        let progress = events.iter();
        let progress = progress.filter(|event| event.message.hook == HookName::UploadProgress);
        let newest = progress.map(|event| (&*event.key, event.sequence));
        let newest: BTreeMap<&str, i64> = newest.collect();
        let newest: Vec<_> = newest.into_iter().collect();
        let progress = HookName::UploadProgress.as_str();
        let mut statements = in_parts(&newest, |part| sql::supersede(progress, part));
        let rows = events.iter().flat_map(|event| rows(shared, event));
        let mut deliveries: Vec<_> = rows.map(|(_, row)| row).collect();
        // Every node locks rows in the same order, so that transactions do not deadlock.
        deliveries.sort_by_key(|row| (row.event, row.route));
        statements.extend(in_parts(&deliveries, |part| sql::insert_pending(part, now)));
        Ok(statements)
    }

    /// Wakes the delivery of events that a committed transaction has stored with
    /// [`insert_statements`](Self::insert_statements).
    ///
    /// Without this call they are found within a second.
    pub fn notify_pending(&self) {
        self.shared.queues.claimable.notify_one();
    }

    /// Returns whether the outbox has reached its limit, at which creations are rejected.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.counters.lock().is_full()
    }
}
