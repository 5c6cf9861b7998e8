-- One row for each event and route. State: 0 prepared, 1 pending, 2 dead.
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
) WITHOUT ROWID;

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
) WITHOUT ROWID;

-- Counts of deliveries, as sums over shards. Maintained by triggers.
CREATE TABLE outbox_counts (
    shard BIGINT NOT NULL,
    route TEXT NOT NULL,
    state BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (shard, route, state)
) WITHOUT ROWID;

CREATE TRIGGER outbox_count_inserted AFTER INSERT ON outbox_deliveries BEGIN
    INSERT INTO outbox_counts (shard, route, state, deliveries, bytes)
    VALUES (0, NEW.route, NEW.state, 1, NEW.bytes)
    ON CONFLICT (shard, route, state) DO UPDATE SET deliveries = deliveries + 1,
    bytes = bytes + excluded.bytes; END;

CREATE TRIGGER outbox_count_deleted AFTER DELETE ON outbox_deliveries BEGIN
    UPDATE outbox_counts SET deliveries = deliveries - 1, bytes = bytes - OLD.bytes
    WHERE shard = 0 AND route = OLD.route AND state = OLD.state; END;

CREATE TRIGGER outbox_count_updated AFTER UPDATE OF state, bytes
    ON outbox_deliveries WHEN OLD.state <> NEW.state OR OLD.bytes <> NEW.bytes BEGIN
    UPDATE outbox_counts SET deliveries = deliveries - 1, bytes = bytes - OLD.bytes
    WHERE shard = 0 AND route = OLD.route AND state = OLD.state;
    INSERT INTO outbox_counts (shard, route, state, deliveries, bytes)
    VALUES (0, NEW.route, NEW.state, 1, NEW.bytes)
    ON CONFLICT (shard, route, state) DO UPDATE SET deliveries = deliveries + 1,
    bytes = bytes + excluded.bytes; END;
