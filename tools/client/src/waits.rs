//! Waits between attempts, and while a transfer is paused.

use crate::{Error, Event, http::Session, retry::Backoff};

impl Session {
    /// Waits while the transfer is paused.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    async fn wait_while_paused(&self) -> Result<(), Error> {
        let is_paused = self.control.is_paused();
        if is_paused {
            self.meter.emit(|| Event::Paused);
        }
        self.control.until_running().await?;
        if is_paused {
            self.meter.restart_rate();
            self.meter.emit(|| Event::Continued);
        }
        Ok(())
    }

    /// Waits before another attempt, or until the transfer is paused and continued.
    ///
    /// # Errors
    /// The error if there is no other attempt, and [`Error::Cancelled`].
    pub(crate) async fn wait_after(
        &self,
        error: Error,
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        let (attempt, delay, error) = backoff.failed(error)?;
        self.meter.emit(|| Event::Retrying {
            attempt,
            delay,
            error: error.to_string(),
        });
        self.guarded(tokio::time::sleep(delay)).await?;
        self.meter.restart_rate();
        Ok(())
    }

    /// Runs a future until it is ready; `None` if it was dropped because of a pause, which is over then.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(crate) async fn guarded<T>(
        &self,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, Error> {
        match self.control.guard(future).await {
            Ok(result) => Ok(Some(result)),
            Err(_) => self.wait_while_paused().await.map(|()| None),
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
            match self.guarded(call()).await? {
                Some(Ok(value)) => return Ok(value),
                Some(Err(error)) => self.wait_after(error, &mut backoff).await?,
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{Client, RetryPolicy};

    #[tokio::test]
    async fn the_rate_starts_anew_after_an_outage() {
        let client = Client::builder().build().unwrap();
        let url = "http://localhost/".parse().unwrap();
        let session = client.0.session_of_call(&url);
        session.meter.transfer(1000);
        let policy = RetryPolicy::default().with_delays(Duration::ZERO, Duration::ZERO);
        let (error, mut backoff) = (Error::Connection("cut".into()), Backoff::new(policy));
        let waited = session.wait_after(error, &mut backoff);
        waited.await.unwrap();
        let back = Instant::now() + Duration::from_secs(8);
        assert_eq!(session.meter.rate(back, Some(9000)), (0.0, None));
        session.meter.transfer(3000);
        let rate = session
            .meter
            .rate(back + Duration::from_secs(1), Some(6000));
        assert_eq!(rate, (3000.0, Some(Duration::from_secs(2))));
    }
}
