//! The socket below hyper and h2: counts bytes, applies timeouts and validates heads.

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::header::ORIGIN;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::body_error::AbortReason;
use super::connection::ConnectionShared;
use super::proxy_protocol::ProxyHeader;
use super::rejection::HttpRejection;
use super::request_head::{RequestHeadValidator, ScannedHeads, TOO_MANY_LARGE_HEADS};
use super::shutdown::ShutdownPhase;
use super::stats::NetStats;
use super::timeouts::{Phase, READING, SLOW_READ, ServerShared, TimeoutAction, WRITING};
use super::tls::TlsStream;

/// Bytes left of a body for which larger reads are worth the memory.
const LONG_BODY: u64 = 16 * 1024 * 1024;

/// Memory of an unfinished head that is not counted.
const SMALL_HEAD: usize = 8 * 1024;

/// RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    Unix(UnixStream),
}

/// An accepted socket that is in no runtime.
#[derive(Debug)]
pub(super) enum DetachedSocket {
    Tcp(std::net::TcpStream, Option<Arc<ServerConfig>>),
    Unix(std::os::unix::net::UnixStream),
}

impl DetachedSocket {
    pub(super) fn attach(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream, tls) => {
                let stream = TcpStream::from_std(stream)?;
                match tls {
                    Some(config) => Socket::Tls(Box::new(TlsStream::new(stream, config)?)),
                    None => Socket::Tcp(stream),
                }
            }
            Self::Unix(stream) => Socket::Unix(UnixStream::from_std(stream)?),
        })
    }
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Socket::Tcp($inner) => $call,
            Socket::Tls($inner) => $call,
            Socket::Unix($inner) => $call,
        }
    };
}

#[derive(Debug)]
pub(super) struct ServerIo {
    stream: Socket,
    shared: Arc<ConnectionShared>,
    validator: Option<RequestHeadValidator>,
    read_ahead: Vec<u8>,
    /// With the fields of the request that matter for the response.
    rejection: Option<Box<(HttpRejection, HeaderMap)>>,
    head_bytes: u64,
    ended: bool,
    waiting: u8,
    /// The last read filled the buffer, and much of the body is left.
    is_fast: bool,
    reads_large: bool,
    /// A head is coming that is larger than hyper's buffer.
    has_large_head: bool,
    holds_large_head: bool,
    /// Of the last read, for hyper.
    error: Option<io::Error>,
    /// Bytes that HTTP/2 has read without a pause.
    burst: usize,
}

impl ServerIo {
    pub(super) fn new(stream: Socket, shared: Arc<ConnectionShared>) -> Self {
        let limits = &shared.server.limits;
        let validator = RequestHeadValidator::new(limits.max_head);
        let validator = Some(validator.accept_both_lengths(limits.both_lengths));
        Self {
            stream,
            shared,
            validator,
            read_ahead: Vec::new(),
            rejection: None,
            head_bytes: 0,
            ended: false,
            waiting: 0,
            is_fast: false,
            reads_large: false,
            has_large_head: false,
            holds_large_head: false,
            error: None,
            burst: 0,
        }
    }

    pub(super) fn take_rejection(&mut self) -> Option<Box<(HttpRejection, HeaderMap)>> {
        self.rejection.take()
    }

    /// The client closed its side, or its time is over.
    pub(super) fn must_close(&self) -> bool {
        self.ended || self.action() == Some(TimeoutAction::Close)
    }

    pub(super) fn set_reads_large(&mut self, reads_large: bool) {
        self.reads_large = reads_large;
        self.holds_large_head = reads_large;
    }

