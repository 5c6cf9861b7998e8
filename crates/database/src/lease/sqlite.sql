CREATE TABLE lease_fences (next INTEGER NOT NULL);
INSERT INTO lease_fences VALUES (CAST(unixepoch('subsec') * 1000000000 AS INTEGER));

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    waiter TEXT NOT NULL DEFAULT '',
    waiter_expires_at INTEGER NOT NULL DEFAULT 0,
    waiter_offset INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
