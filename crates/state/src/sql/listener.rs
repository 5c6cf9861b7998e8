//! Notifications of PostgreSQL, on a separate connection.

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::timeout;

use super::{Connections, DatabaseError, Statement, postgres::ACQUIRE_TIMEOUT};

/// A listener that received nothing for this long tests its connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const LISTENER_TIMEOUT: Duration = Duration::from_secs(2);

impl Connections {
    /// Opens a connection that receives PostgreSQL notifications.
    ///
    /// # Errors
    /// The database failed, or is SQLite.
    pub async fn listener(&self) -> Result<Listener, DatabaseError> {
        let pool = self.postgres_pool().ok_or(DatabaseError::NoNotifications)?;
        match Listener::connect(pool).await {
            Ok(listener) => Ok(listener),
            Err(error) => Err(self.explain(error).await),
        }
    }
}

/// A connection that receives notifications.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// Outside of the pool, which a long-lived connection could exhaust.
    async fn connect(pool: &PgPool) -> Result<Self, DatabaseError> {
        let options = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = options.connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = Box::pin(PgListener::connect_with(&pool)).await?;
        // A lost connection is reported, since notifications are lost with it.
        listener.eager_reconnect(false);
        Ok(Self(listener))
    }

    /// Subscribes to a channel.
    ///
    /// # Errors
    /// The database failed or timed out.
    ///
    /// # Cancel safety
    /// Dropped, the subscription may have taken effect.
    pub async fn listen(&mut self, channel: &str) -> Result<(), DatabaseError> {
        in_time(self.0.listen(channel)).await
    }

    /// Checks that notifications from these connections arrive.
    ///
    /// # Errors
    /// [`DatabaseError::NoNotifications`], or the database failed.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn check(&mut self, connections: &Connections) -> Result<(), DatabaseError> {
        // A separate channel: PgBouncer would leave LISTEN active for other clients.
        let channel = format!("landfall_test_{:016x}", rand::random::<u64>());
        self.listen(&channel).await?;
        let notify = Statement::new("SELECT CAST(pg_notify($1, '') AS TEXT)");
        let arrives = async {
            connections.read(notify.with(channel.as_str())).await?;
            self.receive().await.map(drop)
        };
        match timeout(LISTENER_TIMEOUT, arrives).await {
            Ok(Ok(())) => in_time(self.0.unlisten(&channel)).await,
            // PgBouncer delivered it to another client.
            Ok(Err(DatabaseError::Postgres(sqlx::Error::Protocol(_)))) | Err(_) => {
                Err(DatabaseError::NoNotifications)
            }
            Ok(Err(error)) => Err(error),
        }
    }

    /// Waits for the next notification and returns its payload.
    ///
    /// # Errors
    /// The connection was lost, and notifications with it.
    ///
    /// # Cancel safety
    /// Dropped, a notification may be lost.
    pub async fn receive(&mut self) -> Result<String, DatabaseError> {
        loop {
            match timeout(KEEP_ALIVE_INTERVAL, self.0.try_recv()).await {
                Ok(Ok(Some(notification))) => return Ok(notification.payload().to_owned()),
                Ok(Ok(None)) => return Err(DatabaseError::Closed),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    in_time(sqlx::query("SELECT 1").execute(&mut self.0)).await?;
                }
            }
        }
    }
}

async fn in_time<T>(
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DatabaseError> {
    let done = timeout(LISTENER_TIMEOUT, Box::pin(call)).await;
    Ok(done.map_err(|_| DatabaseError::Timeout(LISTENER_TIMEOUT))??)
}
