//! The lease thread: it connects, renews and releases leases, and stops holders whose lease is
//! about to expire.

use std::{sync::Arc, time::Duration};

use landfall::lease::remote::LeaseTable;
use tokio::{sync::watch, time::timeout};

use crate::{
    connection::RedisConnection,
    scripts::{Renewal, Scripts, YieldRequest},
    settings::RedisSettings,
};

const BATCH_SIZE: usize = 256;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Shared {
    pub(crate) table: Arc<LeaseTable>,
    pub(crate) connection: Arc<RedisConnection>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) settings: RedisSettings,
}

impl Shared {
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let work = async {
            tokio::join!(
                self.connection.maintain(),
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

    /// Renews each lease at a quarter of its lifetime; shorter leases are never renewed.
    async fn renew(&self) {
        let mut reconnects = self.connection.reconnects();
        loop {
            // All leases on a new connection: the server may have lost them.
            let age = tokio::select! {
                () = self.table.tick() => self.settings.ttl / 4,
                () = reconnects.next() => Duration::ZERO,
            };
            self.renew_older_than(age).await;
        }
    }

    async fn renew_older_than(&self, age: Duration) {
        let limit = (self.settings.timeout / 2).min(self.settings.ttl / 5);
        let due = self.table.due(age);
        for batch in due.chunks(BATCH_SIZE) {
            let Some(live) = self.connection.live() else {
                return;
            };
            let calls = batch
                .iter()
                .map(|lease| self.scripts.renew(live.run(), lease));
            let renewed = self.connection.pipeline::<String>(&live, limit, calls);
            let (replies, sent) = match renewed.await {
                Ok(replies) => replies,
                Err(error) => {
                    tracing::warn!(%error, "failed to renew leases");
                    return;
                }
            };
            for (lease, reply) in batch.iter().zip(replies) {
                match Scripts::renewal(&reply) {
                    Renewal::Lost => self.table.lost(lease),
                    Renewal::Renewed(request) => {
                        self.table.renewed(lease, sent);
                        // The message may have been lost.
                        if let YieldRequest::Yield(offset) = request {
                            self.table.request_yield(&lease.id, lease.number, offset);
                        }
                    }
                }
            }
        }
    }

    async fn release(&self) {
        let mut reconnects = self.connection.reconnects();
        loop {
            tokio::select! {
                () = self.table.release_queued() => {}
                () = reconnects.next() => {}
            }
            self.send_releases().await;
        }
    }

    async fn send_releases(&self) {
        loop {
            let batch = self.table.releases(BATCH_SIZE);
            if batch.is_empty() {
                return;
            }
            let Some(live) = self.connection.live() else {
                return;
            };
            let calls = batch.iter();
            let calls = calls.map(|(id, number)| self.scripts.release(live.run(), id, *number));
            let limit = self.settings.timeout / 2;
            match self.connection.pipeline::<u8>(&live, limit, calls).await {
                Ok(_) => self.table.discard_releases(batch.len()),
                Err(error) => {
                    tracing::warn!(%error, "failed to release leases: they expire");
                    return;
                }
            }
        }
    }
}
