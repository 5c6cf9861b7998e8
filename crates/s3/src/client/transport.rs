//! What carries requests: the client's own pool of HTTP/1.1 connections, or the user's.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use landfall::BoxError;

use super::payload::PayloadBody;

/// The body of an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

/// Sends one request, once. The client adds signing, retries and the limit on the whole attempt.
#[async_trait]
pub trait HttpSend: fmt::Debug + Send + Sync + 'static {
    /// Sends the request, whose URI is absolute, and returns the head of the answer as soon as it is
    /// there. Redirects are answers like others.
    ///
    /// # Errors
    /// Anything that kept an answer from coming; it counts as passing and is tried again.
    ///
    /// # Cancel safety
    /// A dropped call must end the exchange, so that its request has no effect later.
    async fn send(&self, request: Request<PayloadBody>) -> Result<Response<AnswerBody>, BoxError>;
}
