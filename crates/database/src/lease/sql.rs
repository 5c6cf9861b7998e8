//! The statements, for both databases where they agree.

use super::FENCE_BLOCK;
use crate::Statement;

pub(super) const CHANNEL: &str = "landfall_leases";

/// Milliseconds since 1970. On PostgreSQL the time at which the statement started: after waiting for a row it
/// is early, which is safe.
pub(super) const fn now(is_postgres: bool) -> &'static str {
    if is_postgres {
        "CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)"
    } else {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    }
}

/// `$1` name, `$2` node, `$3` number, `$4` lifetime.
pub(super) fn acquire(is_postgres: bool) -> String {
    let now = now(is_postgres);
    let (block, number) = if is_postgres {
        (
            "nextval('lease_fences')",
            "CAST(split_part(lease.owner, ':', 2) AS BIGINT)",
        )
    } else {
        (
            "(SELECT next FROM lease_fences)",
            "CAST(substr(lease.owner, instr(lease.owner, ':') + 1) AS INTEGER)",
        )
    };
    // A release that this call waited for may have a later time. A delayed older call must not
    // replace a newer lease of its node. The waiter of an expired lease may be dead like its
    // holder; a live one repeats its call.
    format!(
        "INSERT INTO leases AS lease (name, owner, expires_at, fence) \
         VALUES ($1, $2 || ':' || CAST($3 AS TEXT), {now} + $4, {block}) \
         ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, \
         expires_at = excluded.expires_at, \
         fence = CASE WHEN (lease.fence + 1) % {FENCE_BLOCK} = 0 THEN excluded.fence \
         ELSE lease.fence + 1 END, \
         waiter = CASE WHEN lease.waiter = $2 OR lease.expires_at <= {now} THEN '' \
         ELSE lease.waiter END \
         WHERE lease.expires_at <= {now} OR lease.owner IN ('', $2 || ':') \
         OR CASE WHEN lease.owner LIKE $2 || ':_%' THEN {number} < $3 \
         AND (lease.waiter IN ('', $2) OR lease.waiter_expires_at <= {now}) ELSE FALSE END \
         RETURNING fence, CASE WHEN waiter <> '' AND waiter_expires_at > {now} THEN waiter_offset ELSE 0 END \
         AS wanted, CAST(NULL AS BIGINT) AS remaining"
    )
}

/// Like `acquire`, and otherwise registers the node as waiter for `$5` (unless 0) and makes the holder
/// yield. `$6` is the offset at which the request appends, plus one. PostgreSQL only.
#[cfg(feature = "postgres")]
pub(super) fn acquire_or_wait() -> String {
    let now = now(true);
    let acquire = acquire(true);
    // The update waits for the newest version of the row, which the snapshot may lack.
    format!(
        "WITH acquired AS ({acquire}), waiting AS (\
         UPDATE leases SET \
         waiter = CASE WHEN waiter = '' OR waiter_expires_at <= {now} THEN $2 ELSE waiter END, \
         waiter_expires_at = CASE WHEN waiter IN ('', $2) OR waiter_expires_at <= {now} \
         THEN {now} + $5 ELSE waiter_expires_at END, \
         waiter_offset = CASE WHEN waiter IN ('', $2) OR waiter_expires_at <= {now} \
         THEN $6 ELSE waiter_offset END \
         WHERE name = $1 AND $5 > 0 AND NOT EXISTS (SELECT 1 FROM acquired) \
         RETURNING expires_at, \
         CASE WHEN waiter = $2 THEN 1 ELSE 0 END AS is_next, \
         CASE WHEN owner LIKE '%:_%' THEN pg_notify('{CHANNEL}', \
         'yield ' || owner || ' ' || CAST($6 AS TEXT) || ' ' || name) END) \
         SELECT fence, wanted, remaining FROM acquired \
         UNION ALL SELECT NULL, is_next, greatest(expires_at - {now}, 0) FROM waiting \
         UNION ALL SELECT NULL, 0, greatest(expires_at - {now}, 0) FROM leases \
         WHERE name = $1 AND $5 <= 0 AND NOT EXISTS (SELECT 1 FROM acquired)"
    )
}

#[cfg(not(feature = "postgres"))]
pub(super) fn acquire_or_wait() -> String {
    acquire(true)
}

/// SQLite only: PostgreSQL has a sequence.
pub(super) fn next_block() -> Statement {
    Statement::new(format!(
        "UPDATE lease_fences SET next = next + {FENCE_BLOCK}"
    ))
}

/// Selects the remaining lifetime of the lease `$1`. SQLite only.
pub(super) fn remaining() -> Statement {
    let now = now(false);
    Statement::new(format!(
        "SELECT CAST(NULL AS INTEGER) AS fence, 0 AS wanted, \
         max(expires_at - {now}, 0) AS remaining FROM leases WHERE name = $1"
    ))
}

/// `$1` names, `$2` owners.
const fn lists(is_postgres: bool) -> &'static str {
    if is_postgres {
        "(SELECT * FROM unnest(string_to_array($1, ' '), string_to_array($2, ' ')) \
         AS list (name, owner)) AS mine"
    } else {
        "(SELECT names.value AS name, owners.value AS owner FROM json_each($1) AS names \
         JOIN json_each($2) AS owners ON names.key = owners.key) AS mine"
    }
}

/// Extends by `$3`.
pub(super) fn renew(is_postgres: bool) -> String {
    let (now, mine) = (now(is_postgres), lists(is_postgres));
    format!(
        "UPDATE leases SET expires_at = {now} + $3 FROM {mine} \
         WHERE leases.name = mine.name AND leases.owner = mine.owner \
         RETURNING leases.name AS name, \
         CASE WHEN waiter <> '' AND waiter_expires_at > {now} THEN waiter_offset ELSE 0 END \
         AS wanted"
    )
}

/// Reserves leases for their waiters for `$3`.
pub(super) fn release(is_postgres: bool) -> String {
    let (now, mine) = (now(is_postgres), lists(is_postgres));
    let update = format!(
        "UPDATE leases SET \
         owner = CASE WHEN waiter <> '' AND waiter_expires_at > {now} THEN waiter || ':' ELSE '' END, \
         expires_at = CASE WHEN waiter <> '' AND waiter_expires_at > {now} THEN {now} + $3 \
         ELSE {now} END, waiter = '', waiter_expires_at = 0 FROM {mine} \
         WHERE leases.name = mine.name AND leases.owner = mine.owner \
         RETURNING leases.name AS name, leases.owner AS owner"
    );
    if !is_postgres {
        return update;
    }
    // A release that a crash undoes expires: it needs no sync.
    format!(
        "WITH released AS ({update}) SELECT set_config('synchronous_commit', 'off', true) \
         UNION ALL SELECT CAST(pg_notify('{CHANNEL}', 'free ' || owner || ' ' || name) AS TEXT) \
         FROM released WHERE owner <> ''"
    )
}

/// Removes leases that expired `$1` ago.
pub(super) fn purge(is_postgres: bool) -> Statement {
    let now = now(is_postgres);
    Statement::new(format!("DELETE FROM leases WHERE expires_at <= {now} - $1"))
}
