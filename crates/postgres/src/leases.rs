//! The table of leases.
//!
//! A row holds name, owner, expiry and fence. Only the clock of the database decides whether a
//! lease has expired. The row of a released lease is retained for a while, so that the fences of a
//! name increase by one. After the row is removed, a new one starts in a block of fences that no
//! row has used.
//!
//! A node can wait for a lease: the row names it, and notifications make the holder yield and
//! inform the waiter that the lease is reserved for it.

use std::{collections::HashMap, time::Duration};

use landfall::{lease::remote::OwnedLease, upload::UploadId};
use landfall_state::sql::{
    Connections, DatabaseError, Listener, Migration, Statement, millis, signed, unsigned,
};

const MIGRATIONS: &[Migration] = &[Migration::expand(
    "",
    include_str!("../migrations/0001-leases.sql"),
)];
/// A row uses at most this many fences.
const FENCE_BLOCK: i64 = 1 << 20;
const HANDOFF_WINDOW: Duration = Duration::from_millis(200);
const MAX_BATCH: usize = 10_000;
const CHANNEL: &str = "landfall_leases";
/// Other parts of the server may have leases as well.
const PREFIX: &str = "upload/";

/// Milliseconds since 1970 at which the statement started: after waiting for a row it is early,
/// which is safe.
const NOW: &str = "CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)";
/// `$1` names, `$2` owners.
const MINE: &str = "(SELECT * FROM unnest(string_to_array($1, ' '), string_to_array($2, ' ')) \
     AS list (name, owner)) AS mine";

/// The outcome of an attempt to acquire a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquisition {
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
        /// The lease will be reserved for this node when it is released.
        is_next: bool,
    },
}

/// A request that waits for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitingRequest {
    /// The offset at which the request appends; `None` if it does not append.
    pub(crate) offset: Option<u64>,
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

/// A notification for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Another node waits for the lease with this number.
    Yield(UploadId, u64, WaitingRequest),
    /// A lease was released and is reserved for this node.
    Reserved(UploadId),
}

/// The leases of a node.
#[derive(Debug)]
pub(crate) struct Leases {
    pub(crate) connections: Connections,
    node: String,
}

impl Leases {
    /// The node's name must contain neither `:` nor white space.
    pub(crate) fn new(connections: Connections, node: String) -> Self {
        Self { connections, node }
    }

    /// Creates the table if it is missing.
    pub(crate) async fn migrate(&self) -> Result<(), DatabaseError> {
        self.connections.migrate("leases", MIGRATIONS).await
    }

