//! Tasks of streams, aborted when their client reads no bytes.
//!
//! The next frame of a response is polled only when the client's flow-control window has space. A client that
//! grants none would keep the response, and any file it reads, open as long as the connection. So each
//! stream has a [`ConnectionActivity`], which its response updates, and its task ends when the sweeper requests
//! it. The stream is then reset.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::timeouts::{ConnectionActivity, Phase, ServerShared, TimeoutAction};

tokio::task_local! {
    static STREAM: Arc<ConnectionActivity>;
}

pub(crate) fn current() -> Option<Arc<ConnectionActivity>> {
    STREAM.try_with(Arc::clone).ok()
}

/// `ConnectionLimits::max_streams` limits their number.
pub(crate) fn spawn(server: &ServerShared, future: impl Future<Output = ()> + Send + 'static) {
    let activity = server.track_new(Phase::Handling, false);
    let task = StreamTask {
        future: Box::pin(future),
        activity: activity.clone(),
    };
    tokio::spawn(STREAM.scope(activity, task));
}

struct StreamTask<F> {
    future: Pin<Box<F>>,
    activity: Arc<ConnectionActivity>,
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.activity.register(cx.waker());
        if self.activity.action() == Some(TimeoutAction::ResponseStalled) {
            return Poll::Ready(());
        }
        self.future.as_mut().poll(cx)
    }
}

impl<F> Drop for StreamTask<F> {
    fn drop(&mut self) {
        self.activity.close();
    }
}
