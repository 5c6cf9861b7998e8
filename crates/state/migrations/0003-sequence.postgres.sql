-- The largest sequence number that was assigned: a clock may be set back, and delivered events are deleted.
CREATE TABLE outbox_sequence (last BIGINT NOT NULL);
INSERT INTO outbox_sequence VALUES (0);
