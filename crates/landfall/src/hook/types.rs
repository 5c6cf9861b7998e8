//! The arguments and decisions of blocking hooks.
//!
//! Independent of how a hook is called: the messages and transports are in `landfall-hooks`. A [`RequestInfo`] is
//! created only after the upload token was removed from the headers. An [`Access`] loads its upload at most once, and
//! only for a hook that needs it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use http::{Extensions, HeaderMap, Method, Uri, request::Parts};
use tokio::sync::OnceCell;

use super::{UploadToken, response::ClientResponse};
use crate::{
    BoxError,
    error::HandlerError,
    service::forwarded::Peer,
    upload::{Metadata, Snapshot, Upload, UploadId},
};

/// The request that causes a hook call or an event.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RequestInfo {
    /// The method on the wire.
    pub method: Method,
    /// The request target on the wire, also if routers of axum (feature `axum`) have stripped a part.
    pub uri: Uri,
    /// The peer's address (`ip:port`), `@` on a UNIX socket, empty if unknown. A text, because hooks and logs
    /// get what tusd writes there, which is not always an address.
    pub remote: String,
    /// The headers.
    pub headers: HeaderMap,
    /// Extensions that outer layers have set, such as the authenticated user.
    pub extensions: Extensions,
    /// The upload token, which is removed from the headers.
    pub token: Option<UploadToken>,
}

impl RequestInfo {
    /// Creates the description of a request, whose upload token was [removed](UploadToken::extract).
    #[must_use]
    pub fn from_parts(parts: &Parts, token: Option<UploadToken>) -> Self {
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            remote: parts.extensions.get().map_or_else(String::new, Peer::text),
            headers: parts.headers.clone(),
            extensions: parts.extensions.clone(),
            token,
        }
    }
}

/// What a request does with an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Intent {
    /// POST: a new upload.
    Create,
    /// PATCH: append bytes.
    Write,
    /// HEAD: read the offset.
    Inspect,
    /// GET: read the bytes.
    Read,
    /// DELETE.
    Terminate,
    /// POST of a final upload; checked for each of its partial uploads.
    Concatenate,
}

impl Intent {
    /// Returns `create`, `write`, `inspect`, `read`, `terminate` or `concatenate`.
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

#[async_trait]
pub(crate) trait FindUpload: Send + Sync {
    async fn find(&self, id: &UploadId) -> Result<Option<Snapshot>, HandlerError>;
}

impl fmt::Debug for dyn FindUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FindUpload")
    }
}

/// A request's access to an upload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Access {
    /// The kind of access.
    pub intent: Intent,
    /// The upload; `None` for a creation.
    pub id: Option<UploadId>,
    pub(crate) finder: Option<Arc<dyn FindUpload>>,
    found: Arc<OnceCell<Option<Snapshot>>>,
}

impl Access {
    /// Creates an access without an [`upload`](Self::upload), for tests of hooks.
    #[must_use]
    pub fn new(intent: Intent, id: Option<UploadId>) -> Self {
        Self {
            intent,
            id,
            finder: None,
            found: Arc::default(),
        }
    }

    /// Loads the upload, for example to compare its labels with the user. `None` for a creation, and if
    /// there is no such upload.
    ///
    /// The upload is loaded by the first call of a request; hooks that do not call this cost no load.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn upload(&self) -> Result<Option<&Snapshot>, HandlerError> {
        let (Some(finder), Some(id)) = (&self.finder, &self.id) else {
            return Ok(None);
        };
        let found = self.found.get_or_try_init(|| finder.find(id)).await?;
        Ok(found.as_ref())
    }
}

/// The decision of a blocking hook, each with a response for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Continue.
    Allow(ClientResponse),
    /// Reject the request. The default status is that of the protocol's error.
    Deny(ClientResponse),
    /// Fail without a decision. The hook is called again with the client's next request. Nothing has happened,
    /// and the default status is 500; at completion, all bytes are stored, and it is 423, which clients repeat.
    /// A creation whose client has not learned the URL is removed.
    Fail(ClientResponse),
}

impl Decision {
    /// Allows without changing the response.
    #[must_use]
    pub fn allow() -> Self {
        Self::Allow(ClientResponse::default())
    }

    /// Rejects the request, as [`CreateDecision::deny`] does a creation.
    #[must_use]
    pub fn deny(reply: ClientResponse) -> Self {
        Self::Deny(reply)
    }
}

impl Default for Decision {
    fn default() -> Self {
        Self::allow()
    }
}

