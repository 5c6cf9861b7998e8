//! Counts of deliveries, maintained by triggers.
//!
//! On PostgreSQL each connection counts in its own row, named by its backend process, so that no
//! transaction waits for another. The rows are merged from time to time.

use crate::sql::{Connections, DatabaseError, Statement};

const MERGE_FROM: i64 = 200;

pub(crate) fn counts() -> Statement {
    Statement::new(
        "SELECT route, state, CAST(SUM(deliveries) AS BIGINT) AS deliveries, \
         CAST(SUM(bytes) AS BIGINT) AS bytes \
         FROM outbox_counts GROUP BY route, state",
    )
}

/// Waits for no other transaction, and blocks others only briefly.
pub(crate) async fn merge_counts(connections: &Connections) -> Result<(), DatabaseError> {
    if !connections.is_postgres() {
        return Ok(());
    }
    let shards = "SELECT COUNT(*) AS shards FROM outbox_counts";
    let rows = connections.read(Statement::new(shards)).await?;
    if rows.first().map_or(Ok(0), |row| row.number("shards"))? < MERGE_FROM {
        return Ok(());
    }
    let mut transaction = connections.write().await?;
    let lock = "SELECT 1 FROM (SELECT pg_try_advisory_xact_lock(7002461341) AS mine) AS lock \
                WHERE mine";
    if transaction.fetch(Statement::new(lock)).await?.is_empty() {
        return Ok(());
    }
    let merge = "WITH shards AS MATERIALIZED (SELECT shard, route, state FROM outbox_counts \
         WHERE shard <> 0 FOR UPDATE SKIP LOCKED), \
         merged AS (DELETE FROM outbox_counts AS c USING shards AS s WHERE c.shard = s.shard \
         AND c.route = s.route AND c.state = s.state \
         RETURNING c.route, c.state, c.deliveries, c.bytes) \
         INSERT INTO outbox_counts AS c (shard, route, state, deliveries, bytes) \
         SELECT 0, route, state, CAST(SUM(deliveries) AS BIGINT), CAST(SUM(bytes) AS BIGINT) \
         FROM merged GROUP BY route, state ON CONFLICT (shard, route, state) DO UPDATE \
         SET deliveries = c.deliveries + excluded.deliveries, bytes = c.bytes + excluded.bytes";
    transaction.execute(Statement::new(merge)).await?;
    transaction.commit().await
}
