//! Tasks of streams, aborted when their client reads no bytes.
//!
//! The next frame of a response is polled only when the client's flow-control window has space. A client that
//! grants none would keep the response, and any file it reads, open as long as the connection. So each
//! stream has a [`ConnectionActivity`], which its content and its response update, and its task ends when the sweeper
//! requests it. The stream is then reset.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::Exchange;
use crate::limits::timeouts::{ConnectionActivity, ServerShared, TimeoutAction, WRITING};

tokio::task_local! {
    static STREAM: Arc<ConnectionActivity>;
}

pub(super) fn set_writing(is_waiting: bool) {
    let _ = STREAM.try_with(|activity| activity.set_waiting(WRITING, is_waiting));
}

/// Counts bytes of the response that the client takes. Does nothing in other tasks.
pub(crate) fn count_written(bytes: usize) {
    let _ = STREAM.try_with(|activity| activity.add_written(bytes));
}

/// `ConnectionLimits::max_streams` limits their number.
pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
    server: &Arc<ServerShared>,
    serve: impl FnOnce(Arc<Exchange>) -> F,
) {
    let exchange = Arc::new(Exchange::new(server));
    let activity = exchange.activity.clone();
    let supervised = supervise(activity.clone(), Box::pin(serve(exchange)), |activity| {
        activity.action() == Some(TimeoutAction::ResponseStalled)
    });
    tokio::spawn(STREAM.scope(activity, supervised));
}

/// Runs a future until it ends or `must_end`, which is checked at each wakeup.
pub(crate) fn supervise(
    activity: Arc<ConnectionActivity>,
    mut future: Pin<Box<impl Future<Output = ()>>>,
    must_end: impl Fn(&ConnectionActivity) -> bool,
) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        activity.waker.register(cx.waker());
        match must_end(&activity) {
            true => Poll::Ready(()),
            false => future.as_mut().poll(cx),
        }
    })
}