    pub(super) fn set_holds_large_head(&mut self) {
        self.holds_large_head = true;
    }

    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.read_ahead.splice(..0, bytes.iter().copied());
    }

    pub(super) fn resume_body(&mut self) -> bool {
        let validator = self.validator.as_ref();
        let Some(remainder) = validator.and_then(RequestHeadValidator::remainder) else {
            return false;
        };
        let head = self.shared.handover.head(&remainder);
        self.unread(&head);
        true
    }

    pub(super) fn stop_waiting(&mut self) {
        self.set_waiting(READING | WRITING, false);
    }

    /// Waits, without a buffer, for bytes or for a reason to stop.
    pub(super) fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.read_ahead.is_empty() || self.stopped().is_some() {
            return Poll::Ready(());
        }
        let readable = either!(&self.stream, stream => stream.poll_read_ready(cx)).map(drop);
        self.set_waiting(READING, readable.is_pending());
        readable
    }

    /// Reads the next bytes of a body of known length, at most [`SLOW_READ`], but not the last one. `None` if
    /// hyper must read: the end, another body, an error.
    pub(super) fn poll_slow_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let validator = self.validator.as_ref();
        let left = validator.and_then(RequestHeadValidator::bytes_left);
        let Some(left) = left.filter(|left| *left > 1) else {
            return self.poll_input(cx).map(|()| None);
        };
        if !self.read_ahead.is_empty() || self.stopped().is_some() {
            return Poll::Ready(None);
        }
        let mut space = [MaybeUninit::uninit(); SLOW_READ];
        let limit = (left - 1).min(SLOW_READ as u64) as usize;
        let mut buf = ReadBuf::uninit(&mut space[..limit]);
        let outcome = ready!(Pin::new(&mut *self).poll_read(cx, &mut buf));
        self.error = outcome.err();
        let bytes = buf.filled();
        Poll::Ready((!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes)))
    }

    /// Replaces the state of a proxy's connection with that of its client.
    pub(super) fn set_shared(&mut self, shared: Arc<ConnectionShared>) {
        self.shared = shared;
    }

    /// See [`ProxyHeader::poll_read`]. An error has been logged.
    pub(super) fn poll_proxy_header(
        &mut self,
        cx: &mut Context<'_>,
        header: &mut ProxyHeader,
    ) -> Poll<io::Result<Option<SocketAddr>>> {
        if self.shared.activity.action().is_some() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let outcome = match &mut self.stream {
            Socket::Tcp(tcp) => header.poll_read(tcp, cx),
            Socket::Tls(tls) => header.poll_read(tls.tcp(), cx),
            Socket::Unix(_) => Poll::Ready(Ok(None)),
        };
        self.set_waiting(READING, outcome.is_pending());
        let outcome = ready!(outcome);
        if let Err(error) = &outcome
            && !header.is_empty()
        {
            self.shared
                .server
                .reject_proxy(self.shared.info.peer, error);
        }
        Poll::Ready(outcome)
    }

    pub(super) fn has_handshake(&self) -> bool {
        matches!(self.stream, Socket::Tls(_))
    }

    /// Returns whether the client chose HTTP/2; `None` if there is no more to do. An error has been logged.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        let Socket::Tls(stream) = &mut self.stream else {
            return Poll::Ready(Some(false));
        };
        if self.shared.activity.action().is_some() {
            return Poll::Ready(None);
        }
        let outcome = stream.poll_handshake(cx);
        let certificate = match outcome {
            Poll::Ready(Ok(_)) => stream.client_certificate(),
            _ => None,
        };
        self.set_waiting(READING, outcome.is_pending());
        let stats = &self.shared.server.stats;
        Poll::Ready(match ready!(outcome) {
            Ok(http2) => {
                NetStats::add(&stats.tls_handshakes, 1);
                if let Some(certificate) = certificate {
                    let _ = self.shared.client_certificate.set(certificate);
                }
                if http2 == Some(true) {
                    self.validator = None;
                }
                http2
            }
            Err(error) => {
                NetStats::add(&stats.tls_errors, 1);
                tracing::debug!(%error, peer = %self.shared.info.peer, "TLS handshake failed");
                None
            }
        })
    }

    /// The bytes stay in the buffer.
    pub(super) fn poll_sniff(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if !PREFACE.starts_with(&self.read_ahead) || self.action().is_some() || self.ended {
                let bytes = mem::take(&mut self.read_ahead);
                self.scan_read_ahead(bytes);
                return Poll::Ready(Ok(false));
            }
            if self.read_ahead.len() == PREFACE.len() {
                self.validator = None;
                return Poll::Ready(Ok(true));
            }
            let mut space = [MaybeUninit::uninit(); PREFACE.len()];
            let mut buf = ReadBuf::uninit(&mut space[self.read_ahead.len()..]);
            ready!(self.poll_fill(cx, &mut buf))?;
            self.read_ahead.extend_from_slice(buf.filled());
        }
    }

    fn scan_read_ahead(&mut self, mut bytes: Vec<u8>) {
        let Some(validator) = &mut self.validator else {
            return;
        };
        match validator.scan(&bytes) {
            Ok(passed) => {
                self.shared.set_heads(validator.heads());
                self.shared.set_must_close(validator.must_close());
                bytes.truncate(passed.forward_len);
                self.read_ahead = bytes;
            }
            Err(rejection) => self.reject(rejection, &bytes),
        }
    }

    /// `bytes` were read last.
    fn reject(&mut self, mut rejection: HttpRejection, bytes: &[u8]) {
        let mut fields = HeaderMap::new();
        if let Some(validator) = &mut self.validator {
            let (is_head, origin) = validator.rejected_request(bytes);
            if is_head {
                rejection = rejection.for_head();
            }
            fields.extend(origin.map(|origin| (ORIGIN, origin)));
            validator.clear();
        }
        self.rejection = Some(Box::new((rejection, fields)));
        self.count_head();
    }

    /// False if the limit for all heads is exceeded.
    fn count_head(&mut self) -> bool {
        let validator = self.validator.as_ref();
        let memory = validator.map_or(0, RequestHeadValidator::memory);
        let is_large = memory > SMALL_HEAD;
        let now = if is_large { memory as u64 } else { 0 };
        let before = mem::replace(&mut self.head_bytes, now);
        if now == before {
            return true;
        }
        let ServerShared { stats, limits, .. } = &*self.shared.server;
        if now < before {
            stats.head_bytes.fetch_sub(before - now, Relaxed);
            return true;
        }
        stats.head_bytes.fetch_add(now - before, Relaxed) + (now - before) <= limits.head_memory
    }

    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); 32 * 1024];
        let mut buf = ReadBuf::uninit(&mut space);
        ready!(self.poll_fill(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.stream, stream => Pin::new(&mut *stream).poll_shutdown(cx))
    }

    fn copy_read_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.read_ahead.len().min(buf.remaining());
        buf.put_slice(&self.read_ahead[..n]);
        self.read_ahead.drain(..n);
        if self.read_ahead.is_empty() {
            self.read_ahead = Vec::new();
        }
    }

    /// False while the request before it runs.
    fn needs_space_for_head(&self) -> bool {
        self.has_large_head
            && !self.holds_large_head
            && self.rejection.is_none()
            && matches!(self.shared.activity.phase(), Phase::Head | Phase::Idle)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = either!(&mut self.stream, stream => Pin::new(stream).poll_read(cx, buf));
        self.set_waiting(READING, outcome.is_pending());
        ready!(outcome)?;
        match buf.filled().len() - before {
            0 => self.ended = true,
            n => {
                self.shared.activity.add_read(n);
                let server = &self.shared.server;
                if n >= server.limits.read_buffer && !self.reads_large {
                    let left = self.validator.as_ref().and_then(|v| v.bytes_left());
                    self.is_fast =
                        left.is_some_and(|left| left >= LONG_BODY) && server.has_large_reads();
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn set_waiting(&mut self, direction: u8, waiting: bool) {
        let now = if waiting {
            self.waiting | direction
        } else {
            self.waiting & !direction
        };
        if now != self.waiting {
            self.waiting = now;
            if waiting && let Some(validator) = &self.validator {
                let resumable = validator.is_resumable();
                self.shared.resumable.store(resumable, Relaxed);
            }
            self.shared.activity.set_waiting(now);
        }
    }

    fn action(&self) -> Option<TimeoutAction> {
        let action = self.shared.activity.action()?;
        let void = action == TimeoutAction::ReleaseBuffers
            || (self.validator.is_none() && self.shared.has_streams());
        (!void || action == TimeoutAction::ResponseStalled).then_some(action)
    }

    /// An error for a body, else end of input.
    fn stopped(&self) -> Option<io::Result<()>> {
        if let Some(action) = self.action() {
            return Some(match action {
                TimeoutAction::BodyStalled => Err(AbortReason::Timeout.into()),
                TimeoutAction::BodyTooSlow => Err(AbortReason::TooSlow.into()),
                TimeoutAction::ResponseStalled => Err(io::ErrorKind::TimedOut.into()),
                TimeoutAction::Close | TimeoutAction::ReleaseBuffers => Ok(()),
            });
        }
        if self.shared.server.shutdown_phase() >= ShutdownPhase::Aborting
            && self.shared.activity.phase() == Phase::Body
        {
            return Some(Err(AbortReason::ShuttingDown.into()));
        }
        let validator = self.validator.as_ref();
        if validator.is_some_and(RequestHeadValidator::has_broken_trailer) {
            let reason = "a trailer line ends with LF instead of CRLF";
            return Some(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        self.rejection.is_some().then_some(Ok(()))
    }
}

impl Drop for ServerIo {
    fn drop(&mut self) {
        if self.head_bytes > 0 {
            let head_bytes = &self.shared.server.stats.head_bytes;
            head_bytes.fetch_sub(self.head_bytes, Relaxed);
        }
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        loop {
            if me.needs_space_for_head() {
                // The driver replaces hyper's connection, which has seen no byte of it.
                me.shared.wants_large_head.store(true, Relaxed);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // First, since it may be the head for a handed-over request.
            if !me.read_ahead.is_empty() {
                me.copy_read_ahead(buf);
                return Poll::Ready(Ok(()));
            }
            if let Some(outcome) = me.stopped() {
                return Poll::Ready(outcome);
            }
            if let Some(error) = me.error.take() {
                return Poll::Ready(Err(error));
            }
            if mem::take(&mut me.is_fast) {
                // The driver can replace hyper's connection only while that waits for input.
                me.shared.wants_large_reads.store(true, Relaxed);
                me.set_waiting(READING, true);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if me.burst >= me.shared.server.limits.read_buffer {
                // h2 would read as much as the window allows before any stream is served.
                me.burst = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let before = buf.filled().len();
            let outcome = me.poll_fill(cx, buf)?;
            if outcome.is_pending() {
                me.burst = 0;
                return Poll::Pending;
            }
            let Some(validator) = &mut me.validator else {
                me.burst += buf.filled().len() - before;
                return Poll::Ready(Ok(()));
            };
            if me.ended {
                return Poll::Ready(Ok(()));
            }
            if me.shared.activity.phase() == Phase::Idle {
                me.shared.activity.enter(Phase::Head);
            }
            let bytes = &buf.filled()[before..];
            match validator.scan(bytes) {
                Ok(ScannedHeads {
                    buffered,
                    forward_len,
                }) => {
                    me.shared.set_heads(validator.heads());
                    me.shared.set_must_close(validator.must_close());
                    me.has_large_head = validator.take_large();
                    if !buffered.is_empty() {
                        me.read_ahead = buffered;
                        me.read_ahead.extend_from_slice(&bytes[..forward_len]);
                        buf.set_filled(before);
                    } else {
                        buf.set_filled(before + forward_len);
                    }
                    if !me.count_head() {
                        me.reject(TOO_MANY_LARGE_HEADS, &[]);
                    } else if me.read_ahead.is_empty() && forward_len > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(rejection) => {
                    // hyper sees it as if the client had closed its side.
                    me.reject(rejection, bytes);
                    buf.set_filled(before);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl ServerIo {
    fn write_stopped(&self) -> io::Result<()> {
        match self.action() {
            Some(TimeoutAction::ResponseStalled) => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>, starts: bool) -> Poll<io::Result<()>> {
        let Self { stream, shared, .. } = self;
        let Some(queue) = shared.interim.get() else {
            return Poll::Ready(Ok(()));
        };
        either!(stream, stream => queue.poll_write(cx, Pin::new(stream), &shared.activity, starts))
    }

    fn count_written(
        &mut self,
        cx: &Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.set_waiting(WRITING, outcome.is_pending());
        if let Poll::Ready(Ok(n)) = outcome {
            self.shared.activity.add_written(n);
            if self.shared.sent(n) {
                cx.waker().wake_by_ref();
            }
        }
        outcome
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_stopped()?;
        let outcome = match self.poll_interim(cx, false) {
            Poll::Ready(Ok(())) => {
                either!(&mut self.stream, stream => Pin::new(stream).poll_write(cx, bytes))
            }
            unfinished => unfinished.map_ok(|()| 0),
        };
        self.count_written(cx, outcome)
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
        let outcome = match self.poll_interim(cx, false) {
            Poll::Ready(Ok(())) => {
                either!(&mut self.stream, stream => Pin::new(stream).poll_write_vectored(cx, slices))
            }
            unfinished => unfinished.map_ok(|()| 0),
        };
        self.count_written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper and h2 flush when they have nothing left to write: the response has been sent.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing waits for interim responses. hyper meets an error at its next read or write.
        let _ = self.poll_interim(cx, true);
        if let Socket::Tls(stream) = &mut self.stream {
            let outcome = Pin::new(stream).poll_flush(cx);
            self.set_waiting(WRITING, outcome.is_pending());
            ready!(outcome)?;
        }
        let activity = &self.shared.activity;
        if self.validator.is_none() {
            self.shared.flushes.fetch_add(1, Relaxed);
        } else if activity.phase() == Phase::Finishing {
            activity.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    /// The driver closes the socket once hyper has finished.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
