-- One row for each event and route. State: 0 prepared, 1 pending, 2 dead.
-- Rows exist for milliseconds, so their space is reclaimed early.
CREATE TABLE outbox_deliveries (
    event_id TEXT NOT NULL,
    route TEXT NOT NULL,
    ordering_key TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    event_name TEXT NOT NULL,
    state BIGINT NOT NULL,
    -- Empty if no node owns the row.
    owner_node TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    first_failed_at BIGINT,
    dead_at BIGINT,
    last_error TEXT,
    message TEXT NOT NULL,
    -- The length of the message.
    bytes BIGINT NOT NULL,
    PRIMARY KEY (event_id, route)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX outbox_prepared ON outbox_deliveries (due_at) WHERE state = 0 AND owner_node = '';

CREATE INDEX outbox_order ON outbox_deliveries (ordering_key, route, sequence) WHERE state = 1;

CREATE INDEX outbox_pending ON outbox_deliveries (route, due_at)
    WHERE state = 1 AND owner_node = '' AND first_failed_at IS NULL;

CREATE INDEX outbox_retries ON outbox_deliveries (route, due_at)
    WHERE state = 1 AND owner_node = '' AND first_failed_at IS NOT NULL;

CREATE INDEX outbox_owned ON outbox_deliveries (owner_node) WHERE owner_node <> '';

CREATE INDEX outbox_dead ON outbox_deliveries (dead_at) WHERE state = 2;

-- Nodes that can own rows, with the expiry of their leases.
CREATE TABLE outbox_nodes (
    node_id TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

-- Counts of deliveries, as sums over shards. Maintained by triggers.
CREATE TABLE outbox_counts (
    shard BIGINT NOT NULL,
    route TEXT NOT NULL,
    state BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (shard, route, state)
) WITH (fillfactor = 50);

CREATE FUNCTION outbox_count() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' THEN
    INSERT INTO outbox_counts AS c (shard, route, state, deliveries, bytes)
    SELECT pg_backend_pid(), route, state, COUNT(*), CAST(SUM(bytes) AS BIGINT)
    FROM added GROUP BY route, state
    ON CONFLICT (shard, route, state) DO UPDATE
    SET deliveries = c.deliveries + excluded.deliveries, bytes = c.bytes + excluded.bytes;
    ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO outbox_counts AS c (shard, route, state, deliveries, bytes)
    SELECT pg_backend_pid(), route, state, -COUNT(*), CAST(-SUM(bytes) AS BIGINT)
    FROM removed GROUP BY route, state
    ON CONFLICT (shard, route, state) DO UPDATE
    SET deliveries = c.deliveries + excluded.deliveries, bytes = c.bytes + excluded.bytes;
    ELSE
    INSERT INTO outbox_counts AS c (shard, route, state, deliveries, bytes)
    SELECT pg_backend_pid(), route, state, CAST(SUM(one) AS BIGINT), CAST(SUM(size) AS BIGINT)
    FROM (SELECT route, state, 1 AS one, bytes AS size FROM added
    UNION ALL SELECT route, state, -1, -bytes FROM removed) AS changed GROUP BY route, state
    HAVING SUM(one) <> 0 OR SUM(size) <> 0
    ON CONFLICT (shard, route, state) DO UPDATE
    SET deliveries = c.deliveries + excluded.deliveries, bytes = c.bytes + excluded.bytes;
    END IF; RETURN NULL; END $$;

CREATE TRIGGER outbox_count_inserted AFTER INSERT ON outbox_deliveries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION outbox_count();

CREATE TRIGGER outbox_count_deleted AFTER DELETE ON outbox_deliveries
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION outbox_count();

CREATE TRIGGER outbox_count_updated AFTER UPDATE ON outbox_deliveries
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_count();
