-- Direct uploads: the state that the upload queue does not have. Times are milliseconds since 1970.
-- transfer_mode: 0 put, 1 post, 2 multipart, 3 signed multipart.
-- status: 0 creating, 1 open, 2 completing, 3 completed, 4 removed.
CREATE TABLE direct_uploads (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    upload_json TEXT NOT NULL,
    job_number BIGINT NOT NULL,
    subject TEXT NOT NULL,
    transfer_mode BIGINT NOT NULL,
    bucket TEXT NOT NULL,
    object_key TEXT NOT NULL,
    multipart_upload_id TEXT,
    status BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    active_at BIGINT NOT NULL,
    next_check_at BIGINT,
    check_count BIGINT NOT NULL,
    version BIGINT NOT NULL,
    ended_at BIGINT,
    lease_owner TEXT,
    lease_expires_at BIGINT NOT NULL
);

CREATE INDEX direct_by_subject ON direct_uploads (subject, object_key, number);

CREATE INDEX direct_by_object ON direct_uploads (bucket, object_key, number);

CREATE INDEX direct_due ON direct_uploads (next_check_at) WHERE next_check_at IS NOT NULL;

CREATE INDEX direct_ended ON direct_uploads (ended_at) WHERE ended_at IS NOT NULL;

-- Random secrets as hexadecimal digits, created by the first node that needs them.
CREATE TABLE direct_secrets (
    name TEXT PRIMARY KEY,
    secret TEXT NOT NULL
);
