-- The request headers that only this route receives, encrypted; NULL if there are none.
ALTER TABLE outbox_deliveries ADD COLUMN headers TEXT;
