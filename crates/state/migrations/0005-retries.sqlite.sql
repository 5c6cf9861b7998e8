-- Failed attempts before an operator had the event retried.
ALTER TABLE outbox_deliveries ADD COLUMN earlier_attempts BIGINT NOT NULL DEFAULT 0;
