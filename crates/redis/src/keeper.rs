//! The thread that keeps this node's leases: it connects, renews, gives up, and tells holders whose
//! lease is about to lapse.
//!
//! It is a thread of its own, so that leases are renewed in time whatever the runtimes of the
//! requests are busy with, and whichever of them ends.

use std::{sync::Arc, thread, time::Duration};

use tokio::{sync::Notify, sync::watch, time::timeout};

use crate::{
    link::Link,
    scripts::Scripts,
    settings::{RedisSettings, SettingsError},
    table::Table,
};

/// How many calls go to Redis in one go.
const BATCH: usize = 256;
/// How long the end of the locker may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) table: Arc<Table>,
    pub(crate) link: Arc<Link>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) settings: RedisSettings,
    /// Told after releases were sent.
    pub(crate) sent: Arc<Notify>,
    /// Told when leases have to be renewed.
    pub(crate) due: Notify,
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
            tokio::join!(self.link.keep(), self.watch(), self.renew(), self.release());
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        // What can't be sent now lapses.
        drop(timeout(LAST_WORDS, self.send_releases()).await);
    }

    /// Looks after the clocks of all leases, while there are any.
    async fn watch(&self) {
        let often = self.settings.ttl / 50;
        loop {
            while self.table.len() == 0 {
                self.table.first.notified().await;
            }
            tokio::time::sleep(often).await;
            let expired = self.table.expire();
            if expired > 0 {
                tracing::warn!(
                    leases = expired,
                    redis = self.link.address(),
                    "leases could not be renewed in time: their holders have to stop"
                );
            }
            if self.table.is_due(self.young()) {
                self.due.notify_one();
            }
        }
    }

    /// The age up to which a lease needs no renewal. With the time between two looks, leases are
    /// renewed at a third of their lifetime at the latest; requests shorter than this never are.
    fn young(&self) -> Duration {
        self.settings.ttl / 4
    }

    async fn renew(&self) {
        let mut connections = self.link.connections();
        loop {
            // On a new connection all at once: the server may have lost everything.
            let age = tokio::select! {
                () = self.due.notified() => self.young(),
                () = connections.next() => Duration::ZERO,
            };
            self.renew_older_than(age).await;
        }
    }

    async fn renew_older_than(&self, age: Duration) {
        let limit = (self.settings.patience / 2).min(self.settings.ttl / 5);
        let due = self.table.due(age);
        for batch in due.chunks(BATCH) {
            let Some(up) = self.link.now() else { return };
            let calls = batch.iter().map(|renewal| {
                self.scripts
                    .renew(up.run(), &renewal.id, renewal.token, renewal.fence)
            });
            let (answers, sent) = match self.link.batch(&up, limit, calls.collect()).await {
                Ok(answers) => answers,
                Err(error) => {
                    tracing::warn!(%error, "can't renew leases");
                    return;
                }
            };
            for (renewal, answer) in batch.iter().zip(answers) {
                if answer == 0 {
                    if self.table.lost(renewal) {
                        tracing::warn!(upload = %renewal.id, "another node has the lease");
                    }
                    continue;
                }
                self.table.renewed(renewal, sent);
                // The message that said so may have got lost.
                if answer == 2 {
                    self.table.asked(&renewal.id, renewal.token);
                }
            }
        }
    }

    async fn release(&self) {
        let mut connections = self.link.connections();
        loop {
            tokio::select! {
                () = self.table.released.notified() => {}
                () = connections.next() => {}
            }
            self.send_releases().await;
        }
    }

    /// Sends what there is to release, if there is a connection.
    async fn send_releases(&self) {
        loop {
            let batch = self.table.releases(BATCH);
            if batch.is_empty() {
                self.sent.notify_waiters();
                return;
            }
            let Some(up) = self.link.now() else { return };
            let calls = batch
                .iter()
                .map(|release| self.scripts.release(up.run(), &release.id, release.token));
            let limit = self.settings.patience / 2;
            match self.link.batch(&up, limit, calls.collect()).await {
                Ok(_) => self.table.forget_releases(batch.len()),
                Err(error) => {
                    tracing::warn!(%error, "can't give up leases: they lapse");
                    return;
                }
            }
        }
    }
}
