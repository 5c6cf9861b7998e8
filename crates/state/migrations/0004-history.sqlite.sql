-- Delivered events, for an operator. Times are milliseconds since 1970; attempts includes the successful one.
CREATE TABLE outbox_history (
    number INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    route TEXT NOT NULL,
    ordering_key TEXT NOT NULL,
    event_name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    delivered_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    last_error TEXT
);

CREATE INDEX outbox_history_order ON outbox_history (ordering_key, number);