/// The idempotency key of a creation.
///
/// A creation that is repeated, because its response was lost or on several connections at once, returns
/// the existing upload. The methods about ids are called while the creation holds the lease named
/// [`key`](Self::key), so creations with the same key run one after another.
#[async_trait]
pub trait IdempotencyKey: fmt::Debug + Send + Sync + 'static {
    /// Returns the lease that serializes creations with this key; no upload may have this id.
    ///
    /// `None` if there can be no others.
    fn key(&self) -> Option<&UploadId>;

    /// Returns the upload that was stored for this key, if any.
    ///
    /// If it does not exist or is damaged, its creation failed, and another upload is created.
    ///
    /// # Errors
    /// The creation fails.
    async fn stored_id(&self) -> Result<Option<UploadId>, IdempotencyError>;

    /// Stores the upload that will be created, replacing one that [`stored_id`](Self::stored_id) returned.
    ///
    /// Its id is final; labels may be added. Returns `None`, or another upload that is stored for this key: then
    /// nothing changes, and that upload is handled as if `stored_id` had returned it. An implementation that
    /// expects none can thus return `None` from `stored_id` without looking.
    ///
    /// # Errors
    /// The creation fails.
    async fn store_id(&self, upload: &mut Upload) -> Result<Option<UploadId>, IdempotencyError>;

    /// A later hook denied the creation with this response. Called without the lease; the client's request waits for it.
    async fn deny(&self, _response: &ClientResponse) {}
}

/// An error of an idempotency key; the creation fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdempotencyError {
    /// The key is no longer valid; holds the response for the client.
    #[error("the idempotency key is no longer valid")]
    Lost(Box<ClientResponse>),
    /// The key cannot be checked now: the request fails with 503.
    #[error("{0}")]
    Failed(#[source] BoxError),
}

impl IdempotencyError {
    /// Creates [`Lost`](Self::Lost) with a response.
    #[must_use]
    pub fn lost(reply: ClientResponse) -> Self {
        Self::Lost(Box::new(reply))
    }
}

/// The result of [`Hook::before_create`](super::Hook::before_create).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CreateDecision {
    /// The decision.
    pub answer: Decision,
    /// Replaces the id.
    pub id: Option<UploadId>,
    /// Replaces all metadata that the client sent.
    pub metadata: Option<Metadata>,
    /// Where to store the upload, as the store defines it (files: `Path`).
    pub storage: BTreeMap<String, String>,
    /// When the unfinished upload expires, regardless of the server's lifetimes.
    pub expires: Option<SystemTime>,
    /// Maximum size in bytes, below the server's limit; a larger upload is rejected with 413.
    pub max_size: Option<u64>,
    /// Allowed content types, such as `image/png`, `image/*` or `*/*`; empty allows all.
    ///
    /// The upload's metadata must contain a matching `filetype` (or `type`, or `contentType`); otherwise it
    /// is rejected with 415.
    pub content_types: Vec<String>,
    /// Key-value pairs that are stored with the upload, such as its owner: later hook calls and events
    /// contain them. Those of several hooks are merged.
    pub labels: BTreeMap<String, String>,
    /// The length of an upload with deferred length; the client cannot change it.
    pub length: Option<u64>,
    /// The idempotency key; the first hook's key is used.
    pub idempotency: Option<Arc<dyn IdempotencyKey>>,
}

impl CreateDecision {
    /// Allows the creation unchanged.
    #[must_use]
    pub fn allow() -> Self {
        Self::default()
    }

    /// Denies the creation.
    #[must_use]
    pub fn deny(reply: ClientResponse) -> Self {
        Self::new(Decision::Deny(reply))
    }

    /// Creates a decision without changes to the upload.
    #[must_use]
    pub fn new(answer: Decision) -> Self {
        Self {
            answer,
            ..Self::default()
        }
    }

    /// Sets the id.
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

    /// Sets where the store puts the upload, for example `("Path", "2026/11/report.pdf")`.
    #[must_use]
    pub fn storage(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.storage.insert(key.into(), value.into());
        self
    }

    /// Adds a label, which is stored with the upload.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    #[async_trait]
    impl FindUpload for Counting {
        async fn find(&self, _: &UploadId) -> Result<Option<Snapshot>, HandlerError> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Err(HandlerError::Other("the store is away".into())),
                _ => Ok(None),
            }
        }
    }

    #[tokio::test]
    async fn the_upload_is_loaded_once_for_all_hooks() {
        let counting = Arc::new(Counting::default());
        let mut access = Access::new(Intent::Write, Some(UploadId::random()));
        access.finder = Some(counting.clone());
        assert!(access.upload().await.is_err());
        for other in [access.clone(), access] {
            assert!(other.upload().await.unwrap().is_none());
        }
        assert_eq!(counting.0.load(Ordering::Relaxed), 2);
    }
}
