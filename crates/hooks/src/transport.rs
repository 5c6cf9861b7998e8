//! The way to the application.

use std::{error::Error, fmt, time::Duration};

use async_trait::async_trait;
use landfall::BoxError;

use crate::{Message, Reaction};

/// A way to the application: brings a message there and returns what it says.
///
/// A transport tries again by itself only as far as a question that a client waits for allows;
/// told events are tried again by whoever keeps them.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Its name in logs, metrics, settings and the outbox: `command`, `http`, `grpc`, `wasm`, `nats`,
    /// `amqp`, `redis`, `kafka`. Must stay the same over restarts.
    fn name(&self) -> &str;

    /// Delivers a message; on return the application has it for sure. For events (and by brokers) the
    /// reaction is the default one.
    ///
    /// # Errors
    /// Anything that keeps it from being sure, or from understanding the answer.
    ///
    /// # Cancel safety
    /// May be dropped; whether the application has the message is then unknown.
    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure>;

    /// Whether the application can be reached, for health pages: a short look, if the way has one.
    async fn check(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A message that didn't arrive, or an answer that made no sense.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
#[non_exhaustive]
pub struct Failure {
    /// What went wrong, for the log.
    pub text: String,
    /// Whether the client may read that too: the application's own words, where it was asked to be
    /// treated exactly as tusd does.
    pub for_client: bool,
    /// The receiver rejects the message itself: to send it again would change nothing. An event is
    /// then not retried.
    pub is_permanent: bool,
    /// When to try again, if the application said so.
    pub retry_after: Option<Duration>,
    /// What lies below it.
    #[source]
    pub source: Option<BoxError>,
}

impl Failure {
    /// A failure in words.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            for_client: false,
            is_permanent: false,
            retry_after: None,
            source: None,
        }
    }

    /// A failure in words, and what lies below it.
    #[must_use]
    pub fn because(text: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(text)
        }
    }

    /// Lets the client read it.
    #[must_use]
    pub fn for_client(mut self) -> Self {
        self.for_client = true;
        self
    }

    /// Marks it as a rejection of the message, if it is one.
    #[must_use]
    pub fn permanent(mut self, is_permanent: bool) -> Self {
        self.is_permanent = is_permanent;
        self
    }

    /// The text, and what lies below it as far as it doesn't say so itself.
    #[must_use]
    pub fn in_full(&self) -> String {
        in_full(self)
    }

    /// Notes when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

/// An error, and what lies below it as far as it doesn't say so itself.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let twice = Failure::because("it broke: pipe", std::io::Error::other("pipe"));
        assert_eq!(twice.in_full(), "it broke: pipe");
        let once = Failure::because("it broke", std::io::Error::other("pipe"));
        assert_eq!(once.in_full(), "it broke: pipe");
    }
}
