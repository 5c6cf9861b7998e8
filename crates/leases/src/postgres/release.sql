-- Releases the leases with the names $1 and the owners $2, or reserves them for $3 for their waiters; those with a 't' in $4
-- are settled. Waiters are notified: a node whose name begins with n on its own channel, one of an earlier release on the
-- common one. A release that a crash undoes expires: it needs no sync.
WITH released AS (
    UPDATE leases SET
        owner = CASE WHEN waiter <> '' AND waiter_expires_at > :now THEN waiter || ':' ELSE '' END,
        expires_at = CASE WHEN waiter <> '' AND waiter_expires_at > :now THEN :now + $3 ELSE :now END,
        waiter = '',
        waiter_expires_at = 0,
        is_settled = mine.settled = 't'
    FROM unnest(string_to_array($1, ' '), string_to_array($2, ' '), string_to_array($4, ' '))
        AS mine (name, owner, settled)
    WHERE leases.name = mine.name AND leases.owner = mine.owner
    RETURNING leases.name AS name, leases.owner AS owner
)
SELECT set_config('synchronous_commit', 'off', true)
UNION ALL
SELECT CAST(pg_notify(
    'landfall_leases' || CASE WHEN owner LIKE 'n%' THEN '_' || split_part(owner, ':', 1) ELSE '' END,
    'free ' || owner || ' ' || name) AS TEXT)
FROM released WHERE owner <> ''
