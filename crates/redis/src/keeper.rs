//! The thread that keeps this node's leases: it connects, renews and releases, and stops holders whose
//! lease is about to expire.
//!
//! It is a thread of its own, so that leases are renewed in time whatever the runtimes of the
//! requests are busy with, and whichever of them ends.

use std::{sync::Arc, thread, time::Duration};

use landfall::lease::remote::LeaseTable;
use tokio::{sync::watch, time::timeout};

use crate::{
    link::Link,
    scripts::{Ask, LeaseId, Renewal, Scripts},
    settings::{RedisSettings, SettingsError},
};

/// How many calls go to Redis in one go.
const BATCH_SIZE: usize = 256;
/// Time limit for the releases at the end of the locker.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) table: Arc<LeaseTable<LeaseId>>,
    pub(crate) link: Arc<Link>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) settings: RedisSettings,
}

impl Keeper {
    /// Starts the thread. It ends when `stop` says so, or is gone.
    pub(crate) fn start(self, stop: watch::Receiver<bool>) -> Result<(), SettingsError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SettingsError::Thread)?;
        thread::Builder::new()
            .name("landfall-leases".into())
            .spawn(move || {
                runtime.block_on(self.run(stop));
                // A name that is still being resolved must not hold up the end.
                runtime.shutdown_background();
            })
            .map_err(SettingsError::Thread)?;
        Ok(())
    }

    async fn run(self, mut stop: watch::Receiver<bool>) {
        let work = async {
            tokio::join!(
                self.link.keep(),
                self.table.expire(),
                self.renew(),
                self.release()
            );
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        // Leases that are not released now expire.
        let _ = timeout(SHUTDOWN_TIMEOUT, self.send_releases()).await;
    }

    /// Renews each lease at a quarter of its lifetime; a shorter request causes no renewal.
    async fn renew(&self) {
        let mut connections = self.link.connections();
        loop {
            // On a new connection all at once: the server may have lost everything.
            let age = tokio::select! {
                () = self.table.tick() => self.settings.ttl / 4,
                () = connections.next() => Duration::ZERO,
            };
            self.renew_older_than(age).await;
        }
    }

    async fn renew_older_than(&self, age: Duration) {
        let limit = (self.settings.patience / 2).min(self.settings.ttl / 5);
        let due = self.table.due(age);
        for batch in due.chunks(BATCH_SIZE) {
            let Some(up) = self.link.now() else { return };
            let calls = batch
                .iter()
                .map(|lease| self.scripts.renew(up.run(), lease));
            let (answers, sent) = match self.link.batch::<String>(&up, limit, calls.collect()).await
            {
                Ok(answers) => answers,
                Err(error) => {
                    tracing::warn!(%error, "failed to renew leases");
                    return;
                }
            };
            for (lease, answer) in batch.iter().zip(answers) {
                match Scripts::renewal(&answer) {
                    Renewal::Lost => self.table.lost(lease),
                    Renewal::Renewed(ask) => {
                        self.table.renewed(lease, sent);
                        // The message may have been lost.
                        if let Ask::Yield(offset) = ask {
                            self.table.request_yield(&lease.id, &lease.owner, offset);
                        }
                    }
                }
            }
        }
    }

    async fn release(&self) {
        let mut connections = self.link.connections();
        loop {
            tokio::select! {
                () = self.table.release_queued() => {}
                () = connections.next() => {}
            }
            self.send_releases().await;
        }
    }

    /// Sends all releases in the queue, if there is a connection.
    async fn send_releases(&self) {
        loop {
            let batch = self.table.releases(BATCH_SIZE);
            if batch.is_empty() {
                return;
            }
            let Some(up) = self.link.now() else { return };
            let calls = batch
                .iter()
                .map(|(id, lease)| self.scripts.release(up.run(), id, *lease));
            let limit = self.settings.patience / 2;
            match self.link.batch::<u8>(&up, limit, calls.collect()).await {
                Ok(_) => self.table.discard_releases(batch.len()),
                Err(error) => {
                    tracing::warn!(%error, "failed to release leases: they expire");
                    return;
                }
            }
        }
    }
}
