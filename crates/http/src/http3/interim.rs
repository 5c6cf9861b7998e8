//! The state that the content of a request and its response share: interim responses, and the unread rest.

use std::task::Context;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use bytes::{Buf as _, Bytes};
use h3::error::Code;
use h3::server::RequestStream;
use http::{Response, header};
use landfall::service::InterimSender;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::quic::RecvStream;
use crate::connection::MAX_DISCARDED_REST;

const DISCARD_TIME: Duration = Duration::from_secs(1);

/// What arrives of a request.
pub(super) type Receiving = RequestStream<RecvStream, Bytes>;

/// A request and its response, on one stream.
#[derive(Default)]
pub(crate) struct Exchange {
    state: Mutex<ExchangeState>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct ExchangeState {
    /// The rest of the content, which the service does not read.
    unread: Option<Receiving>,
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
    pub(super) fn abandon(&self, receiving: Receiving) {
        self.state.lock().unread = Some(receiving);
    }

    pub(super) fn poll_interim(&self, cx: &Context<'_>) -> Option<Response<()>> {
        self.waker.register(cx.waker());
        self.state.lock().interim.take()
    }

    /// Returns the interim response that must not be lost.
    pub(super) fn close(&self) -> Option<Response<()>> {
        let mut state = self.state.lock();
        state.is_final = true;
        state.interim.take().filter(has_location)
    }

    /// After the response. The end of a stream may come only now, and some clients take a refusal for a failure
    /// of the request: a small rest is discarded.
    pub(super) async fn refuse_rest(&self) {
        let Some(mut receiving) = self.state.lock().unread.take() else {
            return;
        };
        let mut left = MAX_DISCARDED_REST;
        let discard = async {
            while let Ok(Some(data)) = receiving.recv_data().await {
                left = left.checked_sub(data.remaining() as u64)?;
            }
            Some(())
        };
        if !matches!(timeout(DISCARD_TIME, discard).await, Ok(Some(()))) {
            receiving.stop_sending(Code::H3_NO_ERROR);
        }
    }
}

fn has_location(response: &Response<()>) -> bool {
    response.headers().contains_key(header::LOCATION)
}
