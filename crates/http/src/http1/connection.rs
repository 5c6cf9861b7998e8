//! The task of a connection of HTTP/1: one state after another.
//!
//! A request passes `Head`, `Respond` and `Send`; then the next one begins, perhaps after the rest of its content is
//! discarded. A connection that cannot be used again lingers, so that its response arrives, and closes.

use std::future::Future as _;
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::ORIGIN;
use http::{HeaderMap, Method, Response, Version};
use http_body::Body as _;
use http_body_util::{Either, Full};
use tokio::io::AsyncWrite as _;
use tokio::task::yield_now;

use super::channel::{Channel, Http1Content};
use super::content::ContentDecoder;
use super::encode::{self, CHUNK_END, FINAL_CHUNK, ResponseContext, ResponseFraming};
use super::head::{self, Framing, HeadSearch};
use super::outgoing::Outgoing;
use crate::body::RequestContent;
use crate::buffers;
use crate::connection::{SMALL_HEAD, TOO_MANY_LARGE_HEADS};
use crate::io::ServerIo;
use crate::limits::addresses::AddressPermit;
use crate::limits::timeouts::{Phase, TimeoutAction};
use crate::rejection::HttpRejection;
use crate::service::{ConnectionService, HttpService, ResponseFuture};
use crate::shutdown::{FirstRequest, ShutdownPhase};
use crate::stats::NetStats;

/// RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Pipelined requests after which other tasks of the thread run.
const MAX_IN_TURN: u8 = 16;

/// A client that continues to send gets a reset, so its bytes fill no kernel buffers.
const LIMITED_LINGER_BYTES: u64 = 64 * 1024;

/// A connection that is served until it ends.
pub(crate) struct Http1<S: HttpService> {
    channel: Channel,
    service: ConnectionService<S>,
    state: State<S>,
    out: Outgoing,
    /// Of the current request.
    context: ResponseContext,
    permit: Option<AddressPermit>,
    /// The client may begin HTTP/2 with prior knowledge.
    may_be_http2: bool,
    is_used: bool,
    /// While idle, in a shutdown.
    has_yielded: bool,
    /// Requests since another task could run.
    in_turn: u8,
}

enum State<S: HttpService> {
    Head(HeadSearch),
    Respond(ResponseFuture<S>),
    Send(Sending<S::Body>),
    Linger(LingeringClose),
    Closed,
}

struct Sending<B> {
    body: Either<B, Full<Bytes>>,
    /// Its end, and the bytes left until then.
    framing: ResponseFraming,
    has_ended: bool,
}

/// Closing a socket with unread input makes the kernel send a reset, which destroys the response on its
/// way. If there may be such input, only the sending side is closed, and input is discarded for a while,
/// as nginx does with `lingering_close`.
struct LingeringClose {
    finished: bool,
    linger: bool,
    budget: u64,
}

impl<S: HttpService> Http1<S> {
    pub(crate) fn new(channel: Channel, service: ConnectionService<S>, may_be_http2: bool) -> Self {
        Self {
            channel,
            service,
            state: State::Head(HeadSearch::default()),
            out: Outgoing::default(),
            context: ResponseContext::default(),
            permit: None,
            may_be_http2,
            is_used: false,
            has_yielded: false,
            in_turn: 0,
        }
    }

