//! Moves a request to a new hyper connection while its body is being received.
//!
//! hyper keeps a read buffer that has grown as long as the connection lives, even if the client stalls.
//! The buffer cannot be released, but the connection can be replaced: a new one reads a short head that
//! describes the rest of the body. The request continues: the future that answers it moves from the old
//! connection to the new one, and its [`Body`](super::Body) continues with the new source of frames when
//! the old one ends. In between, while the client sends little, the [driver](super::driver) reads the body.

use std::any::Any;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{Method, Request, Version};
use hyper::body::Incoming;
use parking_lot::Mutex;

const POSSIBLE: u8 = 1;
const HTTP_10: u8 = 2;
const CLOSE: u8 = 4;
const KEEP_ALIVE: u8 = 8;
const EXPECT_CONTINUE: u8 = 32;
const ACTIVE: u8 = 16;

#[derive(Debug, Default)]
pub(super) struct Handover {
    flags: AtomicU8,
    parts: Mutex<HandoverParts>,
}

#[derive(Debug, Default)]
struct HandoverParts {
    response: Option<Box<dyn Any + Send>>,
    /// Received between the two connections.
    data: Option<Bytes>,
    body: Option<Incoming>,
    skip: usize,
    waker: Option<Waker>,
}

/// The next part of a body after the old connection has ended.
pub(super) enum Continuation {
    Data(Bytes),
    /// The rest, and how many of its first bytes were received before.
    Rest(Incoming, usize),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remainder {
    pub(super) head: String,
    pub(super) skip: usize,
}

impl Handover {
    pub(super) fn record<B>(&self, request: &Request<B>) {
        let old = request.version() == Version::HTTP_10;
        let mut flags = if old { HTTP_10 } else { 0 };
        // The response to HEAD has no body, whatever its length header is.
        if request.method() != Method::HEAD {
            flags |= POSSIBLE;
        }
        for value in request.headers().get_all(CONNECTION) {
            for token in value.as_bytes().split(|b| *b == b',') {
                match token.trim_ascii() {
                    t if t.eq_ignore_ascii_case(b"close") => flags |= CLOSE,
                    t if t.eq_ignore_ascii_case(b"keep-alive") => flags |= KEEP_ALIVE,
                    _ => {}
                }
            }
        }
        if !old && request.headers().contains_key(EXPECT) {
            flags |= EXPECT_CONTINUE;
        }
        self.flags.store(flags, Relaxed);
    }

    pub(super) fn head(&self, remainder: &Remainder) -> Vec<u8> {
        self.parts.lock().skip = remainder.skip;
        let flags = self.flags.load(Relaxed);
        let version = if flags & HTTP_10 == 0 { "1.1" } else { "1.0" };
        let connection = match flags & (CLOSE | KEEP_ALIVE) {
            0 => "",
            KEEP_ALIVE => "connection: keep-alive\r\n",
            _ => "connection: close\r\n",
        };
        let rest = &remainder.head;
        format!("PUT / HTTP/{version}\r\nhost: a\r\n{connection}{rest}").into_bytes()
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.flags.load(Relaxed) & EXPECT_CONTINUE != 0
    }

    /// The new connection closes after the response.
    pub(super) fn close_after_response(&self) {
        self.flags.fetch_or(CLOSE, Relaxed);
    }

    pub(super) fn is_possible(&self) -> bool {
        self.flags.load(Relaxed) & (POSSIBLE | ACTIVE) == POSSIBLE
    }

    pub(super) fn start(&self) {
        self.flags.fetch_or(ACTIVE, SeqCst);
    }

    pub(super) fn is_active(&self) -> bool {
        self.flags.load(SeqCst) & ACTIVE != 0
    }

    pub(super) fn keep_response(&self, response: Box<dyn Any + Send>) {
        self.parts.lock().response = Some(response);
    }

    pub(super) fn take_response(&self) -> Option<Box<dyn Any + Send>> {
        self.is_active()
            .then(|| self.parts.lock().response.take())?
    }

    pub(super) fn replace_body(&self, incoming: Incoming) {
        self.add(|parts| parts.body = Some(incoming));
    }

    pub(super) fn has_data(&self) -> bool {
        self.parts.lock().data.is_some()
    }

    pub(super) fn set_data(&self, data: Bytes) {
        self.add(|parts| parts.data = Some(data));
    }

    fn add(&self, add: impl FnOnce(&mut HandoverParts)) {
        let waker = {
            let mut parts = self.parts.lock();
            add(&mut parts);
            parts.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// `None` without a handover.
    pub(super) fn poll_body(&self, cx: &Context<'_>) -> Option<Poll<Continuation>> {
        if !self.is_active() {
            return None;
        }
        let mut parts = self.parts.lock();
        // Checked again under the lock, because `abort` may have run meanwhile.
        if !self.is_active() {
            return None;
        }
        if let Some(data) = parts.data.take() {
            return Some(Poll::Ready(Continuation::Data(data)));
        }
        match parts.body.take() {
            Some(incoming) => {
                self.flags.fetch_and(!ACTIVE, SeqCst);
                let skip = std::mem::take(&mut parts.skip);
                Some(Poll::Ready(Continuation::Rest(incoming, skip)))
            }
            None => {
                parts.waker = Some(cx.waker().clone());
                Some(Poll::Pending)
            }
        }
    }

    pub(super) fn abort(&self) {
        if !self.is_active() {
            return;
        }
        let parts = {
            let mut parts = self.parts.lock();
            self.flags.fetch_and(!ACTIVE, SeqCst);
            std::mem::take(&mut *parts)
        };
        if let Some(waker) = &parts.waker {
            waker.wake_by_ref();
        }
    }
}
