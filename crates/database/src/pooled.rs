use sqlx::{PgConnection, Postgres, pool::PoolConnection};

/// Dropped before [`reuse`](Self::reuse), it is closed at once: it may be inside a transaction, or wait for a
/// server that does not respond.
#[derive(Debug)]
pub(crate) struct Pooled {
    connection: Option<PoolConnection<Postgres>>,
    is_idle: bool,
}

impl Pooled {
    pub(crate) const fn new(connection: PoolConnection<Postgres>) -> Self {
        Self {
            connection: Some(connection),
            is_idle: false,
        }
    }

    /// An error after [`close`](Self::close).
    pub(crate) fn get(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = self.connection.as_deref_mut();
        connection.ok_or(sqlx::Error::PoolClosed)
    }

    pub(crate) fn reuse(mut self) {
        self.is_idle = true;
    }

    /// Sends no message to the server.
    pub(crate) fn close(&mut self) {
        drop(self.connection.take().map(PoolConnection::detach));
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if !self.is_idle {
            drop(self.connection.take().map(PoolConnection::detach));
        }
    }
}
