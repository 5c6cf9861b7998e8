//! The content of a request between its stream and its service.
//!
//! The service pulls content from its stream. What arrives while the service does not wait for it is *held*: copied
//! from the buffers of the protocol, of which a small frame may keep much, and dropped when the stream or its connection
//! ends. The window of the stream and the grants of its connection ([`super::window`]) limit it.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use landfall::service::RequestBodyError;

use super::ReceiveHalf;
use super::window::WindowUse;
use crate::connection::{MAX_TRAILERS, SMALL_HEAD, fields_memory};
use crate::limits::timeouts::{ConnectionActivity, ServerShared};

/// The most memory of held content that is allocated at once.
const MAX_CHUNK: usize = 64 * 1024;

pub(super) type ContentEnd = Result<Option<HeaderMap>, RequestBodyError>;

/// The next piece of a content.
pub(super) enum Piece {
    Data(Bytes),
    /// Nothing follows.
    End(ContentEnd),
}

pub(super) struct Intake {
    /// `None` after the end, when what is held has been taken, too.
    half: Option<Box<dyn ReceiveHalf>>,
    window: Option<WindowUse>,
    held: HeldContent,
    /// Bytes of `Content-Length` that have not arrived.
    missing: Option<u64>,
    has_data_ended: bool,
    /// Behind what is held.
    end: Option<ContentEnd>,
    /// Of trailers in `end`.
    counted: u64,
    /// The end has been taken.
    pub(super) is_finished: bool,
    /// The service does not want the rest.
    pub(super) is_abandoned: bool,
    /// The service waits for content, and is woken when some arrives.
    pub(super) is_awaited: bool,
    server: Arc<ServerShared>,
    activity: Arc<ConnectionActivity>,
}

impl Intake {
    /// Of a request without content.
    pub(super) fn new(server: &Arc<ServerShared>, activity: &Arc<ConnectionActivity>) -> Self {
        Self {
            half: None,
            window: None,
            held: HeldContent::default(),
            missing: None,
            has_data_ended: false,
            end: None,
            counted: 0,
            is_finished: true,
            is_abandoned: false,
            is_awaited: false,
            server: server.clone(),
            activity: activity.clone(),
        }
    }

    pub(super) fn begin(
        &mut self,
        half: Box<dyn ReceiveHalf>,
        window: WindowUse,
        length: Option<u64>,
    ) {
        self.half = Some(half);
        self.window = Some(window);
        self.missing = length;
        self.is_finished = false;
    }

