-- Uploads that were asked for. Times are milliseconds since 1970, lengths are bytes.
-- State: 0 received, 1 started, 2 progress, 3 completed, 4 cancelled, 5 failed, 6 expired.
CREATE TABLE queue_jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT,
    request_id TEXT NOT NULL,
    filename TEXT,
    name_key TEXT,
    filetype TEXT,
    asked BIGINT,
    max_size BIGINT,
    metadata TEXT NOT NULL,
    period BIGINT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    state BIGINT NOT NULL,
    reason TEXT,
    size BIGINT,
    stored BIGINT NOT NULL,
    rate BIGINT NOT NULL,
    measured BIGINT NOT NULL,
    upload TEXT,
    digest TEXT,
    node TEXT,
    ending TEXT,
    reserved BIGINT NOT NULL,
    etag TEXT,
    started BIGINT,
    updated BIGINT NOT NULL,
    updated_minute BIGINT NOT NULL,
    ended BIGINT
);

CREATE UNIQUE INDEX queue_asked ON queue_jobs (subject, request_id) WHERE subject IS NOT NULL;

CREATE INDEX queue_subject ON queue_jobs (subject, number);

CREATE INDEX queue_subject_state ON queue_jobs (subject, state, number);

CREATE INDEX queue_state ON queue_jobs (state, number);

CREATE INDEX queue_upload ON queue_jobs (upload, number) WHERE upload IS NOT NULL;

-- Running jobs, to be compared with the store when they are stale. By the minute: progress that is
-- written more often changes no index.
CREATE INDEX queue_stale ON queue_jobs (updated_minute, number) WHERE state IN (1, 2);

CREATE INDEX queue_lapsing ON queue_jobs (expires) WHERE state = 0;

CREATE INDEX queue_ended ON queue_jobs (ended) WHERE ended IS NOT NULL;

-- What something begins with, by blocks of numbers: a search reads few blocks and sorts little.
CREATE INDEX queue_search_name ON queue_jobs (number / 16384, name_key);

CREATE INDEX queue_search_subject ON queue_jobs (number / 16384, subject);

CREATE INDEX queue_search_request ON queue_jobs (number / 16384, request_id);

CREATE INDEX queue_search_upload ON queue_jobs (number / 16384, upload);

-- Hashes of tokens, five for each job at most.
CREATE TABLE queue_tokens (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    job BIGINT NOT NULL
);

CREATE INDEX queue_token_job ON queue_tokens (job, number);

-- Partial uploads of a job.
CREATE TABLE queue_parts (
    job BIGINT NOT NULL,
    upload TEXT NOT NULL,
    length BIGINT,
    stored BIGINT NOT NULL,
    noted BIGINT NOT NULL,
    PRIMARY KEY (job, upload)
) WITHOUT ROWID;

-- Bytes of each subject: reserved for running uploads, and used by completed ones. Each node adds to
-- the rows of its slot, so that nodes do not wait for each other; the sum counts.
CREATE TABLE queue_usage (
    subject TEXT NOT NULL,
    period BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (subject, period, slot)
) WITHOUT ROWID;

CREATE INDEX queue_usage_period ON queue_usage (period);

-- Kind: 0 started, 2 completed, 3 cancelled, 4 failed, 5 expired.
CREATE TABLE queue_events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job BIGINT NOT NULL,
    subject TEXT,
    kind BIGINT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL
);

CREATE INDEX queue_event_subject ON queue_events (subject, number);

-- Jobs in each state and the bytes of completed ones. Each node adds to the rows of its slot; the sum
-- counts.
CREATE TABLE queue_counts (
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

CREATE TABLE queue_keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    limits TEXT NOT NULL,
    is_admin BIGINT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    used BIGINT
);

-- Numbers are taken here before rows are inserted with them.
INSERT INTO sqlite_sequence (name, seq) VALUES ('queue_jobs', 0), ('queue_events', 0);
