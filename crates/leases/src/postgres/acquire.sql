-- Acquires a lease; otherwise registers the node as the one that waits, and makes the holder yield.
-- $1 name, $2 node, $3 number of this acquisition, $4 lifetime, $5 time for which the node waits (0: it
-- does not), $6 offset at which the request appends, plus one
--
-- A release that this call waited for may have a later time. A delayed older call must not replace a
-- newer lease of its node. The waiter of an expired lease may be dead like its holder; a live one
-- repeats its call. The update of the waiter waits for the newest version of the row, which the snapshot
-- may lack. A row uses at most 1048576 fences, the increment of the sequence.
--
-- The lease of an upload without a row is free only if the row 'since' has existed for a lifetime: otherwise the table
-- was emptied, and a holder may not have noticed. A lease is settled if its last holder released it as settled, or is
-- this node, which knows it itself.
WITH acquired AS (
    INSERT INTO leases AS lease (name, owner, expires_at, fence, is_settled)
    SELECT $1, $2 || ':' || CAST($3 AS TEXT), :now + $4, nextval('lease_fences'), FALSE
    WHERE EXISTS (SELECT 1 FROM leases WHERE name = $1 OR name = 'since' AND expires_at <= :now)
    ON CONFLICT (name) DO UPDATE SET
        owner = excluded.owner,
        expires_at = excluded.expires_at,
        fence = CASE WHEN (lease.fence + 1) % 1048576 = 0 THEN excluded.fence ELSE lease.fence + 1 END,
        is_settled = CASE WHEN lease.owner = '' OR lease.owner LIKE '%:' THEN lease.is_settled
            ELSE lease.owner LIKE $2 || ':_%' END,
        waiter = CASE WHEN lease.waiter = $2 OR lease.expires_at <= :now THEN '' ELSE lease.waiter END
    WHERE lease.expires_at <= :now
        OR lease.owner IN ('', $2 || ':')
        OR CASE WHEN lease.owner LIKE $2 || ':_%'
            THEN CAST(split_part(lease.owner, ':', 2) AS BIGINT) < $3
                AND (lease.waiter IN ('', $2) OR lease.waiter_expires_at <= :now)
            ELSE FALSE END
    RETURNING fence, CAST(CASE WHEN is_settled THEN 1 ELSE 0 END AS BIGINT) AS settled,
        CASE WHEN waiter <> '' AND waiter_expires_at > :now THEN waiter_offset ELSE 0 END AS wanted
), waiting AS (
    UPDATE leases SET
        waiter = CASE WHEN waiter = '' OR waiter_expires_at <= :now THEN $2 ELSE waiter END,
        waiter_expires_at = CASE WHEN waiter IN ('', $2) OR waiter_expires_at <= :now
            THEN :now + $5 ELSE waiter_expires_at END,
        waiter_offset = CASE WHEN waiter IN ('', $2) OR waiter_expires_at <= :now
            THEN $6 ELSE waiter_offset END
    WHERE name = $1 AND $5 > 0 AND NOT EXISTS (SELECT 1 FROM acquired)
    RETURNING expires_at,
        CASE WHEN waiter = $2 THEN 1 ELSE 0 END AS is_next,
        CASE WHEN owner LIKE '%:_%' THEN pg_notify(
            'landfall_leases' || CASE WHEN owner LIKE 'n%' THEN '_' || split_part(owner, ':', 1) ELSE '' END,
            'yield ' || owner || ' ' || CAST($6 AS TEXT) || ' ' || name) END
)
SELECT fence, wanted, CAST(NULL AS BIGINT) AS remaining, settled FROM acquired
UNION ALL
SELECT NULL, is_next, greatest(expires_at - :now, 0), 0 FROM waiting
UNION ALL
SELECT NULL, 0, greatest(expires_at - :now, 0), 0 FROM leases
WHERE name = $1 AND $5 <= 0 AND NOT EXISTS (SELECT 1 FROM acquired)
UNION ALL
SELECT NULL, 1, expires_at - :now, 0 FROM leases
WHERE name = 'since' AND expires_at > :now AND NOT EXISTS (SELECT 1 FROM leases WHERE name = $1)
