//! The bytes of an object on their way from the service.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

use super::Result;

/// The bytes of an object, as they come. Dropping it closes the connection unless all have come.
pub struct ObjectBody {}

impl ObjectBody {
    pub(super) async fn collect(self, max: usize) -> Result<Bytes> {
        let _ = max;
        unimplemented!()
    }
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBody").finish_non_exhaustive()
    }
}

impl Stream for ObjectBody {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let _ = context;
        unimplemented!()
    }
}
