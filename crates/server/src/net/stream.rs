//! Tasks of HTTP/2 streams, which end when their client takes no bytes.
//!
//! hyper asks for the next frame of a response only when the client's flow-control window has room.
//! A client that grants none would keep the response, and whatever file it reads, open for as long
//! as it keeps the connection. So each stream has a [`Watch`] that is written by its response, and
//! its task ends on the sweeper's verdict. h2 then resets the stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::watch::{Gate, Phase, Verdict, Watch};

tokio::task_local! {
    static STREAM: Arc<Watch>;
}

/// The watch of the stream whose task is running, if one is.
pub(super) fn current() -> Option<Arc<Watch>> {
    STREAM.try_with(Arc::clone).ok()
}

/// Runs HTTP/2 streams, whose number `Limits::max_streams` bounds.
#[derive(Clone, Debug)]
pub(super) struct Spawner {
    gate: Arc<Gate>,
}

impl Spawner {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }
}

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let watch = Arc::new(Watch::new(Phase::Handling, false));
        self.gate.admit(watch.clone());
        let task = StreamTask {
            future: Box::pin(future),
            watch: watch.clone(),
        };
        tokio::spawn(STREAM.scope(watch, task));
    }
}

struct StreamTask<F> {
    future: Pin<Box<F>>,
    watch: Arc<Watch>,
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.register(cx.waker());
        if self.watch.verdict() == Some(Verdict::Unread) {
            return Poll::Ready(());
        }
        self.future.as_mut().poll(cx)
    }
}

impl<F> Drop for StreamTask<F> {
    fn drop(&mut self) {
        self.watch.close();
    }
}
