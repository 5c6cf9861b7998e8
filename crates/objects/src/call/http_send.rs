//! The seam between the client and its transport, which tests replace.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use landfall::BoxError;
use tokio::time::timeout;

use crate::payload::PayloadBody;

/// The body of a response.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// An HTTP transport that sends one request once. The client adds signing, retries and deadlines.
#[async_trait]
pub trait HttpSend: fmt::Debug + Send + Sync + 'static {
    /// Sends a request with an absolute URI and returns the response once its head has arrived.
    ///
    /// Redirects are returned, not followed.
    ///
    /// # Errors
    /// Any error that prevents a response; it is treated as transient and retried.
    ///
    /// # Cancel safety
    /// A dropped call must abort the exchange. A request that has been sent may still take effect.
    async fn send(&self, request: Request<PayloadBody>)
    -> Result<Response<ResponseBody>, BoxError>;
}

/// Reads a body of at most `max` bytes, with at most `idle` between two pieces.
///
/// # Errors
/// [`BodyStalled`], a longer body, or an error of the transport.
pub(crate) async fn collect(
    mut body: ResponseBody,
    idle: Duration,
    max: usize,
) -> Result<Bytes, BoxError> {
    let mut all = BytesMut::new();
    while let Some(frame) = timeout(idle, body.frame()).await.map_err(|_| BodyStalled)? {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if all.len() + data.len() > max {
            return Err("the response is too large".into());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// No byte arrived for too long.
#[derive(Debug, thiserror::Error)]
#[error("the response body stalled")]
pub struct BodyStalled;
