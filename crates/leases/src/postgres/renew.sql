-- Extends the leases with the names $1 and the owners $2 by $3, also expired ones that were not acquired
-- since. Returns them, with the offset plus one of a request of another node that waits.
UPDATE leases SET expires_at = :now + $3
FROM unnest(string_to_array($1, ' '), string_to_array($2, ' ')) AS mine (name, owner)
WHERE leases.name = mine.name AND leases.owner = mine.owner
RETURNING leases.name AS name,
    CASE WHEN waiter <> '' AND waiter_expires_at > :now THEN waiter_offset ELSE 0 END AS wanted
