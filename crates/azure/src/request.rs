//! One call: its headers, its authorization, and the answer to each error. It knows no operation.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{AUTHORIZATION, CONTENT_LENGTH, USER_AGENT},
    response::Parts,
};
use landfall::BoxError;
use landfall_objects::{
    Attempts, CallKind, Error, ErrorKind, Failure, ObjectRef, Payload, PayloadBody, Response,
    Result, Retry, before,
};
use reqsign_azure_storage::Credential;
use reqsign_core::SignRequest as _;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    checksum::{crc64, md5},
    client::Inner,
    metadata::etag,
    response::{About, Action, refusal},
};

/// The newest version of the service that the emulator knows, too.
const VERSION: HeaderValue = HeaderValue::from_static("2025-11-05");
const MS_VERSION: HeaderName = HeaderName::from_static("x-ms-version");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const CONTENT_CRC64: HeaderName = HeaderName::from_static("x-ms-content-crc64");
const COPY_SOURCE: HeaderName = HeaderName::from_static("x-ms-copy-source");
const COPY_SOURCE_AUTHORIZATION: HeaderName =
    HeaderName::from_static("x-ms-copy-source-authorization");

/// Larger payloads have the cheaper checksum.
const MAX_MD5_BYTES: u64 = 64 * 1024;

/// A call of the service.
#[derive(Debug)]
pub(crate) struct BlobRequest<'a> {
    operation: &'static str,
    method: Method,
    /// Empty for the service itself.
    container: &'a str,
    blob: Option<&'a str>,
    /// Encoded.
    query: String,
    headers: HeaderMap,
    payload: Payload,
    /// The service verifies the payload.
    verified: bool,
    /// The blob that the service reads.
    source: Option<&'a ObjectRef>,
    worked: u64,
    tasks: Option<TaskTracker>,
}

impl<'a> BlobRequest<'a> {
    pub(crate) fn new(operation: &'static str, method: Method, container: &'a str) -> Self {
        Self {
            operation,
            method,
            container,
            blob: None,
            query: String::new(),
            headers: HeaderMap::new(),
            payload: Payload::default(),
            verified: false,
            source: None,
            worked: 0,
            tasks: None,
        }
    }

    pub(crate) fn of_blob(operation: &'static str, method: Method, object: &'a ObjectRef) -> Self {
        let mut request = Self::new(operation, method, &object.bucket);
        request.blob = Some(&object.key);
        request
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        let and = if self.query.is_empty() { "" } else { "&" };
        let value = crate::address::encoded(value);
        self.query.push_str(&format!("{and}{name}={value}"));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            let message = format!("invalid value of {name}: {value:?}");
            self.error(ErrorKind::Other).with_message(message)
        })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(crate) fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    pub(crate) fn range(self, name: &'static str, range: &Range<u64>) -> Result<Self> {
        let Range { start, end } = range;
        if start >= end {
            let message = format!("the range {start}..{end} is empty");
            return Err(self.error(ErrorKind::InvalidRange).with_message(message));
        }
        self.header(name, &format!("bytes={start}-{}", end - 1))
    }

    pub(crate) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// The service verifies the payload by its checksum.
    pub(crate) fn verified(mut self) -> Self {
        self.verified = true;
        self
    }

    /// The service copies `range` of another blob before it responds.
    pub(crate) fn copies(mut self, source: &'a ObjectRef, worked: u64) -> Self {
        self.source = Some(source);
        self.worked = worked;
        self
    }

    /// Runs attempts in tasks, to end even if the call is dropped.
    pub(crate) fn tasks(mut self, tasks: Option<&TaskTracker>) -> Self {
        self.tasks = tasks.cloned();
        self
    }

    pub(crate) fn error(&self, kind: ErrorKind) -> Error {
        let target = match self.blob {
            Some(blob) => format!("{}/{}", self.container, blob.escape_debug()),
            None => self.container.to_owned(),
        };
        Error::new(kind, self.operation, target)
    }

    /// Returns the version of a blob that was written.
    pub(crate) fn version(&self, response: &Response) -> Result<String> {
        etag(&response.head).ok_or_else(|| self.unexpected("the response has no ETag"))
    }

    pub(crate) fn unexpected(&self, source: impl Into<BoxError>) -> Error {
        self.error(ErrorKind::Other).with_source(source)
    }
}

impl Inner {
    /// Makes a call whose response is read whole.
    pub(crate) async fn send(&self, request: &BlobRequest<'_>) -> Result<Response> {
        self.run(request, false).await
    }

    /// Makes a call whose body, on success, is left to the caller.
    pub(crate) async fn run(&self, request: &BlobRequest<'_>, streams: bool) -> Result<Response> {
        let kind = CallKind {
            operation: request.operation,
            sent: request.payload.len(),
            worked: request.worked,
            streams,
            tasks: request.tasks.clone(),
        };
        let mut attempts = BlobAttempts {
            inner: self,
            request,
            credential: None,
            renewed: false,
            sent_md5: false,
        };
        self.caller.run(&kind, &mut attempts).await
    }

