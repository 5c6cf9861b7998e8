//! The state that the content of a request, its response and their task share: timeouts, interim responses, and the
//! unread rest.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Response;
use landfall::service::{InterimSender, RequestBodyError};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::ReceiveHalf;
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

#[derive(Default)]
struct ExchangeState {
    /// The rest of the content, which the service does not read.
    unread: Option<Box<dyn ReceiveHalf>>,
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
        Self {
            server: server.clone(),
            activity: server.track_new(Phase::Handling, false),
            state: Mutex::default(),
        }
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

    /// Leaves the rest of the content, whose length is `rest` if it is known.
    pub(super) fn abandon(&self, receiving: Box<dyn ReceiveHalf>, rest: Option<u64>) {
        self.end_content();
        let is_long = rest.is_some_and(|rest| rest > MAX_DISCARDED_REST);
        let unread = match is_long {
            true => receiving.ignore(),
            false => Some(receiving),
        };
        self.state.lock().unread = unread;
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
        let Some(mut receiving) = self.state.lock().unread.take() else {
            return;
        };
        let mut left = MAX_DISCARDED_REST;
        let discard = poll_fn(|cx| {
            while let Ok(Some(data)) = ready!(receiving.poll_data(cx)) {
                match left.checked_sub(data.len() as u64) {
                    Some(less) => left = less,
                    None => return Poll::Ready(false),
                }
            }
            Poll::Ready(true)
        });
        if !matches!(timeout(DISCARD_TIME, discard).await, Ok(true)) {
            receiving.refuse();
        }
    }
}