    /// Serves until the connection ends, or continues with HTTP/2: returns its socket then. During a shutdown,
    /// `first_request` limits the time for a first one.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        phase: ShutdownPhase,
        first_request: &mut FirstRequest,
    ) -> Poll<Option<ServerIo>> {
        self.in_turn = 0;
        loop {
            match &mut self.state {
                State::Head(_) if self.in_turn == MAX_IN_TURN => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Head(_) => match ready!(self.poll_head(cx, phase, first_request)) {
                    Ok((end, search)) => self.begin(end, &search, phase),
                    Err(Some(rejection)) => self.reject(rejection, phase),
                    Err(None) => match self.take_http2() {
                        None => self.linger(false),
                        socket => return Poll::Ready(socket),
                    },
                },
                State::Respond(response) => match response.poll(cx) {
                    Poll::Ready(response) => self.respond(response, phase),
                    Poll::Pending => {
                        self.poll_interim(cx);
                        return Poll::Pending;
                    }
                },
                State::Send(sending) => {
                    let sent = ready!(sending.poll(cx, &self.channel, &mut self.out));
                    if let Err(error) = &sent {
                        tracing::debug!(%error, "connection ended");
                        self.context.keep_alive = false;
                    }
                    self.finish(phase);
                }
                State::Linger(closing) => {
                    if phase < ShutdownPhase::Aborting {
                        // The result no longer matters.
                        let _ = ready!(closing.poll(cx, &self.channel, &mut self.out));
                    }
                    self.state = State::Closed;
                }
                State::Closed => return Poll::Ready(None),
            }
        }
    }

    /// Discards the rest of the content before the head, whose length it returns. `None` at the end of the connection,
    /// or if HTTP/2 begins.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        phase: ShutdownPhase,
        first_request: &mut FirstRequest,
    ) -> Poll<Result<(usize, HeadSearch), Option<HttpRejection>>> {
        let State::Head(search) = &mut self.state else {
            return Poll::Ready(Err(None));
        };
        let shared = &self.service.shared;
        let mut io = self.channel.lock();
        if !ready!(io.poll_discard(cx)) {
            return Poll::Ready(Err(None));
        }
        loop {
            let empty = head::empty_lines(&io.input);
            io.input.advance(empty);
            let start = &io.input[..io.input.len().min(PREFACE.len())];
            if self.may_be_http2 && PREFACE.starts_with(start) {
                if start.len() == PREFACE.len() {
                    return Poll::Ready(Err(None));
                }
            } else if !start.is_empty()
                && let Some(end) = search.end(&io.input, shared.server.limits.max_head)?
            {
                return Poll::Ready(Ok((end, mem::take(search))));
            }
            let unfinished = io.input.len();
            if !io.count_head(unfinished, SMALL_HEAD) {
                return Poll::Ready(Err(Some(TOO_MANY_LARGE_HEADS)));
            }
            if io.socket.action().is_some() {
                return Poll::Ready(Err(None));
            }
            let read = io.poll_fill(cx);
            if read.is_pending() && phase > ShutdownPhase::Running {
                let is_idle = self.is_used && io.input.is_empty();
                if is_idle && !mem::replace(&mut self.has_yielded, true) {
                    // The socket may be readable, and this task not know it yet.
                    return pin!(yield_now()).poll(cx).map(|()| Err(None));
                }
                // The first request of the client may be in transit.
                if is_idle || first_request.is_over(phase, cx) {
                    return Poll::Ready(Err(None));
                }
            }
            let read = ready!(read);
            let read = read.inspect_err(|error| tracing::debug!(%error, "connection ended"));
            if read.unwrap_or(0) == 0 {
                return Poll::Ready(Err(None));
            }
            if shared.activity.phase() == Phase::Idle {
                shared.activity.enter(Phase::Head);
            }
        }
    }

    fn take_http2(&mut self) -> Option<ServerIo> {
        let mut io = self.channel.lock();
        if !self.may_be_http2 || !io.input.starts_with(PREFACE) {
            return None;
        }
        self.state = State::Closed;
        let input = mem::take(&mut io.input);
        let mut socket = io.socket.take();
        socket.start_http2(input.freeze());
        Some(socket)
    }

    fn begin(&mut self, end: usize, search: &HeadSearch, phase: ShutdownPhase) {
        let mut io = self.channel.lock();
        let head = match io.take_head(end, search) {
            Ok(head) => head,
            Err(rejection) => {
                drop(io);
                return self.reject(rejection, phase);
            }
        };
        let number = io.begin(&head);
        drop(io);
        self.may_be_http2 = false;
        self.is_used = true;
        self.in_turn += 1;
        self.context = ResponseContext {
            version: head.request.version(),
            is_head: *head.request.method() == Method::HEAD,
            keep_alive: head.keep_alive,
        };
        let (content, phase) = match head.framing {
            Framing::None => (RequestContent::Ended, Phase::Handling),
            _ => {
                let content = Http1Content {
                    channel: self.channel.clone(),
                    number,
                    has_ended: false,
                };
                (RequestContent::Http1(content), Phase::Body)
            }
        };
        self.service.shared.activity.enter(phase);
        let peer = self.service.shared.peer;
        let (response, permit) = self.service.start(head.request, content, peer, None);
        self.permit = permit;
        self.state = State::Respond(response);
    }

    fn reject(&mut self, mut rejection: HttpRejection, phase: ShutdownPhase) {
        let mut io = self.channel.lock();
        let (is_head, origin) = head::rejected_request(&io.input);
        io.input.clear();
        io.release();
        io.forget_head();
        // Whatever follows is not understood.
        io.content = ContentDecoder::new(Framing::Sized(u64::MAX), 0);
        drop(io);
        if is_head {
            rejection = rejection.for_head();
        }
        self.context = ResponseContext {
            version: Version::HTTP_11,
            is_head,
            keep_alive: false,
        };
        let mut request = HeaderMap::new();
        request.extend(origin.map(|origin| (ORIGIN, origin)));
        let shared = &self.service.shared;
        NetStats::add(&shared.server.stats.rejected, 1);
        shared.activity.enter(Phase::Handling);
        let response = rejection.response(|fields| shared.add_fields(&request, fields));
        self.respond(response.map(|text| Either::Right(text.into())), phase);
    }

    fn respond(&mut self, response: Response<Either<S::Body, Full<Bytes>>>, phase: ShutdownPhase) {
        let (mut parts, body) = response.into_parts();
        self.service.shared.add_tls_fields(&mut parts.headers);
        let mut io = self.channel.lock();
        let mut context = self.context;
        context.keep_alive &= !io.must_close() && phase == ShutdownPhase::Running;
        io.interim.close();
        let out = self.out.begin_head();
        io.take_interim(out);
        drop(io);
        let length = body.size_hint().exact();
        let (framing, keep_alive) = encode::response_head(
            out,
            parts.status,
            parts.extensions.get(),
            &parts.headers,
            length,
            context,
        );
        self.context.keep_alive = keep_alive;
        buffers::give_fields(parts.headers);
        buffers::give_extensions(parts.extensions);
        self.state = State::Send(Sending {
            body,
            framing,
            has_ended: false,
        });
    }

    /// Sends interim responses while the service runs. The next read or write meets an error: the service need
    /// not stop, since its client may resume.
    fn poll_interim(&mut self, cx: &mut Context<'_>) {
        let mut io = self.channel.lock();
        while !self.out.is_empty() || io.take_interim(self.out.end()) {
            let Poll::Ready(Ok(())) = self.out.poll_write(cx, &mut io.socket) else {
                break;
            };
            let _ = Pin::new(&mut io.socket).poll_flush(cx);
        }
        // It may take them later.
        io.socket.stop_waiting_to_write();
        io.release();
    }

    fn finish(&mut self, phase: ShutdownPhase) {
        self.permit = None;
        self.out.clear();
        let mut io = self.channel.lock();
        io.forget_head();
        let has_unread = !io.content.is_end();
        drop(io);
        if !self.context.keep_alive || phase > ShutdownPhase::Running {
            return self.linger(has_unread);
        }
        self.service.shared.activity.enter(Phase::Idle);
        self.state = State::Head(HeadSearch::default());
    }

    fn linger(&mut self, linger: bool) {
        let mut io = self.channel.lock();
        io.abandon();
        io.socket.stop_waiting();
        // The state may hold content of the request, which takes the lock when it is dropped.
        drop(io);
        let shared = &self.service.shared;
        shared.activity.enter(Phase::Lingering);
        let mut budget = shared.server.limits.linger_bytes;
        if shared.is_address_limited() {
            budget = budget.min(LIMITED_LINGER_BYTES);
        }
        self.state = State::Linger(LingeringClose {
            finished: false,
            linger,
            budget,
        });
    }
}

