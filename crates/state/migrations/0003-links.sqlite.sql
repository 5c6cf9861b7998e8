-- Upload links: secrets that let anyone upload up to max_files files. files counts grants, with those that
-- failed; the jobs of a link have its subject.
CREATE TABLE queue_links (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    subject TEXT NOT NULL UNIQUE,
    limits TEXT NOT NULL,
    max_files BIGINT,
    files BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT
);
