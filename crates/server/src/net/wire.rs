//! The socket under hyper: counts, timers' verdicts and the guard.

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::body::Cause;
use super::edge::Link;
use super::guard::{Guard, Passed, TOO_MANY_LARGE_HEADS};
use super::refusal::Refusal;
use super::shutdown::Step;
use super::watch::{Gate, Phase, READING, Verdict, WRITING};

/// A read of this size means that hyper's buffer has grown.
const LARGE_READ: usize = 16 * 1024;

/// The memory of an unfinished head that is not counted.
const SMALL_HEAD: usize = 8 * 1024;

/// The first bytes of every HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection between two runtimes.
#[derive(Debug)]
pub(super) enum Loose {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// Leaves the runtime that accepted it.
    pub(super) fn leave(self) -> io::Result<Loose> {
        Ok(match self {
            Self::Tcp(stream) => Loose::Tcp(stream.into_std()?),
            Self::Unix(stream) => Loose::Unix(stream.into_std()?),
        })
    }
}

impl Loose {
    /// Enters the runtime of the calling task.
    pub(super) fn enter(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

/// What hyper reads from and writes to.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    link: Arc<Link>,
    /// `None` in HTTP/2.
    guard: Option<Guard>,
    /// Bytes read ahead, which the guard has seen.
    ahead: Vec<u8>,
    refusal: Option<Refusal>,
    /// What is counted in `NetStats::head_bytes` for this connection.
    head_bytes: u64,
    ended: bool,
    waiting: u8,
}

impl Wire {
    pub(super) fn new(stream: Stream, link: Arc<Link>) -> Self {
        let guard = Some(Guard::new(link.gate.limits.max_head));
        Self {
            stream,
            link,
            guard,
            ahead: Vec::new(),
            refusal: None,
            head_bytes: 0,
            ended: false,
            waiting: 0,
        }
    }

    /// The head the guard has refused: to be answered once hyper has let go of the connection.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Whether nothing more is to be discarded: the client has closed its side, or takes too long.
    pub(super) fn must_close(&self) -> bool {
        self.ended || self.verdict() == Some(Verdict::Close)
    }

    /// Puts back bytes that hyper has read and not used.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.ahead.splice(..0, bytes.iter().copied());
    }

    /// Puts a head for what is left of the present body before what is still to be read.
    pub(super) fn resume_body(&mut self) -> bool {
        let Some(remainder) = self.guard.as_ref().and_then(Guard::remainder) else {
            return false;
        };
        let head = self.link.handover.head(&remainder);
        self.put_back(&head);
        true
    }

    /// Nobody waits for the client at this moment.
    pub(super) fn settle(&mut self) {
        self.wait(READING | WRITING, false);
    }