impl LingeringClose {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        channel: &Channel,
        out: &mut Outgoing,
    ) -> Poll<io::Result<()>> {
        let socket = &mut channel.lock().socket;
        ready!(out.poll_write(cx, socket))?;
        if !self.finished {
            ready!(socket.poll_finish(cx))?;
            self.finished = true;
        }
        while !socket.has_ended() && socket.action() != Some(TimeoutAction::Close) {
            match socket.poll_discard(cx)? {
                Poll::Ready(n) => {
                    self.linger = true;
                    self.budget = self.budget.saturating_sub(n as u64);
                    if self.budget == 0 {
                        break;
                    }
                }
                Poll::Pending if self.linger => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> Sending<B>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        channel: &Channel,
        out: &mut Outgoing,
    ) -> Poll<io::Result<()>> {
        loop {
            // The first piece goes with the head.
            let mut waits = false;
            if out.has_space() && !self.has_ended {
                match self.poll_next(cx, out) {
                    Poll::Ready(next) => next?,
                    Poll::Pending => waits = true,
                }
            }
            let mut io = channel.lock();
            ready!(out.poll_write(cx, &mut io.socket))?;
            if self.has_ended || waits {
                ready!(Pin::new(&mut io.socket).poll_flush(cx))?;
            }
            if self.has_ended {
                return Poll::Ready(Ok(()));
            }
            if waits {
                io.release();
                return Poll::Pending;
            }
        }
    }

    /// Takes the next piece of the body, and appends it with its framing.
    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Outgoing) -> Poll<io::Result<()>> {
        // Bytes beyond the length of a response are dropped.
        if self.framing == ResponseFraming::Sized(0) || self.body.is_end_stream() {
            return Poll::Ready(self.end(out));
        }
        let data = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(self.end(out)),
            Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        self.push(data, out);
        if self.framing == ResponseFraming::Sized(0) || self.body.is_end_stream() {
            return Poll::Ready(self.end(out));
        }
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, mut data: Bytes, out: &mut Outgoing) {
        match &mut self.framing {
            // An empty chunk would be the last one.
            _ if data.is_empty() => {}
            ResponseFraming::Sized(left) => {
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                out.push(data);
            }
            ResponseFraming::Chunked => {
                encode::chunk_size(out.end(), data.len());
                out.push(data);
                out.end().extend_from_slice(CHUNK_END);
            }
            ResponseFraming::UntilClose => out.push(data),
        }
    }

    fn end(&mut self, out: &mut Outgoing) -> io::Result<()> {
        self.has_ended = true;
        match self.framing {
            ResponseFraming::Sized(1..) => {
                let reason = "the response is shorter than its Content-Length";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
            }
            ResponseFraming::Chunked => out.end().extend_from_slice(FINAL_CHUNK),
            ResponseFraming::Sized(0) | ResponseFraming::UntilClose => {}
        }
        Ok(())
    }
}

/// The content of a request that is still read elsewhere ends with an error.
impl<S: HttpService> Drop for Http1<S> {
    fn drop(&mut self) {
        self.channel.lock().close();
    }
}
