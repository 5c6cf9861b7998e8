//! The log lines of a request: each names the request first, then the upload, with tusd's names and order.
//!
//! Nothing is collected unless these lines are logged. Rules of logs that were written for tusd read them, so a lenient
//! server adds nothing to a line of tusd's.

use std::sync::OnceLock;

use http::{Method, StatusCode, request::Parts};
use landfall_protocol::Operation;

use super::RequestContext;
use crate::upload::{Upload, UploadId};

/// What every line of a request contains.
#[derive(Debug)]
pub(crate) struct LoggedRequest {
    method: Method,
    /// Below the base path.
    path: String,
    id: String,
    /// The URL below which the request creates an upload.
    creation_url: String,
    /// True if the lines have the fields of tusd alone.
    is_lenient: bool,
    created: OnceLock<UploadId>,
}

impl LoggedRequest {
    pub(crate) fn new(
        parts: &Parts,
        (path, id): (&str, &str),
        creation_url: String,
        is_lenient: bool,
    ) -> Self {
        Self {
            method: parts.method.clone(),
            path: path.to_owned(),
            id: id.to_owned(),
            creation_url,
            is_lenient,
            created: OnceLock::new(),
        }
    }

    pub(crate) fn method(&self) -> &str {
        self.method.as_str()
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the id that the client gave the request.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn is_lenient(&self) -> bool {
        self.is_lenient
    }

    /// Logs the response; `id` is that of the URL.
    pub(crate) fn log_response(
        &self,
        id: Option<&str>,
        operation: Option<Operation>,
        status: StatusCode,
        error: &str,
    ) {
        let id = id.or_else(|| self.created.get().map(UploadId::as_str));
        let body = match operation {
            _ if !self.is_lenient => Some(error.trim_end()),
            Some(Operation::Inspect) => Some(""),
            Some(Operation::Download) if error.is_empty() => None,
            _ => Some(error),
        };
        let status = status.as_u16();
        log_request!(Some(self), "ResponseOutgoing", id, status, body);
    }
}

/// Logs a line of a request (`Option<&LoggedRequest>`): the event, then fields as in `tracing::debug!`.
macro_rules! log_request {
    ($request:expr, $event:literal $(, $($fields:tt)+)?) => {{
        let request: Option<&$crate::engine::LoggedRequest> = $request;
        tracing::debug!(
            target: $crate::REQUEST_LOG,
            method = request.map($crate::engine::LoggedRequest::method),
            path = request.map($crate::engine::LoggedRequest::path),
            requestId = request.map($crate::engine::LoggedRequest::id),
            $($($fields)+,)?
            $event
        );
    }};
}
pub(crate) use log_request;

impl RequestContext {
    /// Logs that the request has created an upload.
    pub(super) fn log_created(&self, upload: &Upload) {
        let Some(request) = self.log() else {
            return;
        };
        let id = upload.id.as_str();
        let _ = request.created.set(upload.id.clone());
        let url = format!("{}{}", request.creation_url, id.replace('%', "%25"));
        // As tusd, which stores 0 while it does not know the length.
        let size = upload.length.unwrap_or_default();
        log_request!(Some(request), "UploadCreated", id, size, url);
    }
}
