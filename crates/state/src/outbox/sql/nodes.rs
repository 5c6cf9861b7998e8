//! Nodes, and the rows of dead nodes.

use super::resolver;
use crate::sql::Statement;

/// Changes nothing if the node was evicted.
pub(crate) fn renew(me: &str, until: i64) -> Statement {
    Statement::new("UPDATE outbox_nodes SET expires_at = $2 WHERE node_id = $1")
        .with(me)
        .with(until)
}

pub(crate) fn register_node(me: &str, until: i64) -> Statement {
    Statement::new(
        "INSERT INTO outbox_nodes (node_id, expires_at) VALUES ($1, $2) \
         ON CONFLICT (node_id) DO UPDATE SET expires_at = excluded.expires_at",
    )
    .with(me)
    .with(until)
}

pub(crate) fn unregister_node(me: &str) -> Statement {
    Statement::new("DELETE FROM outbox_nodes WHERE node_id = $1").with(me)
}

pub(crate) fn nodes() -> Statement {
    Statement::new("SELECT node_id, expires_at FROM outbox_nodes")
}

/// Selects this node and those whose lease has expired, of any number.
pub(crate) fn expired_nodes(me: &str, now: i64) -> Statement {
    Statement::new(
        "SELECT node_id, expires_at FROM outbox_nodes WHERE node_id = $1 OR expires_at < $2",
    )
    .with(me)
    .with(now)
}

/// Keeps a node that has renewed its lease since.
pub(crate) fn evict_node(node: &str, until: i64) -> Statement {
    Statement::new("DELETE FROM outbox_nodes WHERE node_id = $1 AND expires_at = $2")
        .with(node)
        .with(until)
}

pub(crate) fn take_over(node: &str, state: i64, due: i64) -> Statement {
    Statement::new(format!(
        "UPDATE outbox_deliveries SET owner_node = '', due_at = $1 \
         WHERE state = {state} AND owner_node <> '' AND owner_node IN ($2, $3)"
    ))
    .with(due)
    .with(node)
    .with(resolver(node))
}

pub(crate) fn adopt_orphaned(state: i64, now: i64) -> Statement {
    Statement::new(format!(
        "UPDATE outbox_deliveries SET owner_node = '', due_at = $1 WHERE state = {state} \
         AND owner_node <> '' AND rtrim(owner_node, '?') NOT IN (SELECT node_id FROM outbox_nodes)"
    ))
    .with(now)
}
