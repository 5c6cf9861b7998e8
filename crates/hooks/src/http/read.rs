//! The body of an answer.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// What was read of a body.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// At most as many bytes as may be.
    pub(super) bytes: Bytes,
    /// Whether that is all of it.
    pub(super) is_whole: bool,
}

/// Reads a body up to `limit` bytes.
pub(super) async fn read(mut body: Incoming, limit: usize) -> Result<Body, hyper::Error> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut is_whole = true;
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        let room = limit - first.len() - rest.len();
        if data.len() > room {
            data.truncate(room);
            is_whole = false;
        }
        if first.is_empty() {
            // Nearly always it comes in one piece.
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
        if !is_whole {
            break;
        }
    }
    let bytes = if rest.is_empty() {
        first
    } else {
        [first.as_ref(), &rest].concat().into()
    };
    Ok(Body { bytes, is_whole })
}
