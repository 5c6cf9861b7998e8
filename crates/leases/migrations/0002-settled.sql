-- Whether the last holder has released the lease, so that it writes no more. Nodes of earlier releases do not record it.
ALTER TABLE leases ADD COLUMN is_settled BOOLEAN NOT NULL DEFAULT FALSE;

-- Without this row the table was emptied, and nobody knows who holds a lease: see acquire.sql.
INSERT INTO leases (name, owner, expires_at, fence) VALUES ('since', '', 0, 0) ON CONFLICT (name) DO NOTHING;
