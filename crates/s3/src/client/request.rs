//! One call: signing, attempts, deadlines, and the answer to each error. It knows no operation.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_LENGTH, HOST, USER_AGENT},
    response::Parts,
};
use landfall::BoxError;
use md5::Md5;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use super::{
    Inner, ObjectRef, Payload,
    address::Target,
    credentials::Credentials,
    encode::Query,
    error::{Error, ErrorKind, Result},
    http_send::{ResponseBody, collect},
    response::{RetryAction, parse_error},
    settings::RetryPolicy,
    sign::{S3, Signer, UNSIGNED_PAYLOAD},
    stats::Operation,
    xml,
};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

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

#[derive(Debug)]
pub(super) struct S3Response {
    pub(super) head: Parts,
    pub(super) body: Bytes,
    stream: Option<ResponseBody>,
}

#[derive(Debug)]
struct RequestError {
    error: Error,
    retry: RetryAction,
    credentials: Option<Arc<Credentials>>,
}

impl From<Error> for RequestError {
    fn from(error: Error) -> Self {
        Self {
            error,
            retry: RetryAction::None,
            credentials: None,
        }
    }
}

impl Inner {
    pub(super) async fn send(&self, request: &S3Request<'_>) -> Result<S3Response> {
        self.run(request, true).await
    }

    pub(super) async fn open(&self, request: &S3Request<'_>) -> Result<(Parts, ResponseBody)> {
        let S3Response { head, stream, .. } = self.run(request, false).await?;
        let stream = stream.ok_or_else(|| request.unexpected("the response has no body"))?;
        Ok((head, stream))
    }

    async fn run(&self, request: &S3Request<'_>, reads_body: bool) -> Result<S3Response> {
        let operation = request.operation;
        let started = Instant::now();
        let bytes = request.payload.len() + request.timeout_bytes.unwrap_or_default();
        let policy = RetryPolicy::new(&self.settings, bytes);
        let mut attempt = 1;
        let (mut in_doubt, mut renewed, mut moved, mut digested) = (false, false, false, false);
        let result = loop {
            let sent = request.payload.len();
            self.stats.count(operation, |stats| stats.bytes_out += sent);
            let attempt_started = Instant::now();
            let result = self.attempt(request, reads_body, &policy).await;
            self.log(request, attempt_started.elapsed(), &result);
            let failed = match result {
                Ok(response) => break Ok(response),
                Err(failed) => failed,
            };
            let wait = match failed.retry {
                RetryAction::None => None,
                RetryAction::Backoff(retry_after) => {
                    in_doubt = true;
                    attempt += 1;
                    policy.next_delay(attempt - 1, retry_after)
                }
                RetryAction::AddDigest => {
                    let again = takes_digest(operation) && !digested;
                    digested = true;
                    if again && !self.sends_digests.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            bucket = request.bucket,
                            "the bucket retains objects (Object Lock) and takes only writes with a \
                             digest; sending Content-MD5"
                        );
                    }
                    again.then_some(Duration::ZERO)
                }
                RetryAction::RefreshCredentials => {
                    let rejected = failed.credentials.filter(|_| !renewed);
                    let again = rejected.is_some_and(|ended| self.credentials.invalidate(&ended));
                    renewed = true;
                    again.then_some(Duration::ZERO)
                }
                RetryAction::ChangeRegion(region) => {
                    if self.regions.learn(request.bucket, &region) {
                        tracing::warn!(
                            bucket = request.bucket,
                            region,
                            "the bucket is in another region than configured; using that region"
                        );
                    }
                    // Another request may have learned it meanwhile.
                    let again = !moved && *self.regions.get(request.bucket) == *region;
                    moved = true;
                    again.then_some(Duration::ZERO)
                }
            };
            let Some(wait) = wait else {
                break Err(failed.error.with_doubt(in_doubt));
            };
            self.stats.count(operation, |stats| stats.retries += 1);
            sleep(wait).await;
        };
        let (took, failed) = (started.elapsed(), result.is_err());
        self.stats
            .count(operation, |stats| stats.end_call(took, failed));
        result
    }

    async fn attempt(
        &self,
        request: &S3Request<'_>,
        reads_body: bool,
        policy: &RetryPolicy,
    ) -> Result<S3Response, RequestError> {
        let late = "timeout while getting credentials";
        let getting = before(policy.deadline(), self.credentials.get(), late);
        let failed = |source| request.error(ErrorKind::BadCredentials).with_source(source);
        let credentials = getting.await.map_err(failed)?;
        let http_request = self.http_request(request, credentials.as_deref());
        let http_request = http_request.map_err(|error| request.unexpected(error))?;
        let interrupted = |source: BoxError| RequestError {
            error: request
                .error(ErrorKind::Unavailable { retry_after: None })
                .with_source(source),
            retry: RetryAction::Backoff(None),
            credentials: None,
        };
        // With `with_timeout_bytes`, the response starts when the work is done.
        let (http, deadline) = (Arc::clone(&self.http), policy.attempt_deadline());
        let sending = async move {
            let late = "the service did not respond in time";
            before(deadline, http.send(http_request), late).await
        };
        let response = match &request.task_tracker {
            Some(tasks) => {
                let sent = tasks.spawn(sending).await;
                sent.unwrap_or_else(|panic| Err(panic.into()))
            }
            None => sending.await,
        };
        let (head, body) = response.map_err(interrupted)?.into_parts();
        if !reads_body && head.status.is_success() {
            return Ok(S3Response {
                head,
                body: Bytes::new(),
                stream: Some(body),
            });
        }
        let reading = collect(body, self.settings.idle_timeout, MAX_RESPONSE_BYTES);
        let late = "the response did not end in time";
        let reading = before(policy.deadline(), reading, late);
        let body = reading.await.map_err(interrupted)?;
        let received = body.len() as u64;
        self.stats
            .count(request.operation, |stats| stats.bytes_in += received);
        if head.status.is_success()
            && (request.timeout_bytes.is_none() || xml::problem(&body).is_none())
        {
            return Ok(S3Response {
                head,
                body,
                stream: None,
            });
        }
        let reads = matches!(
            request.operation,
            Operation::GetObject | Operation::HeadObject
        );
        let can_be_missing = reads && self.settings.denied_is_missing;
        let error = |kind| match kind {
            ErrorKind::AccessDenied if can_be_missing => request.error(ErrorKind::NoSuchKey),
            kind => request.error(kind),
        };
        let (error, retry) = parse_error(request.operation, &head, &body, error);
        Err(RequestError {
            error,
            retry,
            credentials,
        })
    }

    fn http_request(
        &self,
        request: &S3Request<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<Request<super::PayloadBody>, http::Error> {
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

    fn log(
        &self,
        request: &S3Request<'_>,
        took: Duration,
        result: &Result<S3Response, RequestError>,
    ) {
        if !self.settings.log_calls {
            return;
        }
        let operation = request.operation.name();
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(response) => {
                let status = response.head.status.as_u16();
                tracing::debug!(operation, duration_ms, status, "S3APICall");
            }
            Err(RequestError { error, .. }) => {
                let status = error.status().map(|status: StatusCode| status.as_u16());
                tracing::debug!(operation, duration_ms, status, %error, "S3APICall");
            }
        }
    }
}

fn takes_digest(operation: Operation) -> bool {
    matches!(operation, Operation::PutObject | Operation::UploadPart)
}

async fn before<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, BoxError>>,
    late: &str,
) -> Result<T, BoxError> {
    let finished = timeout_at(deadline, call).await;
    finished.unwrap_or_else(|_| Err(late.into()))
}
