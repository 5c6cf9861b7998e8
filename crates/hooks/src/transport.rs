//! The interface of all transports: delivers one message, and returns an error that says whether to retry.
//!
//! An implementation must not order, store or count messages: the outbox and the callers do. A delivery that is dropped
//! or fails may have reached the application.

use std::{error::Error, fmt, time::Duration};

use async_trait::async_trait;
use landfall::BoxError;

use crate::{EventHeaders, HookResponse, Message};

/// A connection to the application that delivers messages and returns responses.
///
/// A transport retries blocking hooks only as long as the waiting client allows. The outbox retries
/// events.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Returns the transport's name in logs, metrics, settings and the outbox.
    ///
    /// The names are `command`, `http`, `grpc`, `nats`, `amqp`, `redis` and `kafka`. The
    /// outbox stores the name, so it must not change between restarts.
    fn name(&self) -> &str;

    /// Delivers a message and returns the response.
    ///
    /// When this returns `Ok`, the application has received the message. For most events, and for
    /// brokers, the response is the default one.
    ///
    /// # Errors
    /// The delivery failed, or the response could not be parsed.
    ///
    /// # Cancel safety
    /// Can be dropped; it is then unknown whether the application received the message.
    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError>;

    /// Returns the request headers that this transport receives with events, besides the built-in list.
    ///
    /// They may be credentials, so a transport names those that its settings name. They do not change.
    fn event_headers(&self) -> EventHeaders {
        EventHeaders::default()
    }

    /// Checks whether the application can be reached, for health pages.
    async fn check(&self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// A failed delivery, or an invalid response.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct DeliveryError {
    /// The error message for the log.
    pub message: String,
    /// True if clients see the message, as with tusd (`--hooks-format v2` only).
    pub client_visible: bool,
    /// True if the receiver rejected the message itself. Such an event is not retried.
    pub is_permanent: bool,
    /// The delay before the next attempt that the application requested.
    pub retry_after: Option<Duration>,
    /// The underlying error.
    #[source]
    pub source: Option<BoxError>,
}

impl DeliveryError {
    /// Creates an error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            client_visible: false,
            is_permanent: false,
            retry_after: None,
            source: None,
        }
    }

    /// Creates an error with this message and an underlying error.
    pub fn with_source(message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(message)
        }
    }

    /// Creates an error whose message is `what` and the underlying error.
    pub fn caused_by(what: impl fmt::Display, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self::with_source(format!("{what}: {source}"), source)
    }

    /// Makes the message visible to clients.
    #[must_use]
    pub fn client_visible(mut self) -> Self {
        self.client_visible = true;
        self
    }

    /// Sets whether the receiver rejected the message itself.
    #[must_use]
    pub fn permanent(mut self, is_permanent: bool) -> Self {
        self.is_permanent = is_permanent;
        self
    }

    /// Sets the requested delay before the next attempt.
    #[must_use]
    pub fn retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }
}

/// Returns an error's message and the causes that it does not already contain.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_appears_once() {
        let twice = DeliveryError::with_source("it broke: pipe", std::io::Error::other("pipe"));
        assert_eq!(error_chain(&twice), "it broke: pipe");
        let once = DeliveryError::with_source("it broke", std::io::Error::other("pipe"));
        assert_eq!(error_chain(&once), "it broke: pipe");
    }
}
