-- One row for each event and route. State: 0 announced, 1 told, 2 dead.
-- Rows live for milliseconds: the places of old ones are used again early.
CREATE TABLE outbox_deliveries (
    event TEXT NOT NULL,
    route TEXT NOT NULL,
    upload TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    hook TEXT NOT NULL,
    state BIGINT NOT NULL,
    owner TEXT,
    due BIGINT NOT NULL,
    since BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    error TEXT,
    message TEXT NOT NULL,
    PRIMARY KEY (event, route)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX outbox_announced ON outbox_deliveries (owner, due) WHERE state = 0;

CREATE INDEX outbox_order ON outbox_deliveries (upload, route, sequence) WHERE state = 1;

CREATE INDEX outbox_told ON outbox_deliveries (owner, due) WHERE state = 1;

CREATE INDEX outbox_dead ON outbox_deliveries (since) WHERE state = 2;

-- Processes that may own rows, each until a time.
CREATE TABLE outbox_nodes (
    node TEXT PRIMARY KEY,
    until BIGINT NOT NULL
);
