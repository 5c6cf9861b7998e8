//! The thread of a locker and its runtime. It makes no calls.

use std::{io, thread};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::watch,
};

/// The thread of a lease service, which has to end when this is dropped.
///
/// A separate thread renews leases in time even if the runtimes of the requests are busy or shut
/// down.
#[derive(Debug)]
pub(crate) struct LeaseThread {
    runtime: Handle,
    stop: watch::Sender<bool>,
}

impl LeaseThread {
    /// Creates the runtime of a thread.
    ///
    /// # Errors
    /// The system has no more resources.
    pub(crate) fn runtime() -> io::Result<Runtime> {
        Builder::new_current_thread().enable_all().build()
    }

    /// Starts the thread, which ends with the future that `run` returns. That receives `true` when
    /// it has to end.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start<F: Future<Output = ()>>(
        runtime: Runtime,
        run: impl FnOnce(watch::Receiver<bool>) -> F + Send + 'static,
    ) -> io::Result<Self> {
        let handle = runtime.handle().clone();
        let (stop, stopped) = watch::channel(false);
        let builder = thread::Builder::new().name("landfall-leases".into());
        builder.spawn(move || {
            runtime.block_on(run(stopped));
            // Name resolution in progress must not delay the end.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            runtime: handle,
            stop,
        })
    }

    /// Runs it as a task of the current runtime instead, for simulations: one thread runs all of their nodes.
    pub(crate) fn here<F: Future<Output = ()> + Send + 'static>(
        run: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let runtime = Handle::current();
        runtime.spawn(run(stopped));
        Self { runtime, stop }
    }

    /// Returns the runtime of the thread.
    pub(crate) fn handle(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for LeaseThread {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
