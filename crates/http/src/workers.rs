//! Threads that serve connections, each with its own runtime.
//!
//! A connection stays on its thread: the bytes it reads are in that processor's cache when they are
//! written, and no other thread is woken to share the work. With one large upload, a runtime that moves
//! tasks between threads spent more system calls on waking (`futex`, `eventfd`) than on reading and
//! writing together.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::{runtime, sync::watch};

/// Blocking threads per runtime, for syncs, copies and slow disks. A safety net: the store has its own,
/// lower limits.
const BLOCKING_THREADS: usize = 160;

/// Dropping this ends the threads and their connections.
#[derive(Debug)]
pub(super) struct Workers {
    each: Vec<Worker>,
    next: AtomicUsize,
    _alive: watch::Sender<()>,
}

#[derive(Debug)]
struct Worker {
    runtime: runtime::Handle,
    connections: Arc<()>,
}

impl Workers {
    /// A count of 0 runs everything on the caller's runtime.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (alive, _) = watch::channel(());
        let mut each = Vec::with_capacity(count);
        for n in 0..count {
            let mut runtime = runtime::Builder::new_current_thread();
            runtime.enable_all().max_blocking_threads(BLOCKING_THREADS);
            let runtime = runtime.build()?;
            let handle = runtime.handle().clone();
            let mut alive = alive.subscribe();
            thread::Builder::new()
                .name(format!("landfall-{n}"))
                .spawn(move || {
                    runtime.block_on(async move {
                        // Fails, and so ends, when the sender is dropped.
                        while alive.changed().await.is_ok() {}
                    });
                    // Do not wait for blocking work of aborted requests.
                    runtime.shutdown_background();
                })?;
            each.push(Worker {
                runtime: handle,
                connections: Arc::default(),
            });
        }
        Ok(Self {
            each,
            next: AtomicUsize::new(0),
            _alive: alive,
        })
    }

    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let from = self.next.fetch_add(1, Relaxed);
        let turns = (0..self.each.len()).map(|n| &self.each[(from + n) % self.each.len()]);
        let Some(worker) = turns.min_by_key(|one| Arc::strong_count(&one.connections)) else {
            tokio::spawn(connection);
            return;
        };
        let counted = Arc::clone(&worker.connections);
        worker.runtime.spawn(async move {
            connection.await;
            drop(counted);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn connections_are_spread_evenly_and_end_with_the_workers() {
        let workers = Workers::start(3).unwrap();
        let (names, heard) = mpsc::channel();
        for _ in 0..9 {
            let names = names.clone();
            workers.spawn(async move {
                let name = thread::current().name().unwrap_or_default().to_owned();
                names.send(name).unwrap();
                std::future::pending::<()>().await;
            });
        }
        drop(names);
        let mut threads: Vec<_> = (0..9).map(|_| heard.recv().unwrap()).collect();
        threads.sort();
        let expected = ["landfall-0", "landfall-1", "landfall-2"].map(|name| [name; 3]);
        assert_eq!(threads, expected.concat());
        drop(workers);
        assert!(heard.recv().is_err(), "the connections were dropped");
    }
}
