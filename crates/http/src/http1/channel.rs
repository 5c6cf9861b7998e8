//! The socket and the input of a connection, which the content of its current request reads.

use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use http_body::{Frame, SizeHint};
use landfall::service::{InterimSender, RequestBodyError};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::content::{ContentDecoder, Decoded, Malformed};
use super::encode;
use super::head::{self, Framing, HeadRules, HeadSearch, RequestHead};
use crate::buffers;
use crate::connection::{
    LARGE_HEAD, MAX_DISCARDED_REST, MAX_TRAILERS, SMALL_HEAD, TOO_MANY_LARGE_HEADS,
};
use crate::interim::InterimQueue;
use crate::io::ServerIo;
use crate::limits::ConnectionLimits;
use crate::limits::timeouts::Phase;
use crate::rejection::HttpRejection;

/// Bytes of the first reads of a connection.
const FIRST_READ: usize = 16 * 1024;

/// Space below which a read goes to another buffer.
const MIN_READ: usize = 4 * 1024;

/// A frame that is a smaller part of its buffer is copied: the service may keep it for long, and a client that sends
/// little would keep much memory.
const PINNED: usize = 8;

/// Bytes left of a body for which larger reads are worth the memory.
const LONG_BODY: u64 = 16 * 1024 * 1024;

/// Shared by the task of a connection and the content of its current request.
pub(crate) type Channel = Arc<Mutex<Http1Io>>;

#[derive(Debug)]
pub(crate) struct Http1Io {
    pub(crate) socket: ServerIo,
    /// Bytes that were read and not used. Without memory while there are none and the client is silent.
    pub(super) input: BytesMut,
    /// The most to read at once: it grows while reads fill it.
    read_size: usize,
    large_reads: Option<OwnedSemaphorePermit>,
    /// Of the current request.
    pub(super) content: ContentDecoder,
    /// Counts requests: the content of an earlier one reads nothing.
    number: u32,
    is_held: bool,
    /// The next request cannot be found, or the time of this one is over.
    has_failed: bool,
    expects_continue: bool,
    awaits_continue: bool,
    /// Interim responses to send; no more after the final one.
    pub(super) interim: InterimQueue,
    /// Counted memory of heads,
    head_bytes: u64,
    /// and of unfinished trailers.
    trailer_bytes: u64,
}

impl Http1Io {
    pub(crate) fn new(socket: ServerIo) -> Channel {
        Arc::new(Mutex::new(Self {
            socket,
            input: BytesMut::new(),
            read_size: FIRST_READ,
            large_reads: None,
            content: ContentDecoder::new(Framing::None, 0),
            number: 0,
            is_held: false,
            has_failed: false,
            expects_continue: false,
            awaits_continue: false,
            interim: InterimQueue::default(),
            head_bytes: 0,
            trailer_bytes: 0,
        }))
    }

    fn limits(&self) -> &ConnectionLimits {
        &self.socket.shared.server.limits
    }

