//! Leases: exclusive rights with a lifetime, one row each.
//!
//! A row holds name, owner, expiry and fence. Only the clock of the database decides whether a
//! lease has expired. The row of a released lease is retained for a while, so that the fences of a
//! name increase by one. After the row is removed, a new one starts in a block of fences that no
//! row has used.
//!
//! On PostgreSQL a node can wait for a lease: the row names it, and notifications make the holder
//! yield and inform the waiter that the lease is reserved for it.

#[cfg(feature = "postgres")]
mod notice;
mod row;
mod sql;

use std::{fmt, time::Duration};

use crate::{Connections, DatabaseError, Migration, Statement, millis, signed, unsigned};

pub use row::{RowLease, RowLeases};

#[cfg(feature = "postgres")]
pub use notice::{LeaseNotice, LeaseNotices};

/// A row uses at most this many fences.
const FENCE_BLOCK: i64 = 1 << 20;
const HANDOFF_WINDOW: Duration = Duration::from_millis(200);
const MAX_BATCH: usize = 10_000;

/// The owner of one lease: a node, and a number that increases with each acquisition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseOwner {
    node: String,
    number: u64,
}

impl LeaseOwner {
    /// Creates an owner. The node's name must contain neither `:` nor white space.
    pub fn new(node: impl Into<String>, number: u64) -> Self {
        let node = node.into();
        Self { node, number }
    }

    /// Returns the number of the acquisition.
    pub const fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for LeaseOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.number)
    }
}

/// An owned lease, as it is renewed and released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedLease {
    /// The name, without white space.
    pub name: String,
    /// The owner that acquired it.
    pub owner: LeaseOwner,
}

/// The outcome of an attempt to acquire a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquisition {
    /// The lease was acquired.
    Granted {
        /// Greater than that of each earlier lease of the name, and by exactly one only if no lease
        /// of the name was granted in between.
        fence: u64,
        /// The request of another node that already waits for it.
        waiting: Option<WaitingRequest>,
    },
    /// Another node holds it.
    Held {
        /// Time until it expires unless renewed.
        remaining: Duration,
        /// The lease will be reserved for this owner's node when it is released.
        is_next: bool,
    },
}

/// A renewed lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The name.
    pub name: String,
    /// The request of another node that waits for it.
    pub waiting: Option<WaitingRequest>,
}

/// A request that waits for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingRequest {
    /// The offset at which the request appends; `None` if it does not append.
    pub offset: Option<u64>,
}

impl WaitingRequest {
    /// The offset plus one.
    fn to_column(self) -> i64 {
        self.offset
            .map_or(i64::MAX, |offset| signed(offset).saturating_add(1))
    }

    fn from_column(column: i64) -> Option<Self> {
        let offset = u64::try_from(column).ok()?.checked_sub(1)?;
        let offset = (column < i64::MAX).then_some(offset);
        Some(Self { offset })
    }
}

/// The table of leases. Cheap to clone.
///
/// # Errors
/// All methods fail if the database fails; a part may have been done, as of a dropped call.
#[derive(Debug, Clone)]
pub struct Leases {
    connections: Connections,
}

impl Leases {
    /// Creates a handle to the table, which [`migrate`](Self::migrate) creates.
    pub const fn new(connections: Connections) -> Self {
        Self { connections }
    }

