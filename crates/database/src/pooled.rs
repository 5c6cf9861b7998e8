//! A connection that goes back to its pool only when it is known to be idle.

use sqlx::{Database, pool::PoolConnection};

/// A connection of a pool. Dropped before [`reuse`](Self::reuse), it is closed at once: it may be in
/// the middle of a transaction, or wait for a server that does not answer.
#[derive(Debug)]
pub(crate) struct Pooled<DB: Database> {
    connection: Option<PoolConnection<DB>>,
    is_idle: bool,
}

impl<DB: Database> Pooled<DB> {
    pub(crate) const fn new(connection: PoolConnection<DB>) -> Self {
        Self {
            connection: Some(connection),
            is_idle: false,
        }
    }

    /// Returns the connection itself; an error once it was lost.
    pub(crate) fn get(&mut self) -> Result<&mut DB::Connection, sqlx::Error> {
        let connection = self.connection.as_deref_mut();
        connection.ok_or(sqlx::Error::PoolClosed)
    }

    /// Gives the connection back to the pool.
    pub(crate) fn reuse(mut self) {
        self.is_idle = true;
    }

    /// Closes the connection, without a word to the server.
    #[cfg(feature = "postgres")]
    pub(crate) fn close(&mut self) {
        drop(self.connection.take().map(PoolConnection::detach));
    }
}

impl<DB: Database> Drop for Pooled<DB> {
    fn drop(&mut self) {
        if !self.is_idle {
            drop(self.connection.take().map(PoolConnection::detach));
        }
    }
}
