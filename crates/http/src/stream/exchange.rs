//! The state that the content of a request and its response share: interim responses, and the unread rest.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use http::Response;
use landfall::service::InterimSender;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::ReceiveHalf;
use crate::connection::MAX_DISCARDED_REST;
use crate::interim::InterimQueue;

const DISCARD_TIME: Duration = Duration::from_secs(1);

/// A request and its response, on one stream.
#[derive(Default)]
pub(crate) struct Exchange {
    state: Mutex<ExchangeState>,
    waker: AtomicWaker,
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
            self.waker.wake();
        }
    }
}

impl Exchange {
    /// Leaves the rest of the content, whose length is `rest` if it is known.
    pub(super) fn abandon(&self, receiving: Box<dyn ReceiveHalf>, rest: Option<u64>) {
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
        self.waker.wake();
    }

    /// Returns the next interim response; `None` after [`close`](Self::close), when those that must not be lost are
    /// sent.
    pub(super) fn poll_interim(
        &self,
        cx: &Context<'_>,
        can_send: bool,
    ) -> Poll<Option<Response<()>>> {
        self.waker.register(cx.waker());
        let interim = &mut self.state.lock().interim;
        match interim.is_closed {
            false if !can_send => Poll::Pending,
            is_closed => match interim.next() {
                None if !is_closed => Poll::Pending,
                next => Poll::Ready(next),
            },
        }
    }

    pub(super) fn close(&self) {
        self.state.lock().interim.close();
        self.waker.wake();
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