    /// Reads more input, which is without memory if there is none. 0 at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_space();
        let limit = (self.input.capacity() - self.input.len()).min(self.read_size);
        let outcome = self.socket.poll_read_into(cx, &mut self.input, limit);
        match &outcome {
            Poll::Ready(Ok(n)) => self.adjust(*n, limit),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.stop_large_reads();
                self.release();
            }
        }
        outcome
    }

    /// Only an unfinished head remains in the input.
    fn make_space(&mut self) {
        let space = self.input.capacity() - self.input.len();
        if space >= MIN_READ.min(self.read_size)
            && (space >= self.read_size / 4 || !self.input.is_empty())
        {
            return;
        }
        if self.input.is_empty() {
            if !self.input.try_reclaim(self.read_size) {
                let used = mem::replace(&mut self.input, buffers::take(self.read_size));
                // Its frames are being stored.
                buffers::give(used);
            }
        } else if space == 0 {
            self.resize(self.head_memory(self.input.len() + 1));
        }
    }

    fn resize(&mut self, capacity: usize) {
        let mut resized = BytesMut::with_capacity(capacity);
        resized.extend_from_slice(&self.input);
        buffers::give(mem::replace(&mut self.input, resized));
    }

    /// Gives back memory that the input does not need.
    pub(super) fn release(&mut self) {
        if self.input.is_empty() {
            buffers::give(mem::take(&mut self.input));
            return;
        }
        let needed = self.head_memory(self.input.len());
        if self.input.capacity() > 2 * needed {
            self.resize(needed);
        }
    }

    fn adjust(&mut self, read: usize, limit: usize) {
        if read < self.read_size / PINNED {
            self.read_size = (self.read_size / 2).max(FIRST_READ);
        }
        if read < limit || read < self.read_size {
            return;
        }
        let largest = match self.large_reads {
            Some(_) => self.limits().large_read_buffer,
            None => self.limits().read_buffer,
        };
        let is_long = self.content.left().is_some_and(|left| left >= LONG_BODY);
        if self.read_size < largest {
            self.read_size = (4 * self.read_size).min(largest);
        } else if is_long && self.large_reads.is_none() {
            self.large_reads = self.socket.shared.server.large_reads();
        }
    }

    fn stop_large_reads(&mut self) {
        if self.large_reads.take().is_some() {
            self.read_size = self.read_size.min(self.limits().read_buffer);
        }
    }

    /// Memory for a head that has `bytes` so far.
    fn head_memory(&self, bytes: usize) -> usize {
        // A few bytes above the limit suffice to detect that it is exceeded.
        let doubled = bytes.next_power_of_two().max(1024);
        doubled.min(self.limits().max_head + 4).max(bytes)
    }

    /// Counts the memory of a head, if it is above `uncounted`. Returns false if that of all heads exceeds the limit.
    pub(super) fn count_head(&mut self, bytes: usize, uncounted: usize) -> bool {
        let memory = self.head_memory(bytes);
        let now = if memory > uncounted { memory as u64 } else { 0 };
        let server = &self.socket.shared.server;
        server.count_head(&mut self.head_bytes, now)
    }

    /// Counts the memory of unfinished trailers, as that of an unfinished head is.
    fn count_trailers(&mut self) -> bool {
        let memory = self.content.trailer_memory();
        let now = if memory > SMALL_HEAD {
            memory as u64
        } else {
            0
        };
        let server = &self.socket.shared.server;
        server.count_head(&mut self.trailer_bytes, now)
    }

    pub(super) fn forget_head(&mut self) {
        self.count_head(0, LARGE_HEAD);
    }

    /// Takes a head of `end` bytes. A rejected one stays in the input. A large one counts until it is forgotten.
    pub(super) fn take_head(
        &mut self,
        end: usize,
        search: &HeadSearch,
    ) -> Result<RequestHead, HttpRejection> {
        if !self.count_head(end, LARGE_HEAD) {
            return Err(TOO_MANY_LARGE_HEADS);
        }
        let is_large = end > LARGE_HEAD;
        let bytes = match is_large {
            true => self.input.split_to(end).freeze(),
            false => buffers::copy_head(&self.input[..end]),
        };
        let rules = HeadRules {
            max_head: self.limits().max_head,
            both_lengths: self.limits().both_lengths,
        };
        let mut parsed = head::parse(&bytes, search, buffers::take_fields(), &rules);
        match &mut parsed {
            Ok(head) if !is_large => {
                self.input.advance(end);
                *head.request.extensions_mut() = buffers::take_extensions();
            }
            Err(_) if is_large => self.input = bytes.into(),
            _ => {}
        }
        parsed
    }

    /// Begins the content of a request. Returns its number.
    pub(super) fn begin(&mut self, head: &RequestHead) -> u32 {
        self.number = self.number.wrapping_add(1);
        let max_trailers = self.limits().max_head.min(MAX_TRAILERS);
        self.content = ContentDecoder::new(head.framing, max_trailers);
        self.is_held = head.framing != Framing::None;
        self.has_failed = false;
        self.expects_continue = head.expects_continue;
        self.awaits_continue = head.expects_continue;
        self.interim = InterimQueue::default();
        self.number
    }

    /// Moves the next interim response to `out`.
    pub(super) fn take_interim(&mut self, out: &mut Vec<u8>) -> bool {
        let response = self.interim.next();
        if let Some(response) = &response {
            encode::interim_response(out, response);
        }
        response.is_some()
    }

    /// Returns whether the rest of the content is too long to be discarded, or its end unknown.
    pub(super) fn must_close(&self) -> bool {
        let rest = match self.content.left() {
            Some(0) => return self.has_failed,
            // A client that expects a 100 (Continue) may or may not send a rejected body.
            _ if self.is_held || self.expects_continue => u64::MAX,
            left => left.unwrap_or(u64::MAX),
        };
        self.has_failed || rest > MAX_DISCARDED_REST
    }

    /// Discards the rest of the content. Returns false if it does not end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while !self.content.is_end() {
            if ready!(self.poll_content(cx)).is_err() {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    }

    /// The content of the current request, if the service still has it, ends with an error.
    pub(super) fn abandon(&mut self) {
        self.number = self.number.wrapping_add(1);
        self.is_held = false;
        self.socket.shared.activity.reader.wake();
    }

    /// Why the content cannot be read on.
    fn stopped(&self) -> Option<RequestBodyError> {
        self.socket.shared.server.stopped(self.socket.action())
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<Decoded, RequestBodyError>> {
        loop {
            let decoded = self.content.decode(&mut self.input);
            if !self.count_trailers() {
                self.content.refuse("too many clients send trailers");
                self.count_trailers();
                return Poll::Ready(Err(RequestBodyError::Failed));
            }
            match decoded {
                Ok(Some(Decoded::Data(data))) if data.len() < self.read_size / PINNED => {
                    let copy = Bytes::copy_from_slice(&data);
                    return Poll::Ready(Ok(Decoded::Data(copy)));
                }
                Ok(Some(piece)) => return Poll::Ready(Ok(piece)),
                Ok(None) => {}
                Err(Malformed(reason)) => {
                    tracing::debug!(reason, "malformed content");
                    return Poll::Ready(Err(RequestBodyError::Malformed));
                }
            }
            if let Some(error) = self.stopped() {
                return Poll::Ready(Err(error));
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(RequestBodyError::UnexpectedEnd)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(RequestBodyError::classify(&error)));
                }
                Poll::Pending => {
                    let activity = &self.socket.shared.activity;
                    activity.reader.register(cx.waker());
                    let stopped = self.stopped();
                    return stopped.map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
            }
        }
    }
}

