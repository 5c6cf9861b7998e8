//! Response bodies.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// A body, possibly truncated.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// The bytes, up to the limit.
    pub(super) bytes: Bytes,
    /// Set if the body is complete.
    pub(super) is_complete: bool,
}

/// Reads a body up to `limit` bytes.
pub(super) async fn read_body(mut body: Incoming, limit: usize) -> Result<Body, hyper::Error> {
    let mut bytes = BytesMut::new();
    let mut is_complete = true;
    while is_complete && let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let remaining = limit - bytes.len();
        is_complete = data.len() <= remaining;
        bytes.extend_from_slice(&data[..data.len().min(remaining)]);
    }
    let bytes = bytes.freeze();
    Ok(Body { bytes, is_complete })
}
