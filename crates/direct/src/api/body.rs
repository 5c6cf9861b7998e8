//! Bodies of requests and answers.

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall_grants::api::{json_object, media_type, read_body};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Api, problem::Problem};

/// The most bytes of a body.
pub(super) const USUAL: usize = 100 * 1024;
/// The most bytes of a list of parts, or of notifications.
pub(super) const LARGE: usize = 1024 * 1024;

impl Api {
    /// The whole body of a request.
    pub(super) async fn read(&self, body: Body, most: usize) -> Result<Bytes, Problem> {
        Ok(read_body(body, most, self.settings.body_time).await?)
    }

    /// The JSON object in the body of a request.
    pub(super) async fn object(
        &self,
        headers: &HeaderMap,
        body: Body,
        most: usize,
    ) -> Result<Map<String, Value>, Problem> {
        match media_type(headers).as_deref() {
            Some(json) if json == "application/json" || json.ends_with("+json") => {}
            _ => {
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "the request must be JSON, with Content-Type: application/json",
                ));
            }
        }
        Ok(json_object(&self.read(body, most).await?)?)
    }
}

/// An answer.
pub(super) fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer can't be written");
            let mut response = Response::default();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}
