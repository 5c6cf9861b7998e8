//! An object whose body is being received, while no task reads it. It opens none.

use bytes::Bytes;

use super::http_send::ResponseBody;

/// The most that a response whose client takes nothing keeps.
const PIECE_BYTES: usize = 32 * 1024;

/// An object that is being received.
#[derive(Debug)]
pub struct OpenObject {
    pub(crate) body: ResponseBody,
    /// Received, and not passed on.
    pub(crate) received: Bytes,
}

impl OpenObject {
    pub(crate) fn new(body: ResponseBody) -> Self {
        let received = Bytes::new();
        Self { body, received }
    }

    /// Removes a piece, which keeps no larger buffer.
    pub(crate) fn take_piece(&mut self) -> Option<Bytes> {
        let len = self.received.len().min(PIECE_BYTES);
        (len > 0).then(|| Bytes::copy_from_slice(&self.received.split_to(len)))
    }
}
