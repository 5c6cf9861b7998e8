CREATE SEQUENCE lease_fences INCREMENT BY 1048576;

-- A server that lost its state continues from the clock, so that fences keep growing.
SELECT setval('lease_fences', CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000000 AS BIGINT));

-- Free space on each page lets renewals stay there without a change of the index.
CREATE TABLE leases (
    name TEXT COLLATE "C" PRIMARY KEY,
    owner TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    fence BIGINT NOT NULL,
    waiter TEXT NOT NULL DEFAULT '',
    waiter_expires_at BIGINT NOT NULL DEFAULT 0,
    waiter_offset BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
