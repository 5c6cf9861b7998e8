//! The state that the content of a request and its response share: interim responses, and the unread rest.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use http::{Response, StatusCode, header};
use landfall::service::InterimSender;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::ReceiveHalf;
use crate::connection::MAX_DISCARDED_REST;

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
    /// 100 (Continue) is due.
    continues: bool,
    interim: Option<Response<()>>,
    /// No interim response may follow.
    is_final: bool,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl InterimSender for Exchange {
    fn send(&self, response: Response<()>) {
        let mut state = self.state.lock();
        let may_replace =
            has_location(&response) || !state.interim.as_ref().is_some_and(has_location);
        if response.status().is_informational() && may_replace && !state.is_final {
            state.interim = Some(response);
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
        self.state.lock().continues = true;
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
        let mut state = self.state.lock();
        if state.is_final {
            return Poll::Ready(state.interim.take().filter(has_location));
        }
        if !can_send {
            return Poll::Pending;
        }
        if std::mem::take(&mut state.continues) {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::CONTINUE;
            return Poll::Ready(Some(response));
        }
        match state.interim.take() {
            None => Poll::Pending,
            response => Poll::Ready(response),
        }
    }

    /// The response is ready.
    pub(super) fn close(&self) {
        self.state.lock().is_final = true;
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

fn has_location(response: &Response<()>) -> bool {
    response.headers().contains_key(header::LOCATION)
}
