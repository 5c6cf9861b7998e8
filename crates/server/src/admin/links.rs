//! Lists and revokes upload links for the dashboard. `landfall link` creates them, and alone shows their secrets.

use axum::{
    Json,
    extract::{Extension, Path, State},
};
use landfall_access::Problem;
use serde_json::{Value, json};

use super::{Admin, access::Operator};
use crate::app::link_json;

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Value>, Problem> {
    let links = admin.0.parts.queue.links().await?;
    let links: Value = links.iter().map(link_json).collect();
    Ok(Json(json!({ "links": links })))
}

/// Uploads that were granted before continue.
pub(super) async fn revoke(
    State(admin): State<Admin>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Problem> {
    let revoked = admin.0.parts.queue.revoke_link(id).await?;
    if revoked {
        operator.audit("revoke link", id);
    }
    Ok(Json(json!({ "revoked": revoked })))
}
