//! A request whose client sends little: it has no hyper connection and no buffer, and continues as
//! [handed over](super::handover).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;

use super::handover::Handover;
use super::io::ServerIo;
use super::service::{ConnectionService, HttpService, ResponseFuture};
use super::timeouts::SLOW_READ;

pub(super) struct SlowBody<S: HttpService> {
    pub(super) io: ServerIo,
    pub(super) edge: ConnectionService<S>,
    pub(super) response: Box<ResponseFuture<S>>,
}

impl<S: HttpService> SlowBody<S> {
    /// Waits until hyper must continue: for the response, for more data, or to fail.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, handover: &Handover) -> Poll<()> {
        loop {
            if self.response.poll_answered(cx).is_ready() || handover.has_data() {
                return Poll::Ready(());
            }
            // Interim responses. hyper meets an error when it continues.
            let _ = Pin::new(&mut self.io).poll_flush(cx);
            let Some(data) = ready!(self.io.poll_slow_body(cx)) else {
                return Poll::Ready(());
            };
            let is_full = data.len() == SLOW_READ;
            handover.set_data(data);
            if is_full {
                return Poll::Ready(());
            }
        }
    }
}
