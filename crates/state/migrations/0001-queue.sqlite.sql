-- Jobs. Times are milliseconds since 1970, lengths are bytes. State: 0 received, 1 started, 2
-- progress, 3 completed, 4 cancelled, 5 failed, 6 expired.
CREATE TABLE queue_jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT,
    request_id TEXT NOT NULL,
    filename TEXT,
    filename_key TEXT,
    filetype TEXT,
    request_fingerprint BIGINT,
    max_size BIGINT,
    metadata TEXT NOT NULL,
    quota_period BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    state BIGINT NOT NULL,
    reason TEXT,
    size BIGINT,
    upload_offset BIGINT NOT NULL,
    rate BIGINT NOT NULL,
    rate_measured_at BIGINT NOT NULL,
    upload_id TEXT,
    upload_fingerprint TEXT,
    node TEXT,
    prepared_end TEXT,
    reserved_bytes BIGINT NOT NULL,
    etag TEXT,
    started_at BIGINT,
    updated_at BIGINT NOT NULL,
    updated_minute BIGINT NOT NULL,
    ended_at BIGINT
);

CREATE UNIQUE INDEX queue_request ON queue_jobs (subject, request_id) WHERE subject IS NOT NULL;

CREATE INDEX queue_subject ON queue_jobs (subject, number);

CREATE INDEX queue_subject_state ON queue_jobs (subject, state, number);

CREATE INDEX queue_state ON queue_jobs (state, number);

CREATE INDEX queue_upload ON queue_jobs (upload_id, number) WHERE upload_id IS NOT NULL;

-- Running jobs, for reconciliation. By the minute, so that writing progress rarely changes the
-- index.
CREATE INDEX queue_stale ON queue_jobs (updated_minute, number) WHERE state IN (1, 2);

CREATE INDEX queue_expiring ON queue_jobs (expires_at) WHERE state = 0;

CREATE INDEX queue_ended ON queue_jobs (ended_at) WHERE ended_at IS NOT NULL;

-- Prefix search, in blocks of numbers: a search reads few blocks and sorts little.
CREATE INDEX queue_search_name ON queue_jobs (number / 16384, filename_key);

CREATE INDEX queue_search_subject ON queue_jobs (number / 16384, subject);

CREATE INDEX queue_search_request ON queue_jobs (number / 16384, request_id);

CREATE INDEX queue_search_upload ON queue_jobs (number / 16384, upload_id);

-- Hashes of upload tokens, at most five per job.
CREATE TABLE queue_tokens (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    job_number BIGINT NOT NULL
);

CREATE INDEX queue_token_job ON queue_tokens (job_number, number);

-- Partial uploads of a job.
CREATE TABLE queue_parts (
    job_number BIGINT NOT NULL,
    upload_id TEXT NOT NULL,
    length BIGINT,
    upload_offset BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (job_number, upload_id)
) WITHOUT ROWID;

-- Quota usage per subject: reserved for running uploads, used by completed ones. Each node adds to
-- the rows of its slot, so that nodes do not wait for each other; the sum counts.
CREATE TABLE queue_usage (
    subject TEXT NOT NULL,
    quota_period BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    reserved_bytes BIGINT NOT NULL,
    used_bytes BIGINT NOT NULL,
    PRIMARY KEY (subject, quota_period, slot)
) WITHOUT ROWID;

CREATE INDEX queue_usage_period ON queue_usage (quota_period);

-- Kind: 0 started, 2 completed, 3 cancelled, 4 failed, 5 expired.
CREATE TABLE queue_events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_number BIGINT NOT NULL,
    subject TEXT,
    kind BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    job_json TEXT NOT NULL
);

CREATE INDEX queue_event_subject ON queue_events (subject, number);

-- Jobs in each state, and the bytes of completed ones, as sums over slots.
CREATE TABLE queue_state_totals (
    state BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    jobs BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (state, slot)
) WITHOUT ROWID;

CREATE TABLE queue_throughput (
    minute BIGINT NOT NULL,
    node TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    started BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    PRIMARY KEY (minute, node)
) WITHOUT ROWID;

CREATE TABLE api_keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    limits TEXT NOT NULL,
    is_admin BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT
);

-- Numbers are taken here before rows are inserted with them.
INSERT INTO sqlite_sequence (name, seq) VALUES ('queue_jobs', 0), ('queue_events', 0);
