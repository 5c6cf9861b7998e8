-- Begins to record leases in an empty table: none is granted for $1, a lifetime, in which holders notice.
INSERT INTO leases (name, owner, expires_at, fence) VALUES ('since', '', :now + $1, 0) ON CONFLICT (name) DO NOTHING
