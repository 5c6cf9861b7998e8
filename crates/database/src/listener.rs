use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::timeout;

use crate::{DatabaseError, postgres::ACQUIRE_TIMEOUT};

/// The connection is then tested.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const TEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that receives notifications.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// Outside of the pool, which a long-lived connection could exhaust.
    pub(crate) async fn connect(pool: &PgPool) -> Result<Self, DatabaseError> {
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

    pub(crate) async fn unlisten(&mut self, channel: &str) -> Result<(), DatabaseError> {
        in_time(self.0.unlisten(channel)).await
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
    let done = timeout(TEST_TIMEOUT, Box::pin(call)).await;
    Ok(done.map_err(|_| DatabaseError::Timeout(TEST_TIMEOUT))??)
}
