use axum::{
    body::{Body, Bytes},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use landfall_api::{Problem, check_json, json_object, read_body};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Api, Call};

pub(super) const MAX_BODY: usize = 100 * 1024;
pub(super) const MAX_LIST_BODY: usize = 1024 * 1024;

impl Api {
    pub(super) async fn read(&self, call: &mut Call, limit: usize) -> Result<Bytes, Problem> {
        let body = std::mem::take(&mut call.body);
        Ok(read_body(body, limit, self.settings.body_timeout).await?)
    }

    pub(super) async fn object(
        &self,
        call: &mut Call,
        limit: usize,
    ) -> Result<Map<String, Value>, Problem> {
        check_json(&call.parts.headers)?;
        Ok(json_object(&self.read(call, limit).await?)?)
    }
}

pub(super) fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Err(error) => {
            tracing::error!(%error, "failed to serialize response");
            let mut response = Response::default();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}
