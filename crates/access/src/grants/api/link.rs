//! `GET /uploadjobs/link`: what the holder of an upload link may know about it, for the upload page and other clients.

use crate::{Problem, auth::bearer};
use axum::response::Response;
use http::{StatusCode, request::Parts};
use landfall_hooks::rfc3339;
use landfall_state::queue::{LimitExceeded, TokenHash};
use serde_json::json;

use super::{Api, fault, json};

/// Returns the link, or `None` for another principal.
pub(super) async fn find(api: &Api, parts: &Parts) -> Result<Option<Response>, Problem> {
    let principal = api.authenticate_for_grant(parts).await?;
    if principal.link.is_none() {
        return Ok(None);
    }
    let queue = &api.settings.queue;
    let hash = TokenHash::from_secret(bearer(&parts.headers).unwrap_or_default());
    let link = queue.link(&hash).await.map_err(fault(parts))?;
    let Some(link) = link else {
        return Err(LimitExceeded::LinkEnded.into());
    };
    let body = json!({
        "name": link.name,
        "max_size": link.limits.max_size,
        "files": link.files,
        "max_files": link.max_files,
        "expires_at": link.expires_at.map(rfc3339::millis),
    });
    Ok(Some(json(StatusCode::OK, &body)))
}
