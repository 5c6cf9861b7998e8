//! Waits between attempts, and while a transfer is paused.

use std::time::Duration;

use crate::{Error, Event, http::Session};

impl Session {
    /// Waits while the transfer is paused.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(crate) async fn wait_while_paused(&self) -> Result<(), Error> {
        let is_paused = self.control.is_paused();
        if is_paused {
            self.meter.emit(|| Event::Paused);
        }
        self.control.until_running().await?;
        if is_paused {
            self.meter.emit(|| Event::Continued);
        }
        Ok(())
    }

    /// Waits before another attempt, or until the transfer is paused and continued.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(crate) async fn wait(
        &self,
        attempt: u32,
        delay: Duration,
        error: String,
    ) -> Result<(), Error> {
        self.meter.emit(|| Event::Retrying {
            attempt,
            delay,
            error,
        });
        match self.control.guard(tokio::time::sleep(delay)).await {
            Ok(()) => Ok(()),
            Err(_) => self.wait_while_paused().await,
        }
    }
}
