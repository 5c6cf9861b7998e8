//! Notifications between nodes by PostgreSQL's LISTEN and NOTIFY.

use std::time::Duration;

use tokio::time::timeout;

use super::{LeaseOwner, Leases, WaitingRequest, sql};
use crate::{DatabaseError, Listener, Statement};

const SELF_TEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A notification about a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseNotice {
    /// Another node waits for a lease: its owner should release it.
    Yield {
        /// The name of the lease.
        name: String,
        /// Its owner.
        owner: LeaseOwner,
        /// The request that waits.
        request: WaitingRequest,
    },
    /// A lease was released and is reserved for a node.
    Reserved {
        /// The name of the lease.
        name: String,
        /// The node that waited.
        node: String,
    },
}

/// A subscription to the notifications of all nodes.
#[derive(Debug)]
pub struct LeaseNotices(Listener);

impl Leases {
    /// Subscribes to the notifications of all nodes and checks that they arrive.
    ///
    /// # Errors
    /// The database failed, or [`DatabaseError::NoNotifications`].
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn subscribe(&self) -> Result<LeaseNotices, DatabaseError> {
        let mut listener = self.connections().listener().await?;
        // A separate channel: PgBouncer would leave LISTEN active for other clients.
        let channel = format!("landfall_test_{:016x}", rand::random::<u64>());
        listener.listen(&channel).await?;
        let notify = Statement::new("SELECT CAST(pg_notify($1, '') AS TEXT)");
        let arrives = async {
            self.connections()
                .run(notify.with(channel.as_str()))
                .await?;
            listener.receive().await.map(drop)
        };
        match timeout(SELF_TEST_TIMEOUT, arrives).await {
            Ok(Ok(())) => {}
            // PgBouncer delivered it to another client.
            Ok(Err(DatabaseError::Postgres(sqlx::Error::Protocol(_)))) | Err(_) => {
                return Err(DatabaseError::NoNotifications);
            }
            Ok(Err(error)) => return Err(error),
        }
        listener.listen(sql::CHANNEL).await?;
        listener.unlisten(&channel).await?;
        Ok(LeaseNotices(listener))
    }
}

impl LeaseNotices {
    /// Waits for the next notification.
    ///
    /// # Errors
    /// The connection was lost, and notifications with it: subscribe again.
    ///
    /// # Cancel safety
    /// Dropping it loses no notification.
    pub async fn receive(&mut self) -> Result<LeaseNotice, DatabaseError> {
        loop {
            if let Some(notice) = parse(&self.0.receive().await?) {
                return Ok(notice);
            }
        }
    }
}

fn parse(text: &str) -> Option<LeaseNotice> {
    let (kind, rest) = text.split_once(' ')?;
    let (owner, rest) = rest.split_once(' ')?;
    let (node, number) = owner.split_once(':')?;
    match kind {
        "yield" => {
            let (column, name) = rest.split_once(' ')?;
            Some(LeaseNotice::Yield {
                owner: LeaseOwner::new(node, number.parse().ok()?),
                request: WaitingRequest::from_column(column.parse().ok()?)?,
                name: name.to_owned(),
            })
        }
        "free" => Some(LeaseNotice::Reserved {
            name: rest.to_owned(),
            node: node.to_owned(),
        }),
        _ => None,
    }
}
