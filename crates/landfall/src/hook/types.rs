//! What hooks are told and what they answer.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::{IdempotencyKey, UploadToken};
use crate::upload::{Metadata, UploadId};

/// The request behind a question or an event.
#[derive(Debug, Clone, Default)]
pub struct RequestInfo {
    /// The method on the wire.
    pub method: Method,
    /// The request target on the wire. Where the handler is
    /// [nested](crate::Config::nested), the base path stands in place of what was cut off.
    pub uri: Uri,
    /// The peer's address (`ip:port`), `@` on a UNIX socket, empty if unknown.
    pub remote: String,
    /// The headers.
    pub headers: HeaderMap,
    /// What layers in front of the handler have put into the request: the authenticated user, for
    /// example.
    pub extensions: Extensions,
    /// The upload token, which is not among the headers any more.
    pub token: Option<UploadToken>,
}

/// What a request wants with an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Intent {
    /// POST: a new upload.
    Create,
    /// PATCH: more bytes.
    Write,
    /// HEAD: how far it got.
    Inspect,
    /// GET: the bytes.
    Read,
    /// DELETE.
    Terminate,
    /// POST of a final upload: asked once for each partial upload it names.
    Concatenate,
}

impl Intent {
    /// Its name: `create`, `write`, `inspect`, `read`, `terminate` or `concatenate`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Inspect => "inspect",
            Self::Read => "read",
            Self::Terminate => "terminate",
            Self::Concatenate => "concatenate",
        }
    }
}

/// An access to an upload.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// What the request wants.
    pub intent: Intent,
    /// The upload; `None` for a creation.
    pub id: Option<&'a UploadId>,
}

/// What a hook wants the client to be told, on top of (or instead of) the usual answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientResponse {
    /// The status, instead of the usual one.
    pub status: Option<http::StatusCode>,
    /// Headers to add or replace. `Location` and the protocol's own headers can't be replaced.
    pub headers: HeaderMap,
    /// The body, instead of the usual one.
    pub body: Option<Bytes>,
}

impl ClientResponse {
    /// A status and a plain text. A number that is no status is taken as 500.
    #[must_use]
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        let status =
            http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status: Some(status),
            headers: HeaderMap::new(),
            body: Some(body.into()),
        }
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        )
    }

    /// Adds or replaces a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.status.is_none() && self.headers.is_empty() && self.body.is_none()
    }

    /// Lays another reply over this one: what the other says wins.
    pub(crate) fn merge(&mut self, other: Self) {
        self.status = other.status.or(self.status);
        self.body = other.body.or_else(|| self.body.take());
        self.headers.extend(other.headers);
    }
}

/// Yes or no, each with what the client is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow(ClientResponse),
    /// Don't. Without a status of its own the answer is the protocol's usual refusal.
    Deny(ClientResponse),
    /// There is no answer now, and this is what the client hears of it (500 if nothing else is said).
    /// Nothing has happened, and the question comes again with the client's next request.
    Fail(ClientResponse),
}

impl Decision {
    /// Go on, nothing to add.
    #[must_use]
    pub fn allow() -> Self {
        Self::Allow(ClientResponse::default())
    }
}

/// The answer to [`Hook::before_create`](super::Hook::before_create).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreateDecision {
    /// Yes or no.
    pub answer: Decision,
    /// Another id.
    pub id: Option<UploadId>,
    /// Other metadata, in place of all the client sent.
    pub metadata: Option<Metadata>,
    /// Where the store should keep it, in the store's own words (files: `Path`).
    pub storage: BTreeMap<String, String>,
    /// When it may be removed if still unfinished, whatever the server's lifetimes say.
    pub expires: Option<SystemTime>,
    /// The most bytes it may have, below what the server allows; a larger one is refused with 413.
    pub max_size: Option<u64>,
    /// The types that are welcome, as `image/png`, `image/*` or `*/*`; none = all. The upload's
    /// metadata must name one of them as `filetype` (or `type`, or `contentType`); otherwise it is
    /// refused with 415.
    pub content_types: Vec<String>,
    /// Notes that come back in later questions about the upload (except
    /// [`on_access`](super::Hook::on_access)) and in events; they join those of other hooks.
    pub labels: BTreeMap<String, String>,
    /// The length, if the client left that for later; it can't choose another one then.
    pub length: Option<u64>,
    /// Makes it the only upload that comes of whatever the client showed: of several hooks, the first
    /// one's claim holds.
    pub idempotency: Option<Arc<dyn IdempotencyKey>>,
}

impl CreateDecision {
    /// Go on as asked.
    #[must_use]
    pub fn allow() -> Self {
        Self::new(Decision::allow())
    }

    /// Don't.
    #[must_use]
    pub fn refuse(reply: ClientResponse) -> Self {
        Self::new(Decision::Deny(reply))
    }

    /// An answer and nothing else.
    #[must_use]
    pub fn new(answer: Decision) -> Self {
        Self {
            answer,
            id: None,
            metadata: None,
            storage: BTreeMap::new(),
            expires: None,
            max_size: None,
            content_types: Vec::new(),
            labels: BTreeMap::new(),
            length: None,
            idempotency: None,
        }
    }

    /// Names the upload.
    #[must_use]
    pub fn id(mut self, id: UploadId) -> Self {
        self.id = Some(id);
        self
    }

    /// Replaces the metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Asks the store for a place, for example `("Path", "2026/11/report.pdf")`.
    #[must_use]
    pub fn storage(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.storage.insert(key.into(), value.into());
        self
    }

    /// Notes something that comes back in each later question and event.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }
}
