//! A body whose first frame can be polled before it is read.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::{BoxError, request_body::RequestBody};

type NextFrame = Option<Result<Frame<Bytes>, BoxError>>;

pub(super) struct PeekedBody<'a, B> {
    body: &'a mut B,
    first: Option<NextFrame>,
}

impl<'a, B: RequestBody + Unpin> PeekedBody<'a, B> {
    pub(super) fn new(body: &'a mut B) -> Self {
        Self { body, first: None }
    }

    pub(super) async fn peek(&mut self) {
        if self.first.is_none() {
            self.first = Some(poll_fn(|cx| self.poll_body(cx)).await);
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame> {
        let frame = Pin::new(&mut *self.body).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }
}

impl<B: RequestBody + Unpin> Body for PeekedBody<'_, B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<NextFrame> {
        match self.first.take() {
            Some(frame) => Poll::Ready(frame),
            None => self.poll_body(cx),
        }
    }
}
