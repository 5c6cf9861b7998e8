-- How far events of the queue have been moved into the outbox. One row. Times are milliseconds since
-- 1970. `caught_up`: when nothing was left to move. `holder`: who moves, until a time.
CREATE TABLE relay_place (
    number BIGINT NOT NULL,
    caught_up BIGINT NOT NULL,
    holder TEXT,
    held_until BIGINT NOT NULL
);