/// The content of a request of HTTP/1. What the service leaves of it is discarded, or ends the connection.
#[derive(Debug)]
pub(crate) struct Http1Content {
    pub(super) channel: Channel,
    pub(super) number: u32,
    pub(super) has_ended: bool,
}

impl Http1Content {
    pub(crate) fn is_end(&self) -> bool {
        self.has_ended
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let left = match self.has_ended {
            true => Some(0),
            false => self.channel.lock().content.left(),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Returns a sender of interim responses to the request.
    pub(crate) fn interim_sender(&self) -> Arc<dyn InterimSender> {
        Arc::new(Http1InterimSender {
            channel: self.channel.clone(),
            number: self.number,
        })
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let mut io = self.channel.lock();
        if io.number != self.number {
            self.has_ended = true;
            return Poll::Ready(Some(Err(RequestBodyError::Reset)));
        }
        let outcome = io.poll_content(cx);
        if mem::take(&mut io.awaits_continue) && outcome.is_pending() {
            // The task of the connection sends it.
            io.interim.push_continue();
            io.socket.shared.activity.waker.wake();
        }
        let frame = match ready!(outcome) {
            Ok(Decoded::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Decoded::Trailers(fields)) => Some(Ok(Frame::trailers(fields))),
            Ok(Decoded::End) => None,
            Err(error) => {
                io.has_failed = true;
                Some(Err(error))
            }
        };
        self.has_ended = io.has_failed || io.content.is_end();
        if self.has_ended {
            io.end_content();
        }
        Poll::Ready(frame)
    }
}

impl Http1Io {
    fn end_content(&mut self) {
        self.is_held = false;
        self.stop_large_reads();
        self.socket.stop_waiting();
        let activity = &self.socket.shared.activity;
        if activity.phase() == Phase::Body {
            activity.enter(Phase::Handling);
        }
    }

    /// Closes the socket, and frees what the content does not need.
    pub(super) fn close(&mut self) {
        self.abandon();
        self.forget_head();
        self.content = ContentDecoder::new(Framing::None, 0);
        self.count_trailers();
        self.stop_large_reads();
        buffers::give(mem::take(&mut self.input));
        self.socket.take();
    }
}

impl Drop for Http1Content {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut io = self.channel.lock();
        if io.number == self.number {
            io.end_content();
        }
    }
}

#[derive(Debug)]
struct Http1InterimSender {
    channel: Channel,
    number: u32,
}

impl InterimSender for Http1InterimSender {
    fn send(&self, response: Response<()>) {
        let mut io = self.channel.lock();
        if io.number == self.number && io.interim.push(response) {
            io.socket.shared.activity.waker.wake();
        }
    }
}
