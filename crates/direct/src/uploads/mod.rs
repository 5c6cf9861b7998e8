//! The operations of direct uploads.

mod apply;
mod authorize;
mod create;
mod decide;
mod key;
mod lookup;
mod object_headers;
mod observe;
mod open;
mod part_set;
mod remove;
mod sign;
mod spec;
mod sts;
mod sweep;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use http::{HeaderValue, Uri, header, request::Parts, uri::PathAndQuery};
use landfall::{
    Handler,
    external::HookDispatcher,
    hook::{ClientResponse, RequestInfo},
    upload::UploadId,
};
use landfall_access::ExpiringCache;
use landfall_objects::Layout;
use landfall_s3::client::Credentials;
use landfall_state::queue::{Job, Principal, Queue, contains_secret};
use percent_encoding::percent_decode_str;

use crate::{
    DirectBucket, DirectError, DirectSettings, Record, Repository, S3Bucket, TransferMode,
};

pub(crate) use self::part_set::MAX_PARTS;

/// A fingerprint of the object that was at the key before.
const REPLACES: &str = "Replaces";
/// The accepted types, if the type is not signed.
const TYPES: &str = "Types";
/// While the upload is being completed, if not all.
const PARTS: &str = "Parts";
/// Set once the client has a signature to complete the upload in S3.
const COMPLETES: &str = "Completes";
/// Set if a PUT may be signed without a condition, and can then be repeated.
const UNCONDITIONAL: &str = "Unconditional";
/// Set if no type was stated, so that the client of a PUT may send any or none.
const ANY_TYPE: &str = "AnyType";

/// Others may change the record concurrently.
const MAX_ATTEMPTS: usize = 3;

/// The sender of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Requester {
    /// An authenticated principal.
    Principal(Principal),
    /// The bearer of the upload token of this job, for its single upload.
    Token(Box<Job>),
}

/// The headers that the client of a presigned PUT sends, so that they can be signed.
///
/// Services reject a request that lacks a signed header. All clients send `Content-Length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SentHeaders {
    /// None, or a `Content-Type` that is not known yet.
    Unknown,
    /// `Content-Type` alone, as in the response.
    ContentType,
    /// All headers of the response.
    #[default]
    All,
}

/// A request to open an upload.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OpenRequest {
    /// The transfer mode.
    pub mode: TransferMode,
    /// The headers that the client sends with a PUT.
    pub headers: SentHeaders,
    /// The file's name.
    pub filename: String,
    /// The file's type.
    pub filetype: Option<String>,
    /// Its length in bytes, if known.
    pub size: Option<u64>,
    /// Further metadata.
    pub metadata: BTreeMap<String, String>,
    /// The principal's own id for it; generated if missing.
    pub request_id: Option<String>,
    /// The key that the client chooses, below the principal's prefix (Uppy's `signRequest`).
    pub key: Option<String>,
    /// The address of the client, if known.
    pub client: Option<IpAddr>,
}

impl OpenRequest {
    /// Creates a request with nothing but a name.
    #[must_use]
    pub fn new(mode: TransferMode, filename: impl Into<String>) -> Self {
        Self {
            mode,
            headers: SentHeaders::default(),
            filename: filename.into(),
            filetype: None,
            size: None,
            metadata: BTreeMap::new(),
            request_id: None,
            key: None,
            client: None,
        }
    }
}

/// A completed upload.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletedUpload {
    /// The record.
    pub record: Record,
    /// The public URL.
    pub location: String,
    /// The entity tag, with quotes.
    pub etag: String,
    /// The length in bytes.
    pub size: u64,
    /// The response of hooks for the client.
    pub response: ClientResponse,
}

/// An operation that a client makes on S3 by a signed request (Uppy's `signRequest`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedOperation {
    /// Creates the multipart upload.
    Create,
    /// Uploads a part.
    Part(u32),
    /// Lists the parts.
    List,
    /// Completes the multipart upload.
    Complete,
    /// Aborts the multipart upload.
    Abort,
}

/// Temporary credentials for the keys of one principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixCredentials {
    /// The credentials.
    pub credentials: Credentials,
    /// The bucket.
    pub bucket: String,
    /// The region of the bucket.
    pub region: String,
    /// The prefix of the keys that they can write.
    pub prefix: String,
}

/// The result of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SweepReport {
    /// Checked uploads.
    pub examined: u64,
    /// Completed uploads.
    pub completed: u64,
    /// Expired uploads.
    pub expired: u64,
    /// Uploads that failed: too large, or missing in S3.
    pub failed: u64,
    /// Uploads that could not be checked.
    pub check_failures: u64,
}

/// Direct uploads into one bucket. Cheap to clone.
///
/// # Cancel safety
/// A dropped call that changes an upload continues, unless it says otherwise; others may be dropped.
#[derive(Debug, Clone)]
pub struct Direct(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: DirectSettings,
    layout: Layout,
    queue: Queue,
    repository: Repository,
    /// Set by [`Direct::set_handler`], since the handler refers to this.
    handler: OnceLock<Handler>,
    /// By subject, key and multipart upload.
    cache: ExpiringCache<String, Arc<Record>>,
    throttle: ExpiringCache<UploadId, ()>,
}

