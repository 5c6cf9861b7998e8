//! The socket of a connection, below HTTP/1.1 and h2: counts bytes, and applies timeouts.

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::ConnectionShared;
use super::limits::timeouts::{READING, TimeoutAction, WRITING};
use super::stats::NetStats;
use super::tls::TlsStream;

#[derive(Debug)]
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
    #[cfg(test)]
    Scripted(Box<dyn ScriptedSocket>),
    Closed,
}

#[cfg(test)]
pub(super) trait ScriptedSocket:
    AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug
{
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Socket::Plain($inner) => $call,
            Socket::Tls($inner) => $call,
            #[cfg(test)]
            Socket::Scripted($inner) => $call,
            Socket::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    };
}

#[derive(Debug)]
pub(super) struct ServerIo {
    stream: Socket,
    pub(super) shared: Arc<ConnectionShared>,
    is_http2: bool,
    /// The start of HTTP/2.
    read_ahead: Bytes,
    ended: bool,
    waiting: u8,
    /// Bytes that HTTP/2 has read without a pause.
    burst: usize,
}

impl ServerIo {
    /// # Errors
    /// The configuration of TLS is not valid.
    pub(super) fn new(
        stream: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        shared: Arc<ConnectionShared>,
    ) -> io::Result<Self> {
        let stream = match tls {
            Some(config) => Socket::Tls(Box::new(TlsStream::new(stream, config)?)),
            None => Socket::Plain(stream),
        };
        Ok(Self::on(stream, shared))
    }

    #[cfg(test)]
    pub(super) fn scripted(
        stream: impl ScriptedSocket + 'static,
        shared: Arc<ConnectionShared>,
    ) -> Self {
        Self::on(Socket::Scripted(Box::new(stream)), shared)
    }

    fn on(stream: Socket, shared: Arc<ConnectionShared>) -> Self {
        Self {
            stream,
            shared,
            is_http2: false,
            read_ahead: Bytes::new(),
            ended: false,
            waiting: 0,
            burst: 0,
        }
    }

    /// Leaves a closed one.
    pub(super) fn take(&mut self) -> Self {
        let closed = Self::on(Socket::Closed, self.shared.clone());
        mem::replace(self, closed)
    }

    /// Returns whether the client has closed its side.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// For HTTP/2, whose first bytes have been read.
    pub(super) fn start_http2(&mut self, read_ahead: Bytes) {
        self.is_http2 = true;
        self.read_ahead = read_ahead;
    }

    /// The connection waits for nothing that has a timeout.
    pub(super) fn stop_waiting(&mut self) {
        self.set_waiting(READING | WRITING, false);
    }

    /// The client may take the written bytes later.
    pub(super) fn stop_waiting_to_write(&mut self) {
        self.set_waiting(WRITING, false);
    }

    pub(super) fn has_handshake(&self) -> bool {
        matches!(self.stream, Socket::Tls(_))
    }

    /// Returns whether the client chose HTTP/2; `None` if there is no more to do. An error has been logged.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        let Socket::Tls(stream) = &mut self.stream else {
            return Poll::Ready(Some(false));
        };
        let outcome = ready!(stream.poll_handshake(cx));
        let stats = &self.shared.server.stats;
        Poll::Ready(match outcome {
            Ok(http2) => {
                NetStats::add(&stats.tls_handshakes, 1);
                if let Some(certificate) = stream.client_certificate() {
                    let _ = self.shared.client_certificate.set(certificate);
                }
                self.is_http2 = http2 == Some(true);
                http2
            }
            Err(error) => {
                NetStats::add(&stats.tls_errors, 1);
                tracing::debug!(%error, peer = self.shared.peer.text(), "TLS handshake failed");
                None
            }
        })
    }

    /// Reads at most `limit` bytes, for which `input` has space. 0 at the end.
    pub(super) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut space = input.limit(limit);
        let outcome =
            either!(&mut self.stream, stream => pin!(stream.read_buf(&mut space)).poll(cx));
        self.count_read(outcome)
    }

    /// Reads and discards.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); 32 * 1024];
        let mut buf = ReadBuf::uninit(&mut space);
        let outcome = either!(&mut self.stream, stream => Pin::new(stream).poll_read(cx, &mut buf));
        self.count_read(outcome.map_ok(|()| buf.filled().len()))
    }

    /// Closes the sending side.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.stream, stream => Pin::new(&mut *stream).poll_shutdown(cx))
    }

    fn count_read(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.set_waiting(READING, outcome.is_pending());
        match outcome {
            Poll::Ready(Ok(0)) => self.ended = true,
            Poll::Ready(Ok(n)) => self.shared.activity.add_read(n),
            _ => {}
        }
        outcome
    }

    fn set_waiting(&mut self, direction: u8, waiting: bool) {
        let now = match waiting {
            true => self.waiting | direction,
            false => self.waiting & !direction,
        };
        if now != self.waiting {
            self.waiting = now;
            self.shared.activity.set_waiting(direction, waiting);
        }
    }

    /// Returns the action that a timeout requires.
    pub(super) fn action(&self) -> Option<TimeoutAction> {
        let action = self.shared.activity.action()?;
        let void = self.is_http2 && self.shared.has_streams();
        (!void || action == TimeoutAction::ResponseStalled).then_some(action)
    }

    fn write_stopped(&self) -> io::Result<()> {
        match self.action() {
            Some(TimeoutAction::ResponseStalled) => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    fn count_written(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.set_waiting(WRITING, outcome.is_pending());
        if let Poll::Ready(Ok(n)) = outcome {
            self.shared.activity.add_written(n);
        }
        outcome
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if !me.read_ahead.is_empty() {
            let n = me.read_ahead.len().min(buf.remaining());
            buf.put_slice(&me.read_ahead[..n]);
            me.read_ahead.advance(n);
            return Poll::Ready(Ok(()));
        }
        match me.action() {
            None => {}
            Some(TimeoutAction::Close) => return Poll::Ready(Ok(())),
            Some(_) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
        if me.burst >= me.shared.server.limits.read_buffer {
            // h2 would read as much as the window allows before any stream is served.
            me.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let outcome = either!(&mut me.stream, stream => Pin::new(stream).poll_read(cx, buf));
        let read = me.count_read(outcome.map_ok(|()| buf.filled().len() - before));
        match &read {
            Poll::Ready(Ok(n)) => me.burst += n,
            _ => me.burst = 0,
        }
        read.map_ok(drop)
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_stopped()?;
        let outcome = either!(&mut self.stream, stream => Pin::new(stream).poll_write(cx, bytes));
        self.count_written(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Heads without a body are one slice; a plain write is cheaper than a vectored one.
        if let [slice] = slices {
            return self.poll_write(cx, slice);
        }
        self.write_stopped()?;
        let outcome =
            either!(&mut self.stream, stream => Pin::new(stream).poll_write_vectored(cx, slices));
        self.count_written(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Socket::Tls(stream) = &mut self.stream {
            let outcome = Pin::new(stream).poll_flush(cx);
            self.set_waiting(WRITING, outcome.is_pending());
            ready!(outcome)?;
        }
        if self.is_http2 {
            self.shared.flushes.fetch_add(1, Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    /// The connection closes the socket when h2 has finished.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
