//! Counts of deliveries. Triggers keep them, so that they hold whoever writes.
//!
//! On PostgreSQL each connection counts in a row of its own, named by its process, so that no
//! transaction waits for the count of another; now and then the rows are merged.

use landfall_database::{Connections, DatabaseError, Statement};

/// Rows of counts that are merged.
const MERGE_FROM: i64 = 200;

const SQLITE: [&str; 3] = [
    "CREATE TRIGGER IF NOT EXISTS outbox_count_inserted AFTER INSERT ON outbox_deliveries BEGIN \
     INSERT INTO outbox_counts (shard, route, state, deliveries, bytes) \
     VALUES (0, NEW.route, NEW.state, 1, NEW.bytes) \
     ON CONFLICT (shard, route, state) DO UPDATE SET deliveries = deliveries + 1, \
     bytes = bytes + excluded.bytes; END",
    "CREATE TRIGGER IF NOT EXISTS outbox_count_deleted AFTER DELETE ON outbox_deliveries BEGIN \
     UPDATE outbox_counts SET deliveries = deliveries - 1, bytes = bytes - OLD.bytes \
     WHERE shard = 0 AND route = OLD.route AND state = OLD.state; END",
    "CREATE TRIGGER IF NOT EXISTS outbox_count_updated AFTER UPDATE OF state, bytes \
     ON outbox_deliveries WHEN OLD.state <> NEW.state OR OLD.bytes <> NEW.bytes BEGIN \
     UPDATE outbox_counts SET deliveries = deliveries - 1, bytes = bytes - OLD.bytes \
     WHERE shard = 0 AND route = OLD.route AND state = OLD.state; \
     INSERT INTO outbox_counts (shard, route, state, deliveries, bytes) \
     VALUES (0, NEW.route, NEW.state, 1, NEW.bytes) \
     ON CONFLICT (shard, route, state) DO UPDATE SET deliveries = deliveries + 1, \
     bytes = bytes + excluded.bytes; END",
];

const POSTGRES: [&str; 4] = [
    "CREATE FUNCTION outbox_count() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     IF TG_OP = 'INSERT' THEN \
       INSERT INTO outbox_counts AS c (shard, route, state, deliveries, bytes) \
       SELECT pg_backend_pid(), route, state, COUNT(*), CAST(SUM(bytes) AS BIGINT) \
       FROM added GROUP BY route, state \
       ON CONFLICT (shard, route, state) DO UPDATE \
       SET deliveries = c.deliveries + excluded.deliveries, bytes = c.bytes + excluded.bytes; \
     ELSIF TG_OP = 'DELETE' THEN \
       INSERT INTO outbox_counts AS c (shard, route, state, deliveries, bytes) \
       SELECT pg_backend_pid(), route, state, -COUNT(*), CAST(-SUM(bytes) AS BIGINT) \
       FROM removed GROUP BY route, state \
       ON CONFLICT (shard, route, state) DO UPDATE \
       SET deliveries = c.deliveries + excluded.deliveries, bytes = c.bytes + excluded.bytes; \
     ELSE \
       INSERT INTO outbox_counts AS c (shard, route, state, deliveries, bytes) \
       SELECT pg_backend_pid(), route, state, CAST(SUM(one) AS BIGINT), CAST(SUM(size) AS BIGINT) \
       FROM (SELECT route, state, 1 AS one, bytes AS size FROM added \
       UNION ALL SELECT route, state, -1, -bytes FROM removed) AS changed GROUP BY route, state \
       HAVING SUM(one) <> 0 OR SUM(size) <> 0 \
       ON CONFLICT (shard, route, state) DO UPDATE \
       SET deliveries = c.deliveries + excluded.deliveries, bytes = c.bytes + excluded.bytes; \
     END IF; RETURN NULL; END $$",
    "CREATE TRIGGER outbox_count_inserted AFTER INSERT ON outbox_deliveries \
     REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION outbox_count()",
    "CREATE TRIGGER outbox_count_deleted AFTER DELETE ON outbox_deliveries \
     REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION outbox_count()",
    "CREATE TRIGGER outbox_count_updated AFTER UPDATE ON outbox_deliveries \
     REFERENCING OLD TABLE AS removed NEW TABLE AS added \
     FOR EACH STATEMENT EXECUTE FUNCTION outbox_count()",
];

/// Creates the triggers if they are missing. A migration cannot: it is divided at each semicolon.
pub(in crate::outbox) async fn create_triggers(
    connections: &Connections,
) -> Result<(), DatabaseError> {
    let mut transaction = connections.write().await?;
    if connections.is_postgres() {
        let lock = "SELECT pg_advisory_xact_lock(7002461340)";
        transaction.execute(Statement::new(lock)).await?;
        let found = "SELECT CAST(tgname AS TEXT) FROM pg_trigger \
             WHERE tgname = 'outbox_count_updated' AND tgrelid = CAST('outbox_deliveries' AS regclass)";
        if transaction.fetch(Statement::new(found)).await?.is_empty() {
            for sql in POSTGRES {
                transaction.execute(Statement::new(sql)).await?;
            }
        }
    } else {
        for sql in SQLITE {
            transaction.execute(Statement::new(sql)).await?;
        }
    }
    transaction.commit().await
}

/// Reads how many deliveries each route has in each state, and their bytes.
pub(in crate::outbox) fn counts() -> Statement {
    Statement::new(
        "SELECT route, state, CAST(SUM(deliveries) AS BIGINT), CAST(SUM(bytes) AS BIGINT) \
         FROM outbox_counts GROUP BY route, state",
    )
}

/// Merges counts of PostgreSQL's connections if there are many, in a transaction of its own: it
/// waits for no other, and no other waits long for it.
pub(in crate::outbox) async fn merge_counts(
    connections: &Connections,
) -> Result<(), DatabaseError> {
    if !connections.is_postgres() {
        return Ok(());
    }
    let many = "SELECT COUNT(*) FROM outbox_counts";
    let rows = connections.read(Statement::new(many)).await?;
    if rows.first().map_or(Ok(0), |row| row.number(0))? < MERGE_FROM {
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
