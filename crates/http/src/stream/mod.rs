//! Requests and responses on streams that share a connection: those of HTTP/2 and HTTP/3.
//!
//! Each protocol provides the halves of a stream ([`ReceiveHalf`], [`SendHalf`]) and sets the flow-control window of a
//! connection ([`window::ReceiveWindow`]). A request has a task ([`task`]), in which the service is called, its
//! interim responses and its response are sent, and the rest of its content is refused ([`response`]).

mod content;
mod exchange;
mod intake;
pub(super) mod response;
pub(super) mod task;
pub(super) mod window;

use std::fmt::Display;
use std::future::Future;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use landfall::service::RequestBodyError;

pub(super) use self::content::StreamContent;
pub(super) use self::exchange::Exchange;

/// The receiving half of a stream.
pub(super) trait ReceiveHalf: Send + 'static {
    /// `None` after the data.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, RequestBodyError>>;

    /// Polled after the data.
    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, RequestBodyError>>;

    /// Returns bytes that were polled to the window of the client.
    fn release(&mut self, len: usize);

    /// Returns whether polled bytes leave the window of the client until they are released.
    fn keeps_window(&self) -> bool;

    /// Returns whether it is known that nothing follows.
    fn has_ended(&self) -> bool;

    /// Discards a long rest before the response, or returns itself if the client would take that for an error.
    fn ignore(self: Box<Self>) -> Option<Box<dyn ReceiveHalf>>;

    /// Refuses the rest after the response, without an error.
    fn refuse(self: Box<Self>);
}

/// The sending half of a stream. No future of it is dropped before its end, except with the half.
pub(super) trait SendHalf: Send + Sized {
    type Error: Display + Send;

    /// Returns whether an interim response can be sent now: if not, it waits, and a newer one may replace it.
    fn can_send_interim(&mut self) -> bool;

    fn send_interim(
        &mut self,
        head: Response<()>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Nothing follows if it `is_end`.
    fn send_head(
        &mut self,
        head: Response<()>,
        is_end: bool,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Nothing follows if it `is_end`.
    fn send_data(
        &mut self,
        data: Bytes,
        is_end: bool,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Nothing follows.
    fn send_trailers(
        &mut self,
        trailers: HeaderMap,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Ready when the client does not want the response, or the rest of it, or its connection has ended, if that is
    /// noticed without sending.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ends it, such that the response does not look complete.
    fn cut(&mut self);
}
