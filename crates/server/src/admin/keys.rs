use axum::{Json, extract::State};
use landfall_api::Problem;
use serde::Serialize;

use super::{Admin, job_json::time};

#[derive(Serialize)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

#[derive(Serialize)]
struct Key {
    id: i64,
    name: String,
    subject: String,
    admin: bool,
    created_at: String,
    expires_at: Option<String>,
    used_at: Option<String>,
}

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Keys>, Problem> {
    let keys = admin.0.parts.queue.keys().await?;
    let keys = keys.into_iter().map(|key| Key {
        id: key.id,
        name: key.name,
        subject: key.subject,
        admin: key.is_admin,
        created_at: time(key.created_at),
        expires_at: key.expires_at.map(time),
        used_at: key.used_at.map(time),
    });
    let keys = keys.collect();
    Ok(Json(Keys { keys }))
}
