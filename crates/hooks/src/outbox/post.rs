//! Telling what nobody announced.

use tokio::sync::oneshot;

use super::{
    Outbox, OutboxError,
    batch::{Command, Posting},
    fact::Fact,
};
use crate::{HookNames, Message};

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
        let rows = facts.iter().map(|fact| shared.rows_of(fact.message.hook));
        let rows = rows.sum();
        let (done, kept) = oneshot::channel();
        let command = Command::Post(Posting {
            facts,
            reserved: rows,
            done,
        });
        self.send(command, rows, shared.settings.limit).await?;
        kept.await.map_err(|_| OutboxError::Closed)
    }
}
