//! Error responses as problem documents (RFC 9457).

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use landfall_state::outbox::OutboxError;
use landfall_state::queue::{LimitExceeded, QueueError, policy::PolicyDenial};
use serde_json::{Map, Value, json};

use crate::auth::AuthError;

/// If the time is unknown.
const RETRY_AFTER: Duration = Duration::from_secs(5);

type Text = Cow<'static, str>;

/// An error response: a problem document, unless an API has another format.
///
/// ```
/// use axum::response::IntoResponse;
/// use http::StatusCode;
/// use landfall_access::Problem;
///
/// let problem = Problem::new(StatusCode::CONFLICT, "the upload is completed");
/// assert_eq!(problem.into_response().status(), 409);
/// ```
///
/// The extensions of a response have its problem, for APIs with another format.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: Text,
    errors: Vec<(Text, Text)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    is_cross_site: bool,
}

impl Problem {
    /// Creates a problem. `detail` is for users: the error and its remedy.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<Text>) -> Self {
        Self {
            status,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            is_cross_site: false,
        }
    }

    /// Creates a problem for an upload that a hook denied, with its response.
    #[must_use]
    pub fn denied(status: StatusCode, message: String) -> Self {
        let status = match status.is_client_error() || status.is_server_error() {
            true => status,
            // The response is neither an upload nor an error.
            false => StatusCode::BAD_GATEWAY,
        };
        match message.is_empty() {
            true => Self::new(status, format!("the upload was denied with {status}")),
            false => Self::new(status, message),
        }
    }

    /// Creates a problem with fields of the request and their errors (422).
    #[must_use]
    pub fn invalid(errors: Vec<(Text, Text)>) -> Self {
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

    /// Creates a problem with one field of the request (422).
    #[must_use]
    pub fn field(field: &'static str, why: impl Into<Text>) -> Self {
        Self::invalid(vec![(field.into(), why.into())])
    }

    /// Creates a problem that a retry may solve (503).
    #[must_use]
    pub fn unavailable(detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
    }

    /// Replaces the status.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets `Retry-After`, rounded up to seconds, at least one.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.headers.retain(|(name, _)| name != header::RETRY_AFTER);
        self.with_header(header::RETRY_AFTER, seconds.max(1).into())
    }

    /// Returns the status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the message for users.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the invalid fields of the request and their errors.
    #[must_use]
    pub fn errors(&self) -> &[(Text, Text)] {
        &self.errors
    }

    /// Returns whether the request was denied as cross-site request forgery.
    #[must_use]
    pub const fn is_cross_site(&self) -> bool {
        self.is_cross_site
    }

    /// Returns [`Self::errors`] as `{field: [error, error]}`.
    #[must_use]
    pub fn errors_by_field(&self) -> Value {
        let mut fields = Map::new();
        for (field, why) in &self.errors {
            let list = fields.entry(field.as_ref()).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(why.as_ref().into());
            }
        }
        fields.into()
    }

    /// Creates a response with another body.
    #[must_use]
    pub fn respond_with(self, content_type: &'static str, body: &Value) -> Response {
        let mut response = (self.status, Body::from(body.to_string())).into_response();
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "message": self.detail,
        });
        if !self.errors.is_empty() {
            body["errors"] = self.errors_by_field();
        }
        let problem = self.clone();
        let mut response = self.respond_with("application/problem+json", &body);
        response.extensions_mut().insert(problem);
        response
    }
}

impl From<AuthError> for Problem {
    fn from(denied: AuthError) -> Self {
        let problem = Self::new(denied.status(), denied.to_string());
        match denied {
            AuthError::Unauthenticated { challenge, .. } => {
                problem.with_header(header::WWW_AUTHENTICATE, challenge)
            }
            AuthError::TooManyFailures { retry_after } => problem.retry_after(retry_after),
            AuthError::Unavailable => problem.retry_after(RETRY_AFTER),
            AuthError::CrossSite => Self {
                is_cross_site: true,
                ..problem
            },
            AuthError::Forbidden(_) => problem,
        }
    }
}

impl From<PolicyDenial> for Problem {
    fn from(denial: PolicyDenial) -> Self {
        let mut problem = Self::new(denial.status, denial.message);
        if let Some(field) = denial.field {
            let why = problem.detail.clone();
            problem.errors.push((field.into(), why));
        }
        match denial.retry_after {
            Some(wait) => problem.retry_after(wait),
            None => problem,
        }
    }
}

impl From<LimitExceeded> for Problem {
    fn from(limit: LimitExceeded) -> Self {
        match limit.retry_after() {
            Some(wait) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, limit.to_string()).retry_after(wait)
            }
            None => Self::new(StatusCode::FORBIDDEN, limit.to_string()),
        }
    }
}

/// Logs the error; clients do not see the cause.
impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        database_unavailable(&error)
    }
}

/// Logs the error; clients do not see the cause.
impl From<OutboxError> for Problem {
    fn from(error: OutboxError) -> Self {
        database_unavailable(&error)
    }
}

fn database_unavailable(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "failed to access the database");
    Problem::unavailable("the database is unavailable; try again")
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
            problem.errors_by_field(),
            json!({"id": ["id is missing", "id is missing"], "filename": ["filename is missing"]})
        );
    }

    #[test]
    fn waits_are_whole_seconds() {
        for (wait, says) in [(0, "1"), (1000, "1"), (1001, "2")] {
            let problem = Problem::unavailable("").retry_after(Duration::from_millis(wait));
            assert_eq!(
                problem.headers,
                [(header::RETRY_AFTER, HeaderValue::from_static(says))]
            );
        }
    }
}
