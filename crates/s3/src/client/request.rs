//! One call: its request, its signature, and the answer to each error. It knows no operation.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{CONTENT_LENGTH, HOST, USER_AGENT},
    response::Parts,
};
use landfall::BoxError;
use landfall_objects::{
    Attempts, CallKind, Failure, PayloadBody, Response, ResponseBody, Retry, before,
};
use md5::Md5;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    Error, ErrorKind, Inner, ObjectRef, Payload, Result,
    address::Target,
    credentials::Credentials,
    encode::Query,
    operation::Operation,
    response::{RetryAction, parse_error},
    sign::{S3, Signer, UNSIGNED_PAYLOAD},
    xml,
};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

#[derive(Debug)]
pub(super) struct S3Request<'a> {
    operation: Operation,
    method: Method,
    bucket: &'a str,
    key: Option<&'a str>,
    query: Query,
    pub(super) headers: HeaderMap,
    payload: Payload,
    timeout_bytes: Option<u64>,
    endpoint_override: Option<(&'static str, Target)>,
    /// Where attempts run, to end even if the call is dropped.
    pub(super) task_tracker: Option<TaskTracker>,
}

impl<'a> S3Request<'a> {
    pub(super) fn new(
        operation: Operation,
        method: Method,
        bucket: &'a str,
        key: Option<&'a str>,
    ) -> Self {
        Self {
            operation,
            method,
            bucket,
            key,
            query: Query::new(),
            headers: HeaderMap::new(),
            payload: Payload::new(Vec::new(), None),
            timeout_bytes: None,
            endpoint_override: None,
            task_tracker: None,
        }
    }

    pub(super) fn for_object(operation: Operation, method: Method, object: &'a ObjectRef) -> Self {
        Self::new(operation, method, &object.bucket, Some(&object.key))
    }

    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        self.query = self.query.with(name, value);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = self.header_value(name, value)?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn range(self, name: &'static str, range: &Range<u64>) -> Result<Self> {
        let Range { start, end } = range;
        if start >= end {
            let message = format!("the range {start}..{end} is empty");
            return Err(self.error(ErrorKind::InvalidRange).with_message(message));
        }
        self.header(name, &format!("bytes={start}-{}", end - 1))
    }

    pub(super) fn header_value(&self, name: &str, value: &str) -> Result<HeaderValue> {
        HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            self.error(ErrorKind::Other)
                .with_message(format!("invalid value of {name}: {value:?}"))
        })
    }

    pub(super) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    pub(super) fn text(self, text: String) -> Self {
        let sha256 = Sha256::digest(text.as_bytes()).into();
        self.payload(Payload::new(vec![text.into()], Some(sha256)))
    }

    /// Extends the timeout as for `bytes` of payload, since the service works before it responds.
    ///
    /// The response may then have status 200 and an error in its body.
    pub(super) fn with_timeout_bytes(mut self, bytes: u64) -> Self {
        self.timeout_bytes = Some(bytes);
        self
    }

    pub(super) fn to(mut self, service: &'static str, target: Target) -> Self {
        self.endpoint_override = Some((service, target));
        self
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        let target = match self.key {
            Some(key) => format!("{}/{}", self.bucket, key.escape_debug()),
            None => self.bucket.to_owned(),
        };
        Error::new(kind, self.operation.name(), target)
    }

    pub(super) fn unexpected(&self, source: impl Into<BoxError>) -> Error {
        self.error(ErrorKind::Other).with_source(source)
    }

    fn payload_hash(&self) -> String {
        match self.payload.sha256() {
            Some(hash) => hex::encode(hash),
            None if self.payload.is_empty() => hex::encode(Sha256::digest([])),
            None => UNSIGNED_PAYLOAD.to_owned(),
        }
    }
}

impl Inner {
    pub(super) async fn send(&self, request: &S3Request<'_>) -> Result<Response> {
        self.run(request, false).await
    }

    pub(super) async fn open_body(&self, request: &S3Request<'_>) -> Result<(Parts, ResponseBody)> {
        let Response { head, stream, .. } = self.run(request, true).await?;
        let stream = stream.ok_or_else(|| request.unexpected("the response has no body"))?;
        Ok((head, stream))
    }

    async fn run(&self, request: &S3Request<'_>, streams: bool) -> Result<Response> {
        let kind = CallKind {
            operation: request.operation.name(),
            sent: request.payload.len(),
            worked: request.timeout_bytes.unwrap_or_default(),
            streams,
            tasks: request.task_tracker.clone(),
        };
        let mut attempts = S3Attempts {
            inner: self,
            request,
            credentials: None,
            renewed: false,
            moved: false,
            digested: false,
        };
        self.caller.run(&kind, &mut attempts).await
    }
}

