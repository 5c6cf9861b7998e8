//! The state that the content of a request, its response and their task share: timeouts, interim responses, and the
//! unread rest.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use landfall::service::{InterimSender, RequestBodyError};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::ReceiveHalf;
use super::intake::{Intake, Piece};
use super::window::WindowUse;
use crate::connection::MAX_DISCARDED_REST;
use crate::interim::InterimQueue;
use crate::limits::timeouts::{ConnectionActivity, Phase, READING, ServerShared};

const DISCARD_TIME: Duration = Duration::from_secs(1);

/// A request and its response, on one stream.
pub(crate) struct Exchange {
    server: Arc<ServerShared>,
    pub(super) activity: Arc<ConnectionActivity>,
    state: Mutex<ExchangeState>,
}

struct ExchangeState {
    intake: Intake,
    /// The task of the stream polls its service.
    is_in_turn: bool,
    interim: InterimQueue,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl InterimSender for Exchange {
    fn send(&self, response: Response<()>) {
        if self.state.lock().interim.push(response) {
            self.activity.waker.wake();
        }
    }
}

impl Exchange {
    pub(super) fn new(server: &Arc<ServerShared>) -> Self {
        let activity = server.track_new(Phase::Handling, false);
        let state = ExchangeState {
            intake: Intake::new(server, &activity),
            is_in_turn: false,
            interim: InterimQueue::default(),
        };
        Self {
            server: server.clone(),
            activity,
            state: Mutex::new(state),
        }
    }

    /// `length` is that of the content, if it is known.
    pub(super) fn begin_content(
        &self,
        half: Box<dyn ReceiveHalf>,
        window: WindowUse,
        length: Option<u64>,
    ) {
        self.state.lock().intake.begin(half, window, length);
    }

    /// Holds the first piece of the content. Returns whether there is none.
    pub(super) fn poll_first(&self, cx: &mut Context<'_>) -> bool {
        self.state.lock().intake.poll_first(cx)
    }

    /// Returns the next piece of the content, and whether it is the last one.
    pub(super) fn poll_content(&self, cx: &mut Context<'_>) -> (Poll<Piece>, bool) {
        let mut state = self.state.lock();
        let piece = state.intake.poll_next(cx);
        let is_finished = state.intake.is_finished;
        if piece.is_ready() && !is_finished && !state.is_in_turn {
            // It holds what comes until the service reads on.
            self.activity.waker.wake();
        }
        (piece, is_finished)
    }

    pub(super) fn content_left(&self) -> Option<u64> {
        self.state.lock().intake.left()
    }

    /// Polls the service, and holds the content that has arrived if the service does not wait for it.
    pub(super) fn in_turn<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut state = self.state.lock();
        state.is_in_turn = true;
        // It may no longer wait.
        state.intake.is_awaited = false;
        drop(state);
        let polled = poll(cx);
        let mut state = self.state.lock();
        state.is_in_turn = false;
        if polled.is_pending() && state.intake.hold(cx) {
            self.activity.reader.wake();
        }
        polled
    }

    /// The client has left, or cancelled the request.
    pub(super) fn leave(&self) {
        self.state.lock().intake.leave();
        self.activity.reader.wake();
    }

    /// Why the content cannot be read on: its connection must not fail with an error of one of its streams.
    pub(super) fn stopped(&self, cx: &Context<'_>) -> Option<RequestBodyError> {
        self.activity.reader.register(cx.waker());
        self.server.stopped(self.activity.action())
    }

    /// Records whether the service waits for content.
    pub(crate) fn set_reading(&self, is_waiting: bool) {
        self.activity.set_waiting(READING, is_waiting);
    }

    pub(super) fn end_content(&self) {
        self.set_reading(false);
        self.activity.enter(Phase::Handling);
    }

    /// Leaves the rest of the content.
    pub(super) fn abandon(&self) {
        self.end_content();
        self.state.lock().intake.abandon(MAX_DISCARDED_REST);
    }

    /// Sends a 100 (Continue), unless the response comes first.
    pub(super) fn send_continue(&self) {
        self.state.lock().interim.push_continue();
        self.activity.waker.wake();
    }

    /// Returns the next interim response; `None` after [`close`](Self::close), when those that must not be lost are
    /// sent. The task is woken for the next one.
    pub(super) fn poll_interim(&self, can_send: bool) -> Poll<Option<Response<()>>> {
        let interim = &mut self.state.lock().interim;
        if !interim.is_closed && !can_send {
            return Poll::Pending;
        }
        match interim.next() {
            None if !interim.is_closed => Poll::Pending,
            next => Poll::Ready(next),
        }
    }

    pub(super) fn close(&self) {
        self.state.lock().interim.close();
        self.activity.waker.wake();
    }

    /// After the response. The end of a stream may come only now, and some clients take a refusal for a failure
    /// of the request: a small rest is discarded.
    pub(super) async fn refuse_rest(&self) {
        if !self.state.lock().intake.has_rest() {
            return;
        }
        let mut left = MAX_DISCARDED_REST;
        let discard = poll_fn(|cx| self.state.lock().intake.poll_discard(cx, &mut left));
        if !matches!(timeout(DISCARD_TIME, discard).await, Ok(true)) {
            self.state.lock().intake.refuse();
        }
    }
}
