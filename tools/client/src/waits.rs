//! Waits between attempts, and while a transfer is paused.

use std::time::Duration;

use crate::{Error, Event, http::Session, retry::Backoff};

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

    /// Repeats a call while its errors are transient, also over pauses.
    ///
    /// # Errors
    /// The error of the call, [`Error::GaveUp`] and [`Error::Cancelled`].
    pub(crate) async fn retried<T, F: Future<Output = Result<T, Error>>>(
        &self,
        mut backoff: Backoff,
        call: impl Fn() -> F,
    ) -> Result<T, Error> {
        loop {
            let error = match self.control.guard(call()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.wait_while_paused().await?;
                    continue;
                }
            };
            let mut error = Some(error);
            let (attempt, delay) = backoff.failed(&mut error)?;
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            self.wait(attempt, delay, text).await?;
        }
    }
}