    /// Creates the table if it is missing.
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        let step = Migration::expand(include_str!("sqlite.sql"), include_str!("postgres.sql"));
        self.connections.migrate("leases", &[step]).await
    }

    /// Acquires a lease for `ttl` if it is free, expired, or reserved for the owner's node.
    ///
    /// A lease of an earlier acquisition of that node, which the node must have ended, is acquired
    /// if no other node waits.
    ///
    /// With `waits_for`, the holder is requested to yield to that request, and the node becomes the
    /// next holder if no other waits; it must repeat the call within that time. SQLite records no
    /// waiter.
    ///
    /// After an error or a drop, the lease may have been acquired: [release](Self::release) it.
    pub async fn acquire(
        &self,
        name: &str,
        owner: &LeaseOwner,
        ttl: Duration,
        waits_for: Option<(Duration, WaitingRequest)>,
    ) -> Result<Acquisition, DatabaseError> {
        let ttl = millis(ttl);
        let (waits, request) = waits_for.map_or((0, 0), |(waits, request)| {
            (millis(waits), request.to_column())
        });
        let bound = |sql: String| {
            Statement::new(sql)
                .with(name)
                .with(owner.node.as_str())
                .with(signed(owner.number))
                .with(ttl)
        };
        let rows = if self.connections.is_postgres() {
            let statement = bound(sql::acquire_or_wait()).with(waits).with(request);
            self.connections.run(statement).await?
        } else {
            let mut transaction = self.connections.write().await?;
            transaction.execute(sql::next_block()).await?;
            let mut rows = transaction.fetch(bound(sql::acquire(false))).await?;
            if rows.is_empty() {
                rows = transaction.fetch(sql::remaining().with(name)).await?;
            }
            transaction.commit().await?;
            rows
        };
        // Another statement inserted the row concurrently: retry soon.
        let Some(row) = rows.first() else {
            let remaining = Duration::from_millis(5);
            return Ok(Acquisition::Held {
                remaining,
                is_next: false,
            });
        };
        Ok(match row.opt_number("fence")? {
            Some(fence) => Acquisition::Granted {
                fence: unsigned(fence),
                waiting: WaitingRequest::from_column(row.number("wanted")?),
            },
            None => Acquisition::Held {
                remaining: Duration::from_millis(unsigned(row.number("remaining")?)),
                is_next: row.number("wanted")? != 0,
            },
        })
    }

    /// Extends leases to `ttl` from now and returns them; missing ones belong to other owners.
    ///
    /// An expired lease that was not acquired since is renewed as well.
    pub async fn renew(
        &self,
        leases: &[OwnedLease],
        ttl: Duration,
    ) -> Result<Vec<Renewal>, DatabaseError> {
        let mut renewals = Vec::with_capacity(leases.len());
        for batch in leases.chunks(MAX_BATCH) {
            let statement = self.batch(sql::renew, batch).with(millis(ttl));
            for row in self.connections.run(statement).await? {
                renewals.push(Renewal {
                    name: row.text("name")?,
                    waiting: WaitingRequest::from_column(row.number("wanted")?),
                });
            }
        }
        Ok(renewals)
    }

    /// Releases leases, except those that belong to other owners.
    ///
    /// On PostgreSQL a lease is reserved for the node that waits for it, which is notified. Leases that were
    /// not released after an error expire.
    pub async fn release(&self, leases: &[OwnedLease]) -> Result<(), DatabaseError> {
        for batch in leases.chunks(MAX_BATCH) {
            let statement = self.batch(sql::release, batch);
            let statement = statement.with(millis(HANDOFF_WINDOW));
            self.connections.run(statement).await?;
        }
        Ok(())
    }

    /// Removes the rows of leases that expired or were released at least `age` ago.
    pub async fn purge(&self, age: Duration) -> Result<(), DatabaseError> {
        let statement = sql::purge(self.connections.is_postgres()).with(millis(age));
        self.connections.run(statement).await.map(drop)
    }

    /// Returns the connections of the table.
    pub const fn connections(&self) -> &Connections {
        &self.connections
    }

    fn batch(&self, sql: fn(bool) -> String, leases: &[OwnedLease]) -> Statement {
        let is_postgres = self.connections.is_postgres();
        // A JSON list for SQLite; names and owners need no escapes.
        let list = |texts: Vec<String>| match is_postgres {
            true => texts.join(" "),
            false => format!("[\"{}\"]", texts.join("\",\"")),
        };
        let names = leases.iter().map(|lease| lease.name.clone()).collect();
        let owners = leases.iter().map(|lease| lease.owner.to_string()).collect();
        Statement::new(sql(is_postgres))
            .with(list(names))
            .with(list(owners))
    }
}