    async fn http_request(
        &self,
        request: &BlobRequest<'_>,
        credential: &Credential,
    ) -> Result<Request<PayloadBody>, BoxError> {
        let mut url = match request.container {
            "" => format!("{}/", self.address.base()),
            container => self.address.url(container, request.blob),
        };
        if !request.query.is_empty() {
            url.push('?');
            url.push_str(&request.query);
        }
        let mut headers = request.headers.clone();
        headers.insert(MS_VERSION, VERSION);
        headers.insert(USER_AGENT, self.user_agent.clone());
        if request.method == Method::PUT {
            headers.insert(CONTENT_LENGTH, request.payload.len().into());
        }
        if request.verified {
            let (name, checksum) = self.checksum(&request.payload);
            headers.insert(name, HeaderValue::try_from(checksum)?);
        }
        if let Some(source) = request.source {
            self.authorize_source(source, credential, &mut headers)?;
        }
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = request.method.clone();
        head.uri = url.parse()?;
        head.headers = headers;
        let context = self.credentials_context();
        let signing = self
            .signer
            .sign_request(context, &mut head, Some(credential), None);
        signing.await?;
        if let Some(authorization) = head.headers.get_mut(AUTHORIZATION) {
            authorization.set_sensitive(true);
        }
        Ok(Request::from_parts(head, request.payload.body()))
    }

    /// Small objects have the digest that the service stores, too; CRC-64 takes less time for others.
    fn checksum(&self, payload: &Payload) -> (HeaderName, String) {
        match payload.len() <= MAX_MD5_BYTES || self.sends_md5.load(Ordering::Relaxed) {
            true => (CONTENT_MD5, md5(payload)),
            false => (CONTENT_CRC64, crc64(payload)),
        }
    }

    /// The service reads the source with separate rights, for as long as a copy takes.
    fn authorize_source(
        &self,
        source: &ObjectRef,
        credential: &Credential,
        headers: &mut HeaderMap,
    ) -> Result<(), BoxError> {
        let mut url = self.address.url(&source.bucket, Some(&source.key));
        let secret = |text: &str| {
            let mut value = HeaderValue::try_from(text)?;
            value.set_sensitive(true);
            Ok::<_, BoxError>(value)
        };
        let query = match credential {
            Credential::SharedKey { account_key, .. } => {
                Some(self.source_signature(source, account_key)?)
            }
            Credential::SasToken { token, .. } => Some(token.clone()),
            Credential::BearerToken { token, .. } => {
                headers.insert(
                    COPY_SOURCE_AUTHORIZATION,
                    secret(&format!("Bearer {token}"))?,
                );
                None
            }
        };
        if let Some(query) = query {
            url.push('?');
            url.push_str(&query);
        }
        headers.insert(COPY_SOURCE, secret(&url)?);
        Ok(())
    }
}

/// The attempts of one call. A token that the service rejects is renewed once.
struct BlobAttempts<'a> {
    inner: &'a Inner,
    request: &'a BlobRequest<'a>,
    credential: Option<Arc<Credential>>,
    renewed: bool,
    /// The last attempt had the digest that every version of the service and its emulator knows.
    sent_md5: bool,
}

#[async_trait]
impl Attempts for BlobAttempts<'_> {
    async fn request(&mut self, deadline: Instant) -> Result<Request<PayloadBody>, Failure> {
        let (inner, request) = (self.inner, self.request);
        let late = "timeout while getting credentials";
        let getting = before(deadline, inner.credentials.get(), late);
        let failed = |source| request.error(ErrorKind::BadCredentials).with_source(source);
        let credential = getting.await.map_err(failed)?;
        self.sent_md5 = inner.sends_md5.load(Ordering::Relaxed);
        let built = inner.http_request(request, &credential).await;
        self.credential = Some(credential);
        Ok(built.map_err(|error| request.unexpected(error))?)
    }

    fn judge(&mut self, head: &Parts, body: &Bytes) -> Result<(), Failure> {
        if head.status.is_success() {
            return Ok(());
        }
        let about = About {
            blob: self.request.blob.is_some(),
            authorization: self.inner.authorization,
        };
        let (error, action) = refusal(about, head, body, |kind| self.request.error(kind));
        let retry = match action {
            Action::None => Retry::No,
            Action::Backoff(delay) => Retry::Later(delay),
            // Unless it was sent.
            Action::SendMd5 => match self.inner.sends_md5.swap(true, Ordering::Relaxed) {
                true if self.sent_md5 => Retry::No,
                _ => Retry::Now,
            },
            Action::RenewToken => {
                let rejected = self.credential.take().filter(|_| !self.renewed);
                self.renewed = true;
                match rejected.is_some_and(|ended| self.inner.credentials.invalidate(&ended)) {
                    true => Retry::Now,
                    false => Retry::No,
                }
            }
        };
        Err(Failure { error, retry })
    }

    fn error(&self, kind: ErrorKind) -> Error {
        self.request.error(kind)
    }
}
