//! h3's interface to QUIC, on quinn.
//!
//! In place of h3-quinn, which buffers a frame of any length and panics when a stream is stopped that is
//! being read.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h3::error::Code;
use h3::quic::{
    self, ConnectionErrorIncoming, RecvStream as _, StreamErrorIncoming, StreamId, WriteBuf,
};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::frames::FrameCheck;
use crate::stream::task;

/// Bytes that a client may send on one of its unidirectional streams: settings, priorities, and the tables
/// of QPACK, which are not used.
const MAX_CONTROL_BYTES: u64 = 1 << 20;

/// Reads without content for h3, after which other tasks have their turn.
const MAX_EMPTY_READS: usize = 32;

type Pending<T> = Option<Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send>>>;

fn poll_pending<T, F>(
    pending: &mut Pending<T>,
    cx: &mut Context<'_>,
    connection: &quinn::Connection,
    start: impl FnOnce(quinn::Connection) -> F,
) -> Poll<Result<T, ConnectionError>>
where
    F: Future<Output = Result<T, ConnectionError>> + Send + 'static,
{
    let future = pending.get_or_insert_with(|| Box::pin(start(connection.clone())));
    let done = ready!(future.as_mut().poll(cx));
    *pending = None;
    Poll::Ready(done)
}

pub(super) struct QuicConnection {
    connection: quinn::Connection,
    max_head: u64,
    requests: Pending<(quinn::SendStream, quinn::RecvStream)>,
    receiving: Pending<quinn::RecvStream>,
    /// A control stream of the server.
    sending: Pending<quinn::SendStream>,
}

impl QuicConnection {
    pub(super) fn new(connection: quinn::Connection, max_head: u64) -> Self {
        Self {
            connection,
            max_head,
            requests: None,
            receiving: None,
            sending: None,
        }
    }
}

impl quic::Connection<Bytes> for QuicConnection {
    type RecvStream = QuicStream;
    type OpenStreams = Self;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<QuicStream, ConnectionErrorIncoming>> {
        let accept = |connection: quinn::Connection| async move { connection.accept_uni().await };
        let accepted = poll_pending(&mut self.receiving, cx, &self.connection, accept);
        let stream = ready!(accepted).map_err(connection_error)?;
        let limit = Limit::Total(MAX_CONTROL_BYTES);
        Poll::Ready(Ok(QuicStream::new(stream.id(), None, Some(stream), limit)))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<QuicStream, ConnectionErrorIncoming>> {
        let accept = |connection: quinn::Connection| async move { connection.accept_bi().await };
        let accepted = poll_pending(&mut self.requests, cx, &self.connection, accept);
        let (sending, receiving) = ready!(accepted).map_err(connection_error)?;
        let limit = Limit::Frames(FrameCheck::new(self.max_head));
        let (id, sending) = (receiving.id(), Some(sending));
        Poll::Ready(Ok(QuicStream::new(id, sending, Some(receiving), limit)))
    }

    fn opener(&self) -> Self {
        Self::new(self.connection.clone(), self.max_head)
    }
}

impl quic::OpenStreams<Bytes> for QuicConnection {
    type BidiStream = QuicStream;
    type SendStream = QuicStream;

    fn poll_open_bidi(
        &mut self,
        _cx: &mut Context<'_>,
    ) -> Poll<Result<QuicStream, StreamErrorIncoming>> {
        let reason = "a server opens no requests".into();
        Poll::Ready(Err(StreamErrorIncoming::Unknown(reason)))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<QuicStream, StreamErrorIncoming>> {
        let open = |connection: quinn::Connection| async move { connection.open_uni().await };
        let opened = poll_pending(&mut self.sending, cx, &self.connection, open);
        let stream = ready!(opened).map_err(stream_connection_error)?;
        let limit = Limit::Total(0);
        Poll::Ready(Ok(QuicStream::new(stream.id(), Some(stream), None, limit)))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(integer(code.value()), reason);
    }
}

/// A stream, or one half of it.
pub(super) struct QuicStream {
    id: StreamId,
    sending: Option<quinn::SendStream>,
    writing: Option<WriteBuf<Bytes>>,
    receiving: Option<quinn::RecvStream>,
    limit: Limit,
    /// Received and checked.
    checked: VecDeque<Bytes>,
}

enum Limit {
    /// Of a request.
    Frames(FrameCheck),
    /// The number of bytes a stream without a request may have.
    Total(u64),
}

impl QuicStream {
    fn new(
        id: quinn::StreamId,
        sending: Option<quinn::SendStream>,
        receiving: Option<quinn::RecvStream>,
        limit: Limit,
    ) -> Self {
        Self {
            // Both are integers below 2^62.
            id: StreamId::try_from(u64::from(id)).expect("an id of QUIC is one of HTTP/3"),
            sending,
            writing: None,
            receiving,
            limit,
            checked: VecDeque::new(),
        }
    }

