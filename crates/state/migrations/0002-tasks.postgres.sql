-- Background work that one process at a time does. Its lease is in its row.
CREATE TABLE queue_tasks (
    id TEXT PRIMARY KEY,
    lease_owner TEXT,
    lease_expires_at BIGINT NOT NULL DEFAULT 0
);
INSERT INTO queue_tasks (id) VALUES ('reconcile');