/// The attempts of one call, each cause of a failure mended once.
struct S3Attempts<'a> {
    inner: &'a Inner,
    request: &'a S3Request<'a>,
    credentials: Option<Arc<Credentials>>,
    renewed: bool,
    moved: bool,
    digested: bool,
}

#[async_trait]
impl Attempts for S3Attempts<'_> {
    async fn request(&mut self, deadline: Instant) -> Result<Request<PayloadBody>, Failure> {
        let (inner, request) = (self.inner, self.request);
        let late = "timeout while getting credentials";
        let getting = before(deadline, inner.credentials.get(), late);
        let failed = |source| request.error(ErrorKind::BadCredentials).with_source(source);
        self.credentials = getting.await.map_err(failed)?;
        let http_request = inner.http_request(request, self.credentials.as_deref());
        Ok(http_request.map_err(|error| request.unexpected(error))?)
    }

    fn judge(&mut self, head: &Parts, body: &Bytes) -> Result<(), Failure> {
        let request = self.request;
        if head.status.is_success()
            && (request.timeout_bytes.is_none() || xml::problem(body).is_none())
        {
            return Ok(());
        }
        let reads = matches!(
            request.operation,
            Operation::GetObject | Operation::HeadObject
        );
        let can_be_missing = reads && self.inner.settings.denied_is_missing;
        let error = |kind| match kind {
            ErrorKind::AccessDenied if can_be_missing => request.error(ErrorKind::NoSuchKey),
            kind => request.error(kind),
        };
        let (error, action) = parse_error(request.operation, head, body, error);
        let retry = self.retry(action);
        Err(Failure { error, retry })
    }

    fn error(&self, kind: ErrorKind) -> Error {
        self.request.error(kind)
    }
}

impl S3Attempts<'_> {
    /// Mends the cause of a failure, if that is possible.
    fn retry(&mut self, action: RetryAction) -> Retry {
        let (inner, request) = (self.inner, self.request);
        let again = match action {
            RetryAction::None => false,
            RetryAction::Backoff(retry_after) => return Retry::Later(retry_after),
            RetryAction::AddDigest => {
                let again = takes_digest(request.operation) && !self.digested;
                self.digested = true;
                if again && !inner.sends_digests.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        bucket = request.bucket,
                        "the bucket retains objects (Object Lock) and takes only writes with a \
                         digest; sending Content-MD5"
                    );
                }
                again
            }
            RetryAction::RefreshCredentials => {
                let rejected = self.credentials.take().filter(|_| !self.renewed);
                self.renewed = true;
                rejected.is_some_and(|ended| inner.credentials.invalidate(&ended))
            }
            RetryAction::ChangeRegion(region) => {
                if inner.regions.learn(request.bucket, &region) {
                    tracing::warn!(
                        bucket = request.bucket,
                        region,
                        "the bucket is in another region than configured; using that region"
                    );
                }
                // Another request may have learned it meanwhile.
                let again = !self.moved && *inner.regions.get(request.bucket) == *region;
                self.moved = true;
                again
            }
        };
        if again { Retry::Now } else { Retry::No }
    }
}

impl Inner {
    fn http_request(
        &self,
        request: &S3Request<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<Request<PayloadBody>, http::Error> {
        let region = self.regions.get(request.bucket);
        let (service, target) = request.endpoint_override.clone().unwrap_or_else(|| {
            let target = self.address.target(&region, request.bucket, request.key);
            (S3, target)
        });
        let query = request.query.canonical();
        let mut headers = request.headers.clone();
        if takes_digest(request.operation) && self.sends_digests.load(Ordering::Relaxed) {
            let mut md5 = Md5::new();
            request.payload.chunks().for_each(|chunk| md5.update(chunk));
            let digest = STANDARD.encode(md5.finalize());
            headers.insert(CONTENT_MD5, HeaderValue::try_from(digest)?);
        }
        headers.insert(HOST, target.host_header()?);
        if let Some(credentials) = credentials {
            let now = (self.settings.clock)();
            let signer = Signer::new(credentials, &region, service, now);
            let (method, hash) = (&request.method, request.payload_hash());
            signer.sign_headers(method, &target.path, &query, &mut headers, &hash)?;
        }
        headers.insert(USER_AGENT, self.user_agent.clone());
        if request.method == Method::PUT || request.method == Method::POST {
            headers.insert(CONTENT_LENGTH, request.payload.len().into());
        }
        let mut http_request = Request::new(request.payload.body());
        *http_request.method_mut() = request.method.clone();
        *http_request.uri_mut() = target.uri(&query)?;
        *http_request.headers_mut() = headers;
        Ok(http_request)
    }
}

fn takes_digest(operation: Operation) -> bool {
    matches!(operation, Operation::PutObject | Operation::UploadPart)
}