    fn check(&mut self, bytes: Bytes) -> Result<(), StreamErrorIncoming> {
        match &mut self.limit {
            Limit::Frames(frames) => frames.receive(bytes, &mut self.checked).map_err(|error| {
                self.stop_sending(Code::H3_EXCESSIVE_LOAD.value());
                StreamErrorIncoming::Unknown(error.into())
            }),
            Limit::Total(left) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
                    let reason = "a control stream is too long".to_owned();
                    let connection_error = ConnectionErrorIncoming::InternalError(reason);
                    StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
                })?;
                self.checked.push_back(bytes);
                Ok(())
            }
        }
    }

    fn check_end(&self) -> Result<(), StreamErrorIncoming> {
        match &self.limit {
            Limit::Frames(frames) if !frames.is_between_frames() => {
                let reason = "the stream ends within a frame".into();
                Err(StreamErrorIncoming::Unknown(reason))
            }
            _ => Ok(()),
        }
    }
}

impl quic::BidiStream<Bytes> for QuicStream {
    type SendStream = Self;
    type RecvStream = Self;

    fn split(mut self) -> (Self, Self) {
        let sending = Self {
            id: self.id,
            sending: self.sending.take(),
            writing: self.writing.take(),
            receiving: None,
            limit: Limit::Total(0),
            checked: VecDeque::new(),
        };
        (sending, self)
    }
}

impl quic::SendStream<Bytes> for QuicStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some((data, stream)) = self.writing.as_mut().zip(self.sending.as_mut()) {
            while data.has_remaining() {
                let written = Pin::new(&mut *stream).poll_write(cx, data.chunk());
                let written = ready!(written).map_err(write_error)?;
                task::count_written(written);
                data.advance(written);
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            let reason = "the previous frame is not written".into();
            return Err(StreamErrorIncoming::Unknown(reason));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(self.poll_ready(cx))?;
        let finished = self
            .sending
            .as_mut()
            .map_or(Ok(()), |stream| stream.finish());
        Poll::Ready(finished.map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, code: u64) {
        // A stream that has ended needs no reset.
        let stream = self.sending.as_mut();
        let _ = stream.map(|stream| stream.reset(integer(code)));
    }

    fn send_id(&self) -> StreamId {
        self.id
    }
}

impl quic::RecvStream for QuicStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        for _ in 0..MAX_EMPTY_READS {
            if let Some(bytes) = self.checked.pop_front() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            let Some(stream) = &mut self.receiving else {
                return Poll::Ready(Ok(None));
            };
            // The future keeps nothing between polls, so it can be dropped while it is pending.
            let read = pin!(stream.read_chunk(usize::MAX, true)).poll(cx);
            match ready!(read).map_err(read_error)? {
                Some(chunk) => self.check(chunk.bytes)?,
                None => return Poll::Ready(self.check_end().map(|()| None)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn stop_sending(&mut self, code: u64) {
        // A stream that has ended needs no stop.
        let stream = self.receiving.as_mut();
        let _ = stream.map(|stream| stream.stop(integer(code)));
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

fn integer(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

fn connection_error(error: ConnectionError) -> ConnectionErrorIncoming {
    ConnectionErrorIncoming::Undefined(Arc::new(error))
}

fn stream_connection_error(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming {
        connection_error: connection_error(error),
    }
}

fn read_error(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        ReadError::ConnectionLost(error) => stream_connection_error(error),
        error => StreamErrorIncoming::Unknown(error.into()),
    }
}

fn write_error(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        WriteError::ConnectionLost(error) => stream_connection_error(error),
        error => StreamErrorIncoming::Unknown(error.into()),
    }
}