    /// Acquires a lease for `ttl` if it is free, expired, or reserved for this node.
    ///
    /// A lease with a lower number of this node, which the node must have ended, is acquired if no
    /// other node waits.
    ///
    /// With `waits_for`, the holder is requested to yield to that request, and the node becomes the
    /// next holder if no other waits; it must repeat the call within that time.
    ///
    /// After an error or a drop, the lease may have been acquired: [release](Self::release) it.
    pub(crate) async fn acquire(
        &self,
        id: &UploadId,
        number: u64,
        ttl: Duration,
        waits_for: Option<(Duration, WaitingRequest)>,
    ) -> Result<Acquisition, DatabaseError> {
        let (waits, request) = waits_for.map_or((0, 0), |(waits, request)| {
            (millis(waits), request.to_column())
        });
        let statement = Statement::new(acquire_or_wait())
            .with(name(id))
            .with(self.node.as_str())
            .with(signed(number))
            .with(millis(ttl))
            .with(waits)
            .with(request);
        let rows = self.connections.read(statement).await?;
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

    /// Extends leases to `ttl` from now and returns them, with the request of another node that
    /// waits; missing ones belong to other owners.
    ///
    /// An expired lease that was not acquired since is renewed as well.
    pub(crate) async fn renew(
        &self,
        leases: &[OwnedLease],
        ttl: Duration,
    ) -> Result<HashMap<UploadId, Option<WaitingRequest>>, DatabaseError> {
        let leases: Vec<_> = leases
            .iter()
            .map(|lease| (&lease.id, lease.number))
            .collect();
        let mut renewed = HashMap::with_capacity(leases.len());
        for batch in leases.chunks(MAX_BATCH) {
            let statement = self.batch(renew(), batch).with(millis(ttl));
            for row in self.connections.read(statement).await? {
                let waiting = WaitingRequest::from_column(row.number("wanted")?);
                renewed.extend(upload_id(&row.text("name")?).map(|id| (id, waiting)));
            }
        }
        Ok(renewed)
    }

    /// Releases leases, except those that belong to other owners.
    ///
    /// A lease is reserved for the node that waits for it, which is notified. Leases that were not
    /// released after an error expire.
    pub(crate) async fn release(&self, leases: &[(UploadId, u64)]) -> Result<(), DatabaseError> {
        let leases: Vec<_> = leases.iter().map(|(id, number)| (id, *number)).collect();
        for batch in leases.chunks(MAX_BATCH) {
            let statement = self.batch(release(), batch).with(millis(HANDOFF_WINDOW));
            self.connections.read(statement).await?;
        }
        Ok(())
    }

    fn batch(&self, sql: String, leases: &[(&UploadId, u64)]) -> Statement {
        let names: Vec<_> = leases.iter().map(|(id, _)| name(id)).collect();
        let owners = leases
            .iter()
            .map(|(_, number)| format!("{}:{number}", self.node));
        let owners: Vec<_> = owners.collect();
        Statement::new(sql)
            .with(names.join(" "))
            .with(owners.join(" "))
    }

    /// Removes the rows of leases that expired or were released at least `age` ago.
    pub(crate) async fn purge(&self, age: Duration) -> Result<(), DatabaseError> {
        let purge = format!("DELETE FROM leases WHERE expires_at <= {NOW} - $1");
        let purge = Statement::new(purge).with(millis(age));
        self.connections.read(purge).await.map(drop)
    }

    /// Subscribes to the notifications of all nodes and checks that they arrive.
    ///
    /// # Errors
    /// The database failed, or [`DatabaseError::NoNotifications`].
    pub(crate) async fn subscribe(&self) -> Result<Listener, DatabaseError> {
        let mut listener = self.connections.listener().await?;
        listener.check(&self.connections).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    /// Parses a notification: `yield OWNER OFFSET NAME` or `free OWNER NAME`. `None` if it is for
    /// another node.
    pub(crate) fn notice(&self, text: &str) -> Option<Notice> {
        let (kind, rest) = text.split_once(' ')?;
        let (owner, rest) = rest.split_once(' ')?;
        let (node, number) = owner.split_once(':')?;
        if node != self.node {
            return None;
        }
        match kind {
            "yield" => {
                let (column, name) = rest.split_once(' ')?;
                let request = WaitingRequest::from_column(column.parse().ok()?)?;
                Some(Notice::Yield(
                    upload_id(name)?,
                    number.parse().ok()?,
                    request,
                ))
            }
            "free" => Some(Notice::Reserved(upload_id(rest)?)),
            _ => None,
        }
    }
}

fn name(id: &UploadId) -> String {
    format!("{PREFIX}{id}")
}

fn upload_id(name: &str) -> Option<UploadId> {
    UploadId::new(name.strip_prefix(PREFIX)?).ok()
}

/// Acquires the lease `$1` for the node `$2` and its number `$3` for `$4`. Otherwise registers the
/// node as waiter for `$5` (unless 0) and makes the holder yield. `$6` is the offset at which the
/// request appends, plus one.
fn acquire_or_wait() -> String {
    // A release that this call waited for may have a later time. A delayed older call must not
    // replace a newer lease of its node. The waiter of an expired lease may be dead like its
    // holder; a live one repeats its call. The update of the waiter waits for the newest version of
    // the row, which the snapshot may lack.
    format!(
        "WITH acquired AS (\
         INSERT INTO leases AS lease (name, owner, expires_at, fence) \
         VALUES ($1, $2 || ':' || CAST($3 AS TEXT), {NOW} + $4, nextval('lease_fences')) \
         ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, \
         expires_at = excluded.expires_at, \
         fence = CASE WHEN (lease.fence + 1) % {FENCE_BLOCK} = 0 THEN excluded.fence \
         ELSE lease.fence + 1 END, \
         waiter = CASE WHEN lease.waiter = $2 OR lease.expires_at <= {NOW} THEN '' \
         ELSE lease.waiter END \
         WHERE lease.expires_at <= {NOW} OR lease.owner IN ('', $2 || ':') \
         OR CASE WHEN lease.owner LIKE $2 || ':_%' \
         THEN CAST(split_part(lease.owner, ':', 2) AS BIGINT) < $3 \
         AND (lease.waiter IN ('', $2) OR lease.waiter_expires_at <= {NOW}) ELSE FALSE END \
         RETURNING fence, CASE WHEN waiter <> '' AND waiter_expires_at > {NOW} \
         THEN waiter_offset ELSE 0 END AS wanted), waiting AS (\
         UPDATE leases SET \
         waiter = CASE WHEN waiter = '' OR waiter_expires_at <= {NOW} THEN $2 ELSE waiter END, \
         waiter_expires_at = CASE WHEN waiter IN ('', $2) OR waiter_expires_at <= {NOW} \
         THEN {NOW} + $5 ELSE waiter_expires_at END, \
         waiter_offset = CASE WHEN waiter IN ('', $2) OR waiter_expires_at <= {NOW} \
         THEN $6 ELSE waiter_offset END \
         WHERE name = $1 AND $5 > 0 AND NOT EXISTS (SELECT 1 FROM acquired) \
         RETURNING expires_at, \
         CASE WHEN waiter = $2 THEN 1 ELSE 0 END AS is_next, \
         CASE WHEN owner LIKE '%:_%' THEN pg_notify('{CHANNEL}', \
         'yield ' || owner || ' ' || CAST($6 AS TEXT) || ' ' || name) END) \
         SELECT fence, wanted, CAST(NULL AS BIGINT) AS remaining FROM acquired \
         UNION ALL SELECT NULL, is_next, greatest(expires_at - {NOW}, 0) FROM waiting \
         UNION ALL SELECT NULL, 0, greatest(expires_at - {NOW}, 0) FROM leases \
         WHERE name = $1 AND $5 <= 0 AND NOT EXISTS (SELECT 1 FROM acquired)"
    )
}

/// Extends by `$3`.
fn renew() -> String {
    format!(
        "UPDATE leases SET expires_at = {NOW} + $3 FROM {MINE} \
         WHERE leases.name = mine.name AND leases.owner = mine.owner \
         RETURNING leases.name AS name, \
         CASE WHEN waiter <> '' AND waiter_expires_at > {NOW} THEN waiter_offset ELSE 0 END \
         AS wanted"
    )
}

/// Reserves leases for their waiters for `$3`. A release that a crash undoes expires: it needs no
/// sync.
fn release() -> String {
    format!(
        "WITH released AS (UPDATE leases SET \
         owner = CASE WHEN waiter <> '' AND waiter_expires_at > {NOW} THEN waiter || ':' ELSE '' END, \
         expires_at = CASE WHEN waiter <> '' AND waiter_expires_at > {NOW} THEN {NOW} + $3 \
         ELSE {NOW} END, waiter = '', waiter_expires_at = 0 FROM {MINE} \
         WHERE leases.name = mine.name AND leases.owner = mine.owner \
         RETURNING leases.name AS name, leases.owner AS owner) \
         SELECT set_config('synchronous_commit', 'off', true) \
         UNION ALL SELECT CAST(pg_notify('{CHANNEL}', 'free ' || owner || ' ' || name) AS TEXT) \
         FROM released WHERE owner <> ''"
    )
}

#[cfg(test)]
mod tests;
