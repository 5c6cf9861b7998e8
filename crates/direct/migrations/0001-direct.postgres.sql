-- Uploads straight to S3: what the queue doesn't know of them. Times are milliseconds since 1970, lengths are bytes.
-- Way: 0 put, 1 post, 2 multipart, 3 signed multipart. Standing: 0 opening, 1 open, 2 finishing, 3 finished, 4 gone.
CREATE TABLE direct_uploads (
    number BIGSERIAL PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    description TEXT NOT NULL,
    job BIGINT NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    way BIGINT NOT NULL,
    bucket TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    multipart TEXT,
    standing BIGINT NOT NULL,
    stored BIGINT NOT NULL,
    active_at BIGINT NOT NULL,
    check_at BIGINT,
    looks BIGINT NOT NULL,
    version BIGINT NOT NULL,
    ended BIGINT,
    lease_owner TEXT,
    lease_expires_at BIGINT NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX direct_own ON direct_uploads (subject, key, number);

CREATE INDEX direct_place ON direct_uploads (bucket, key, number);

CREATE INDEX direct_due ON direct_uploads (check_at) WHERE check_at IS NOT NULL;

CREATE INDEX direct_ended ON direct_uploads (ended) WHERE ended IS NOT NULL;

-- Random secrets in hexadecimal digits, made by the first node that needs them and shared by all.
CREATE TABLE direct_secrets (
    name TEXT PRIMARY KEY,
    secret TEXT NOT NULL
);
