//! Bytes that wait for the socket of a connection, in the order in which they were appended.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

use crate::buffers;

/// A smaller piece of content is copied.
const SMALL_PIECE: usize = 2 * 1024;

/// A queue of at most three segments. It has one end: whatever is appended follows all that is not written yet.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    front: Vec<u8>,
    /// Content that is not copied.
    piece: Bytes,
    /// Empty without a `piece`.
    back: Vec<u8>,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.piece.is_empty()
    }

    /// Returns whether the next piece of content may be taken: a client that takes nothing holds one.
    pub(super) fn has_space(&self) -> bool {
        self.piece.is_empty() && self.front.len() <= SMALL_PIECE
    }

    /// Returns the last segment, to append to it.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        match self.piece.is_empty() {
            true => &mut self.front,
            false => &mut self.back,
        }
    }

    /// Returns the last segment, with memory for a head.
    pub(super) fn begin_head(&mut self) -> &mut Vec<u8> {
        if self.is_empty() {
            self.front = buffers::take_response();
        }
        self.end()
    }

    /// Appends content.
    pub(super) fn push(&mut self, data: Bytes) {
        match self.piece.is_empty() && data.len() > SMALL_PIECE {
            true => self.piece = data,
            false => self.end().extend_from_slice(&data),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes all of it.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let mut socket = Pin::new(&mut *socket);
            let written = match self.piece.is_empty() {
                true => socket.as_mut().poll_write(cx, &self.front),
                false => {
                    let slices = [&self.front[..], &self.piece, &self.back].map(IoSlice::new);
                    socket.as_mut().poll_write_vectored(cx, &slices)
                }
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.advance(n),
            }
        }
        buffers::give_response(mem::take(&mut self.front));
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_front = written.min(self.front.len());
        self.front.drain(..of_front);
        let of_piece = (written - of_front).min(self.piece.len());
        self.piece.advance(of_piece);
        if self.piece.is_empty() {
            // The front has been written: the rest, which is short, takes its place.
            self.back.drain(..written - of_front - of_piece);
            self.front.append(&mut self.back);
        }
    }
}