impl Direct {
    /// Creates direct uploads whose jobs are in `queue`.
    ///
    /// Pass it to the handler's [`Config::external_uploads`](landfall::Config::external_uploads), and the handler to
    /// [`Self::set_handler`].
    #[must_use]
    pub fn new(settings: DirectSettings, queue: Queue, repository: Repository) -> Self {
        Self(Arc::new(Inner {
            layout: Layout::new(&settings.objects),
            settings,
            queue,
            repository,
            handler: OnceLock::new(),
            cache: ExpiringCache::new(),
            throttle: ExpiringCache::new(),
        }))
    }

    /// Sets the handler whose hooks are called and whose sinks receive events, once, before uploads are opened.
    ///
    /// A [`JobTracker`](landfall_state::queue::tracking::JobTracker) of the queue must be among its sinks, since it
    /// writes progress and ends to the jobs.
    pub fn set_handler(&self, handler: &Handler) {
        let _ = self.0.handler.set(handler.clone());
    }

    /// Returns the settings.
    #[must_use]
    pub fn settings(&self) -> &DirectSettings {
        &self.0.settings
    }

    /// Returns the upload queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.0.queue
    }

    /// Returns the handler, if [`set_handler`](Self::set_handler) was called.
    #[must_use]
    pub fn handler(&self) -> Option<&Handler> {
        self.0.handler.get()
    }

    fn bucket(&self) -> &dyn DirectBucket {
        &*self.0.settings.bucket
    }

    /// Returns S3's own requests.
    ///
    /// # Errors
    /// [`DirectError::Unsupported`] with a sentence about what to use instead, on other clouds.
    pub(crate) fn s3(&self) -> Result<&S3Bucket, DirectError> {
        let bucket = self.bucket();
        bucket.s3().ok_or_else(|| {
            DirectError::Unsupported(format!(
                "{} has no forms, multipart uploads and temporary credentials of S3: use POST /api/sign, or AwsS3 of \
                 Uppy 4 or 5 with shouldUseMultipart: false",
                bucket.cloud().rules().name
            ))
        })
    }

    /// Fails if the bucket does not have the requests of a transfer mode.
    fn require_mode_of_bucket(&self, mode: TransferMode) -> Result<(), DirectError> {
        match mode {
            TransferMode::Put => Ok(()),
            TransferMode::Resumable if self.bucket().s3().is_none() => Ok(()),
            TransferMode::Resumable => Err(DirectError::Unsupported(
                "S3 has no resumable PUT: use multipart uploads, POST /s3/multipart".into(),
            )),
            TransferMode::Post | TransferMode::Multipart | TransferMode::SignedMultipart => {
                self.s3().map(drop)
            }
        }
    }

    fn dispatcher(&self) -> Result<HookDispatcher, DirectError> {
        let handler = self.handler();
        let none = || DirectError::Internal("direct uploads have no handler yet".into());
        Ok(handler.ok_or_else(none)?.hook_dispatcher())
    }
}

/// Removes Landfall's keys and tokens from `request`; other credentials belong to the application, as with
/// tus.
fn request_info(dispatcher: &HookDispatcher, request: &mut Parts) -> Arc<RequestInfo> {
    redact(request);
    let info = dispatcher.request(request);
    if info.token.is_none() {
        return info;
    }
    // The token was checked: hooks and sinks do not need it.
    let mut info = (*info).clone();
    info.token = None;
    Arc::new(info)
}

fn redact(request: &mut Parts) {
    let has_secret =
        |value: &HeaderValue| contains_secret(&String::from_utf8_lossy(value.as_bytes()));
    let secret = (request.headers.iter()).filter(|(_, value)| has_secret(value));
    // The whole header is removed: other cookies in it cannot be separated.
    for name in secret.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
        request.headers.remove(name);
    }
    request.headers.remove("upload-token");
    request.headers.remove("uppy-auth-token");
    request.headers.remove(header::PROXY_AUTHORIZATION);
    let said = request.uri.path_and_query();
    let said = said.map_or("", PathAndQuery::as_str);
    if contains_secret(&percent_decode_str(said).decode_utf8_lossy()) {
        request.uri = without_query(&request.uri);
    }
}

fn without_query(uri: &Uri) -> Uri {
    let path = match contains_secret(&percent_decode_str(uri.path()).decode_utf8_lossy()) {
        true => "/",
        false => uri.path(),
    };
    path.parse().unwrap_or_default()
}

#[cfg(test)]
mod request_tests {
    use http::Request;
    use landfall::{Composer, Config, Handler, store::MemoryStore};

    use super::*;

    #[test]
    fn requests_for_hooks_contain_no_secret() {
        let handler = Handler::new(Config::new(Composer::join(MemoryStore::new()))).unwrap();
        let request = Request::get("/s3/params?filename=a&metadata%5Bupload_token%5D=lft%5Fx")
            .header("authorization", "Bearer lfk_secret")
            .header("upload-token", "other")
            .header("cookie", "session=1")
            .header("x-mine", "1");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let info_for_hooks = request_info(&handler.hook_dispatcher(), &mut parts);
        assert_eq!(info_for_hooks.uri, "/s3/params");
        assert_eq!(info_for_hooks.token, None);
        let mut names: Vec<_> = info_for_hooks
            .headers
            .keys()
            .map(|name| name.as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "x-mine"]);
        let request = Request::get("/t/lft_x/s3/params?filename=a").body(());
        let (mut parts, ()) = request.unwrap().into_parts();
        assert_eq!(
            request_info(&handler.hook_dispatcher(), &mut parts).uri,
            "/"
        );
    }
}