    /// Returns the bytes that follow, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        let held = self.held.len as u64;
        match self.is_finished || self.end.is_some() {
            true => Some(held),
            false => self.missing.map(|missing| missing + held),
        }
    }

    /// Holds the first piece. Returns whether there is none.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> bool {
        match self.poll_half(cx) {
            Poll::Pending => {}
            Poll::Ready(Piece::Data(data)) => {
                if let Some(window) = &mut self.window {
                    window.hold(data.len());
                }
                self.held.push(data);
            }
            Poll::Ready(Piece::End(Ok(None))) => self.finish(),
            Poll::Ready(Piece::End(end)) => self.end = Some(end),
        }
        self.is_finished
    }

    /// Takes the next piece.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        self.is_awaited = false;
        let data = match self.held.pop() {
            Some(data) => {
                if let Some(window) = &mut self.window {
                    window.release(data.len());
                }
                data
            }
            None if self.end.is_some() => return Poll::Ready(self.take_end()),
            None => match self.poll_half(cx) {
                Poll::Ready(Piece::Data(data)) => data,
                Poll::Ready(Piece::End(end)) => {
                    self.end = Some(end);
                    return Poll::Ready(self.take_end());
                }
                Poll::Pending => {
                    self.is_awaited = true;
                    return Poll::Pending;
                }
            },
        };
        let rest = self.left();
        if let Some(window) = &mut self.window {
            window.receive(data.len() as u64, rest);
        }
        if let Some(half) = &mut self.half {
            half.release(data.len());
            // Its end may have come with the data.
            if self.end.is_none() && self.held.len == 0 && half.has_ended() {
                self.end = Some(self.check_length().map(|()| None));
            }
        }
        if matches!(self.end, Some(Ok(None))) && self.held.len == 0 {
            self.finish();
        }
        Poll::Ready(Piece::Data(data))
    }

    fn take_end(&mut self) -> Piece {
        let end = self.end.take().unwrap_or(Ok(None));
        self.finish();
        Piece::End(end)
    }

    fn finish(&mut self) {
        self.server.count_head(&mut self.counted, 0);
        self.is_finished = true;
        self.end = None;
        self.half = None;
        self.window = None;
    }

    /// Receives from the stream, and does not give its client a new window.
    fn poll_half(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let Some(half) = &mut self.half else {
            return Poll::Ready(Piece::End(Ok(None)));
        };
        if !self.has_data_ended {
            match ready!(half.poll_data(cx)) {
                Err(error) => return Poll::Ready(Piece::End(Err(error))),
                Ok(None) => self.has_data_ended = true,
                Ok(Some(data)) => {
                    self.activity.add_read(data.len());
                    let len = data.len() as u64;
                    if let Some(missing) = &mut self.missing {
                        // The content may be longer than its `Content-Length`.
                        match missing.checked_sub(len) {
                            Some(less) => *missing = less,
                            None => {
                                let error = RequestBodyError::Malformed;
                                return Poll::Ready(Piece::End(Err(error)));
                            }
                        }
                    }
                    return Poll::Ready(Piece::Data(data));
                }
            }
        }
        if let Err(error) = self.check_length() {
            return Poll::Ready(Piece::End(Err(error)));
        }
        let Some(half) = &mut self.half else {
            return Poll::Ready(Piece::End(Ok(None)));
        };
        let trailers = ready!(half.poll_trailers(cx));
        Poll::Ready(Piece::End(trailers.and_then(|trailers| {
            let bytes = trailers.as_ref().map_or(0, fields_memory);
            if bytes > MAX_TRAILERS {
                tracing::debug!("the trailers are too long");
                return Err(RequestBodyError::Malformed);
            }
            let counted = if bytes > SMALL_HEAD { bytes as u64 } else { 0 };
            if !self.server.count_head(&mut self.counted, counted) {
                self.server.count_head(&mut self.counted, 0);
                return Err(RequestBodyError::Failed);
            }
            Ok(trailers)
        })))
    }

    fn check_length(&self) -> Result<(), RequestBodyError> {
        match self.missing {
            Some(1..) => Err(RequestBodyError::UnexpectedEnd),
            _ => Ok(()),
        }
    }

    /// Holds what has arrived. Returns whether the service should be woken, if it waits in another task.
    pub(super) fn hold(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_awaited || self.is_abandoned {
            return false;
        }
        let mut has_new = false;
        while self.end.is_none()
            && let Some(half) = &self.half
        {
            let keeps_window = half.keeps_window();
            // Else what is taken from the stream comes back as a window.
            if !keeps_window && self.space() == 0 {
                break;
            }
            let Poll::Ready(piece) = self.poll_half(cx) else {
                break;
            };
            has_new = true;
            match piece {
                Piece::Data(data) => {
                    if let Some(window) = &mut self.window {
                        window.hold(data.len());
                    }
                    self.held.push(data);
                    if keeps_window {
                        self.space();
                    }
                }
                Piece::End(Err(RequestBodyError::Reset)) => self.leave(),
                Piece::End(end) => self.end = Some(end),
            }
        }
        has_new
    }

    /// Lets the window grow with what is held. Returns the bytes that may be held besides.
    fn space(&mut self) -> u32 {
        let missing = self.missing;
        let window = self.window.as_mut();
        window.map_or(0, |window| window.space(missing))
    }

    /// The client has left, or cancelled the request: drops what the service has not taken.
    pub(super) fn leave(&mut self) {
        if self.is_finished {
            return;
        }
        self.drop_held();
        self.server.count_head(&mut self.counted, 0);
        self.end = Some(Err(RequestBodyError::Reset));
        self.half = None;
        self.window = None;
    }

    /// The service does not want the rest.
    pub(super) fn abandon(&mut self, max_rest: u64) {
        if self.is_finished {
            return;
        }
        let is_long = self.missing.is_some_and(|missing| missing > max_rest);
        self.drop_held();
        self.is_abandoned = true;
        self.window = None;
        self.half = match self.half.take() {
            Some(half) if is_long => half.ignore(),
            half => half,
        };
    }

    fn drop_held(&mut self) {
        let held = mem::take(&mut self.held);
        if let Some(window) = &mut self.window {
            window.release(held.len);
        }
        if let Some(half) = &mut self.half {
            half.release(held.len);
        }
    }

    /// Discards what arrives of an abandoned rest, at most `left` bytes. Returns whether it has ended.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, left: &mut u64) -> Poll<bool> {
        while self.end.is_none() && self.half.is_some() && !self.has_data_ended {
            let Piece::Data(data) = ready!(self.poll_half(cx)) else {
                break;
            };
            if let Some(half) = &mut self.half {
                half.release(data.len());
            }
            match left.checked_sub(data.len() as u64) {
                Some(less) => *left = less,
                None => return Poll::Ready(false),
            }
        }
        Poll::Ready(true)
    }

    /// Refuses the rest, after the response.
    pub(super) fn refuse(&mut self) {
        if let Some(half) = self.half.take() {
            half.refuse();
        }
    }

    pub(super) fn has_rest(&self) -> bool {
        self.half.is_some()
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.server.count_head(&mut self.counted, 0);
    }
}

/// Received bytes in memory of their own, at most twice as much as there are.
#[derive(Default)]
struct HeldContent {
    chunks: VecDeque<BytesMut>,
    len: usize,
}

impl HeldContent {
    fn push(&mut self, mut data: Bytes) {
        while !data.is_empty() {
            let space = |chunk: &BytesMut| chunk.capacity() - chunk.len();
            if self.chunks.back().is_none_or(|last| space(last) == 0) {
                let capacity = data.len().max(self.len).min(MAX_CHUNK);
                self.chunks.push_back(BytesMut::with_capacity(capacity));
            }
            if let Some(last) = self.chunks.back_mut() {
                let part = data.split_to(data.len().min(space(last)));
                last.extend_from_slice(&part);
                self.len += part.len();
            }
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let data = self.chunks.pop_front()?.freeze();
        self.len -= data.len();
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_content_takes_at_most_twice_its_memory() {
        for frame in [1, 100, 16_384, 100_000] {
            let (mut held, mut sent) = (HeldContent::default(), Vec::new());
            while sent.len() < 300_000 {
                let data: Vec<u8> = (0..frame).map(|n| (sent.len() + n) as u8).collect();
                sent.extend_from_slice(&data);
                held.push(data.into());
                let memory: usize = held.chunks.iter().map(BytesMut::capacity).sum();
                assert!(memory <= 2 * sent.len(), "{memory} for {}", sent.len());
            }
            assert_eq!(held.len, sent.len());
            let mut taken = Vec::new();
            while let Some(data) = held.pop() {
                taken.extend_from_slice(&data);
            }
            assert!(taken == sent && held.len == 0);
        }
    }
}
