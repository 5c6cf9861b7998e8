//! Error responses: problem details (RFC 9457), or the format of Laravel.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{ApiStyle, body::JsonBodyError};
use crate::{auth::AuthError, policy::PolicyDenial, queue::QueueError};

/// Default `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// An error response.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    /// Invalid fields and their errors.
    errors: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// True if the CSRF check failed.
    is_cross_site: bool,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            is_cross_site: false,
        }
    }

    /// The job does not exist or belongs to another subject; the responses are the same.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "upload not found")
    }

    /// Invalid fields.
    pub(super) fn invalid(errors: Vec<(Cow<'static, str>, Cow<'static, str>)>) -> Self {
        let first = errors.first().map_or("invalid request", |(_, why)| why);
        let detail = match errors.len() {
            0 | 1 => first.to_owned(),
            2 => format!("{first} (and 1 more error)"),
            more => format!("{first} (and {} more errors)", more - 1),
        };
        Self {
            errors,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
    }

    /// One invalid field.
    pub(super) fn field(field: &'static str, why: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid(vec![(field.into(), why.into())])
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.headers
            .push((header::RETRY_AFTER, seconds.max(1).into()));
        self
    }

    /// Forwards a `Retry-After` value.
    pub(super) fn retry_after_as(mut self, said: Option<HeaderValue>) -> Self {
        if let Some(said) = said {
            self.headers.push((header::RETRY_AFTER, said));
        }
        self
    }

    /// Returns whether the server is the cause.
    pub(super) fn is_ours(&self) -> bool {
        self.status.is_server_error()
    }

    pub(super) fn unavailable(detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
    }

    /// Returns the response in a format.
    pub(super) fn respond(self, style: ApiStyle) -> Response {
        let (status, media_type, body) = match style {
            ApiStyle::Landfall => (self.status, "application/problem+json", self.details()),
            ApiStyle::Laravel => {
                let (status, body) = self.as_laravel();
                (status, "application/json", body)
            }
        };
        let mut response = (status, Body::from(body.to_string())).into_response();
        let headers = response.headers_mut();
        headers.extend(self.headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        response
    }

    fn details(&self) -> Value {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "message": self.detail,
        });
        if !self.errors.is_empty() {
            body["errors"] = self.by_field();
        }
        body
    }

    fn as_laravel(&self) -> (StatusCode, Value) {
        let message = match self.status {
            StatusCode::UNAUTHORIZED => "Unauthenticated.",
            StatusCode::FORBIDDEN if self.is_cross_site => {
                let status = StatusCode::from_u16(419).unwrap_or(self.status);
                return (status, json!({"message": "CSRF token mismatch."}));
            }
            StatusCode::FORBIDDEN => "This action is unauthorized.",
            _ => &*self.detail,
        };
        let mut body = json!({ "message": message });
        if !self.errors.is_empty() {
            body["errors"] = self.by_field();
        }
        (self.status, body)
    }

    /// `{field: [error, error]}`
    fn by_field(&self) -> Value {
        let mut fields = Map::new();
        for (field, why) in &self.errors {
            let list = fields.entry(field.as_ref()).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(why.as_ref().into());
            }
        }
        fields.into()
    }
}

impl From<JsonBodyError> for Problem {
    fn from(none: JsonBodyError) -> Self {
        Self::new(none.status(), none.to_string())
    }
}

impl From<AuthError> for Problem {
    fn from(denied: AuthError) -> Self {
        let mut problem = Self::new(denied.status(), denied.to_string());
        match denied {
            AuthError::Unauthenticated { challenge, .. } => {
                problem.headers.push((header::WWW_AUTHENTICATE, challenge));
                problem
            }
            AuthError::CrossSite => Self {
                is_cross_site: true,
                ..problem
            },
            AuthError::TooManyFailures { retry_after } => problem.retry_after(retry_after),
            AuthError::Unavailable => problem.retry_after(RETRY_AFTER),
            AuthError::Forbidden(_) => problem,
        }
    }
}

impl From<PolicyDenial> for Problem {
    fn from(no: PolicyDenial) -> Self {
        let mut problem = match no.field {
            Some(field) => Self {
                status: no.status,
                ..Self::field(field, no.message)
            },
            None => Self::new(no.status, no.message),
        };
        if let Some(wait) = no.retry_after {
            problem = problem.retry_after(wait);
        }
        problem
    }
}

/// Logs an error of the queue, whose cause is not revealed to clients.
pub(super) fn fault(error: &QueueError, request_id: &str) -> Problem {
    tracing::error!(%error, requestId = request_id, "failed to access the upload queue");
    Problem::unavailable("the upload queue is temporarily unavailable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_errors_in_one_line() {
        let error = |field: &'static str| (field.into(), Cow::from(format!("{field} is missing")));
        let problem = Problem::invalid(vec![error("id"), error("filename"), error("id")]);
        assert_eq!(problem.detail, "id is missing (and 2 more errors)");
        assert_eq!(
            problem.by_field(),
            json!({"id": ["id is missing", "id is missing"], "filename": ["filename is missing"]})
        );
    }

    #[test]
    fn waits_are_whole_seconds() {
        for (wait, says) in [(0, "1"), (1000, "1"), (1001, "2")] {
            let problem = Problem::not_found().retry_after(Duration::from_millis(wait));
            let (_, value) = &problem.headers[0];
            assert_eq!(value, says);
        }
    }
}
