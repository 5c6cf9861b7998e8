-- One row for each ACME directory. The lease belongs to the node that orders certificates.
CREATE TABLE acme_certificates (
    id TEXT PRIMARY KEY,
    account TEXT,
    -- Chain and key in PEM.
    certificate TEXT,
    -- Those that all nodes answer now, as JSON.
    challenges TEXT NOT NULL,
    lease_owner TEXT,
    lease_expires_at BIGINT NOT NULL
);