    /// Reads until it is clear whether the client speaks HTTP/2; the bytes stay to be read.
    pub(super) fn poll_sniff(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if !PREFACE.starts_with(&self.ahead) || self.verdict().is_some() || self.ended {
                let bytes = mem::take(&mut self.ahead);
                self.pass_ahead(bytes);
                return Poll::Ready(Ok(false));
            }
            if self.ahead.len() == PREFACE.len() {
                self.guard = None;
                return Poll::Ready(Ok(true));
            }
            let mut space = [MaybeUninit::uninit(); PREFACE.len()];
            let mut buf = ReadBuf::uninit(&mut space[self.ahead.len()..]);
            ready!(self.poll_fill(cx, &mut buf))?;
            self.ahead.extend_from_slice(buf.filled());
        }
    }

    fn pass_ahead(&mut self, mut bytes: Vec<u8>) {
        let Some(guard) = &mut self.guard else { return };
        match guard.scan(&bytes) {
            Ok(passed) => {
                self.link.set_heads(guard.heads());
                bytes.truncate(passed.whole);
                self.ahead = bytes;
            }
            Err(refusal) => self.reject(refusal),
        }
    }

    /// Rejects the head that is coming; its beginning takes no memory any more.
    fn reject(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
        if let Some(guard) = &mut self.guard {
            guard.clear();
        }
        self.count_head();
    }

    /// Counts the memory of an unfinished head; false if all there is for heads is taken.
    fn count_head(&mut self) -> bool {
        let memory = self.guard.as_ref().map_or(0, Guard::memory);
        let now = if memory > SMALL_HEAD {
            memory as u64
        } else {
            0
        };
        let before = mem::replace(&mut self.head_bytes, now);
        if now == before {
            return true;
        }
        let Gate { stats, limits, .. } = &*self.link.gate;
        if now < before {
            stats.head_bytes.fetch_sub(before - now, Relaxed);
            return true;
        }
        stats.head_bytes.fetch_add(now - before, Relaxed) + (now - before) <= limits.head_memory
    }

    /// Reads and forgets; gives back how much.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); 32 * 1024];
        let mut buf = ReadBuf::uninit(&mut space);
        ready!(self.poll_fill(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Closes the sending side.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.stream, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn serve_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..n]);
        self.ahead.drain(..n);
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
    }

    /// One read from the socket, counted.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = either!(&mut self.stream, stream => Pin::new(stream).poll_read(cx, buf));
        self.wait(READING, outcome.is_pending());
        ready!(outcome)?;
        match buf.filled().len() - before {
            0 => self.ended = true,
            n => {
                self.link.watch.add_read(n);
                if n >= LARGE_READ {
                    self.link.watch.set_grown(true);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn wait(&mut self, direction: u8, waiting: bool) {
        let now = if waiting {
            self.waiting | direction
        } else {
            self.waiting & !direction
        };
        if now != self.waiting {
            self.waiting = now;
            if waiting && let Some(guard) = &self.guard {
                let divisible = guard.is_divisible();
                self.link.divisible.store(divisible, Relaxed);
            }
            self.link.watch.set_waiting(now);
        }
    }

    /// The verdict on the connection, unless it is only to give buffers back.
    fn verdict(&self) -> Option<Verdict> {
        let verdict = self.link.watch.verdict()?;
        let void = verdict == Verdict::Shed || (self.guard.is_none() && self.link.has_streams());
        (!void || verdict == Verdict::Unread).then_some(verdict)
    }

    /// Whether reading must end: with an error for the reader of a body, else like an end of input.
    fn stopped(&self) -> Option<io::Result<()>> {
        if let Some(verdict) = self.verdict() {
            return Some(match verdict {
                Verdict::Stalled => Err(Cause::Timeout.into()),
                Verdict::TooSlow => Err(Cause::TooSlow.into()),
                Verdict::Unread => Err(io::ErrorKind::TimedOut.into()),
                Verdict::Close | Verdict::Shed => Ok(()),
            });
        }
        if self.link.gate.step() >= Step::Cutting && self.link.watch.phase() == Phase::Body {
            return Some(Err(Cause::ShuttingDown.into()));
        }
        if self.guard.as_ref().is_some_and(Guard::has_broken_trailer) {
            let reason = "a trailer line ends with LF instead of CR LF";
            return Some(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        self.refusal.is_some().then_some(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.head_bytes > 0 {
            let head_bytes = &self.link.gate.stats.head_bytes;
            head_bytes.fetch_sub(self.head_bytes, Relaxed);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        loop {
            // First, as it may be the head that a request in progress waits for.
            if !me.ahead.is_empty() {
                me.serve_ahead(buf);
                return Poll::Ready(Ok(()));
            }
            if let Some(outcome) = me.stopped() {
                return Poll::Ready(outcome);
            }
            let before = buf.filled().len();
            ready!(me.poll_fill(cx, buf))?;
            let Some(guard) = &mut me.guard else {
                return Poll::Ready(Ok(()));
            };
            if me.ended {
                return Poll::Ready(Ok(()));
            }
            if me.link.watch.phase() == Phase::Idle {
                me.link.watch.enter(Phase::Head);
            }
            let bytes = &buf.filled()[before..];
            match guard.scan(bytes) {
                Ok(Passed { held, whole }) => {
                    me.link.set_heads(guard.heads());
                    if !held.is_empty() {
                        me.ahead = held;
                        me.ahead.extend_from_slice(&bytes[..whole]);
                        buf.set_filled(before);
                    } else {
                        buf.set_filled(before + whole);
                    }
                    if !me.count_head() {
                        me.reject(TOO_MANY_LARGE_HEADS);
                    } else if me.ahead.is_empty() && whole > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(refusal) => {
                    // To hyper it looks as if the client had closed its side.
                    me.reject(refusal);
                    buf.set_filled(before);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl Wire {
    fn write_stopped(&self) -> io::Result<()> {
        match self.verdict() {
            Some(Verdict::Unread) => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    fn wrote(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.wait(WRITING, outcome.is_pending());
        if let Poll::Ready(Ok(n)) = outcome {
            self.link.watch.add_written(n);
        }
        outcome
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_stopped()?;
        let outcome = either!(&mut self.stream, stream => Pin::new(stream).poll_write(cx, bytes));
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Heads without a body come alone; sending one piece is cheaper than gathering one.
        if let [slice] = slices {
            return self.poll_write(cx, slice);
        }
        self.write_stopped()?;
        let outcome =
            either!(&mut self.stream, stream => Pin::new(stream).poll_write_vectored(cx, slices));
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes when it has nothing left to write: so the answer is out.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let watch = &self.link.watch;
        if self.guard.is_some() && watch.phase() == Phase::Finishing {
            watch.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing: the driver closes the socket, in its own way, once hyper is done.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
