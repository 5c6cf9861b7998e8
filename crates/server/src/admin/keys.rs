//! Lists the API keys for the dashboard, read-only and without hashes: `landfall keys` adds and revokes them.

use axum::{Json, extract::State};
use landfall_access::Problem;
use landfall_hooks::rfc3339;
use landfall_state::queue::ApiKey;
use serde_json::{Value, json};

use super::Admin;

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Value>, Problem> {
    let keys = admin.0.parts.queue.keys().await?;
    let key_json = |key: &ApiKey| {
        json!({
            "id": key.id,
            "name": key.name,
            "subject": key.subject,
            "admin": key.is_admin,
            "created_at": rfc3339::millis(key.created_at),
            "expires_at": key.expires_at.map(rfc3339::millis),
            "used_at": key.used_at.map(rfc3339::millis),
        })
    };
    let keys: Value = keys.iter().map(key_json).collect();
    Ok(Json(json!({ "keys": keys })))
}
