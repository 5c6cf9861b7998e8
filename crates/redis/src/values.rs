//! Values that nodes share, replaced by compare-and-swap.

use crate::{connection::ConnectionError, locker::RedisLocker};

/// Values that nodes share, below the prefix of the leases.
impl RedisLocker {
    /// Returns the first `limit` bytes of a value; `None` if there is none, or it is empty.
    ///
    /// # Errors
    /// Redis is unavailable or rejected the call.
    ///
    /// # Cancel safety
    /// Safe to cancel.
    pub async fn get_value(
        &self,
        name: &str,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, ConnectionError> {
        let Some(last) = limit.checked_sub(1) else {
            return Ok(None);
        };
        let (connection, scripts) = self.parts();
        let key = scripts.value_key(name);
        let call = connection.call(|_| {
            let mut call = redis::cmd("GETRANGE");
            call.arg(&key).arg(0).arg(last);
            call
        });
        let (value, _): (Vec<u8>, _) = call.await?;
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    /// Stores a value if the one in Redis is still `old`; otherwise returns false.
    ///
    /// It also returns false if the value was stored, but the first response was lost. Lua compares and stores
    /// in one step, so no two nodes replace the same value. A failover to a replica may undo it.
    ///
    /// # Errors
    /// Redis is unavailable or rejected the call. The value may be stored nevertheless.
    ///
    /// # Cancel safety
    /// Dropped, the value may be stored.
    pub async fn replace_value(
        &self,
        name: &str,
        old: Option<&[u8]>,
        new: &[u8],
    ) -> Result<bool, ConnectionError> {
        let (connection, scripts) = self.parts();
        let call = connection.call(|_| scripts.replace(name, old.unwrap_or_default(), new));
        call.await.map(|(is_stored, _)| is_stored)
    }
}
