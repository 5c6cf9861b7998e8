-- The address of the client that created the upload.
ALTER TABLE queue_jobs ADD COLUMN client TEXT;
