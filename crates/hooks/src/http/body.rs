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
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut is_complete = true;
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        let remaining = limit - first.len() - rest.len();
        if data.len() > remaining {
            data.truncate(remaining);
            is_complete = false;
        }
        if first.is_empty() {
            // Nearly all bodies arrive in one frame.
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
        if !is_complete {
            break;
        }
    }
    let bytes = if rest.is_empty() {
        first
    } else {
        [first.as_ref(), &rest].concat().into()
    };
    Ok(Body { bytes, is_complete })
}
