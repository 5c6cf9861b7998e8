//! One call of the JSON API: its request, and its attempts. It knows no operation's meaning.

use std::{fmt::Write as _, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE, USER_AGENT},
    response::Parts,
};
use landfall::BoxError;
use landfall_objects::{
    Attempts, CallKind, Error, ErrorKind, Failure, ObjectRef, Payload, PayloadBody, Response,
    ResponseBody, Result, Retry, before,
};
use reqsign_google::Credential;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{address::segment, client::Inner, credentials::TokenError, response};

#[derive(Debug)]
pub(crate) struct ApiRequest<'a> {
    pub(crate) operation: &'static str,
    pub(crate) bucket: &'a str,
    key: Option<&'a str>,
    method: Method,
    url: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    payload: Payload,
    /// The service works before it responds as long as with these bytes of payload.
    pub(crate) worked: u64,
    /// The tasks in which attempts run, to end even if the call is dropped.
    pub(crate) tasks: Option<TaskTracker>,
}

impl<'a> ApiRequest<'a> {
    pub(crate) fn new(
        operation: &'static str,
        method: Method,
        url: String,
        bucket: &'a str,
    ) -> Self {
        Self {
            operation,
            bucket,
            key: None,
            method,
            url,
            headers: Vec::new(),
            payload: Payload::default(),
            worked: 0,
            tasks: None,
        }
    }

    /// Names the object in errors.
    pub(crate) fn about(mut self, object: &'a ObjectRef) -> Self {
        self.key = Some(&object.key);
        self
    }

    /// Adds a parameter, whose name needs no encoding.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        // Writing to text cannot fail.
        let _ = write!(self.url, "{separator}{name}={}", segment(value));
        self
    }

    pub(crate) fn number(self, name: &str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.query(name, &value.to_string()),
            None => self,
        }
    }

    /// Requests a range of the stored bytes, which the service must not unpack.
    pub(crate) fn stored_range(mut self, range: Option<&Range<u64>>) -> Result<Self> {
        let gzip = HeaderValue::from_static("gzip");
        self.headers.push((ACCEPT_ENCODING, gzip));
        let Some(Range { start, end }) = range else {
            return Ok(self);
        };
        if start >= end {
            let message = format!("the range {start}..{end} is empty");
            return Err(self.error(ErrorKind::InvalidRange).with_message(message));
        }
        let value = HeaderValue::try_from(format!("bytes={start}-{}", end - 1));
        let value = value.map_err(|error| self.unexpected(error))?;
        self.headers.push((RANGE, value));
        Ok(self)
    }

    pub(crate) fn json(self, body: &Value) -> Result<Self> {
        let json = Bytes::from(body.to_string());
        self.body("application/json", Payload::from(json))
    }

    pub(crate) fn body(mut self, content_type: &str, payload: Payload) -> Result<Self> {
        let content_type = HeaderValue::try_from(content_type);
        let content_type = content_type.map_err(|error| self.unexpected(error))?;
        self.headers.push((CONTENT_TYPE, content_type));
        self.payload = payload;
        Ok(self)
    }

    pub(crate) fn error(&self, kind: ErrorKind) -> Error {
        let target = match self.key {
            Some(key) => format!("{}/{}", self.bucket, key.escape_debug()),
            None => self.bucket.to_owned(),
        };
        Error::new(kind, self.operation, target)
    }

    pub(crate) fn unexpected(&self, source: impl Into<BoxError>) -> Error {
        self.error(ErrorKind::Other).with_source(source)
    }

    fn http_request(
        &self,
        inner: &Inner,
        credential: Option<&Credential>,
    ) -> Result<Request<PayloadBody>, http::Error> {
        let mut request = Request::new(self.payload.body());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.parse()?;
        let headers = request.headers_mut();
        headers.extend(self.headers.iter().cloned());
        headers.insert(USER_AGENT, inner.user_agent.clone());
        if self.method == Method::POST {
            headers.insert(CONTENT_LENGTH, self.payload.len().into());
        }
        if let Some(token) = credential.and_then(|credential| credential.token.as_ref()) {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.access_token))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

impl Inner {
    /// Sends a request and reads the response.
    pub(crate) async fn send(&self, request: &ApiRequest<'_>) -> Result<Response> {
        self.run(request, false).await
    }

    /// Sends a request whose response is JSON.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, request: &ApiRequest<'_>) -> Result<T> {
        let response = self.send(request).await?;
        serde_json::from_slice(&response.body).map_err(|error| request.unexpected(error))
    }

    /// Sends a request and leaves the body of the response to the caller.
    pub(crate) async fn open_body(
        &self,
        request: &ApiRequest<'_>,
    ) -> Result<(Parts, ResponseBody)> {
        let Response { head, stream, .. } = self.run(request, true).await?;
        let stream = stream.ok_or_else(|| request.unexpected("the response has no body"))?;
        Ok((head, stream))
    }

    async fn run(&self, request: &ApiRequest<'_>, streams: bool) -> Result<Response> {
        let kind = CallKind {
            operation: request.operation,
            sent: request.payload.len(),
            worked: request.worked,
            streams,
            tasks: request.tasks.clone(),
        };
        let mut attempts = ApiAttempts {
            inner: self,
            request,
            credential: None,
            renewed: false,
        };
        self.caller.run(&kind, &mut attempts).await
    }
}

/// The attempts of one call. One of them may renew the token.
struct ApiAttempts<'a> {
    inner: &'a Inner,
    request: &'a ApiRequest<'a>,
    credential: Option<Arc<Credential>>,
    renewed: bool,
}

#[async_trait]
impl Attempts for ApiAttempts<'_> {
    async fn request(&mut self, deadline: Instant) -> Result<Request<PayloadBody>, Failure> {
        let (inner, request) = (self.inner, self.request);
        let late = "timeout while getting an access token";
        let getting = async { Ok(inner.credentials.get().await) };
        let given = before(deadline, getting, late).await;
        let given =
            given.map_err(|late| request.error(ErrorKind::BadCredentials).with_source(late))?;
        self.credential = given.map_err(|error| no_token(request, error))?;
        let http_request = request.http_request(inner, self.credential.as_deref());
        Ok(http_request.map_err(|error| request.unexpected(error))?)
    }

    fn judge(&mut self, head: &Parts, body: &Bytes) -> Result<(), Failure> {
        if head.status.is_success() {
            return Ok(());
        }
        let request = self.request;
        let (error, retry) =
            response::classify(request.bucket, head, body, |kind| request.error(kind));
        let retry = match (error.kind(), self.credential.take()) {
            (ErrorKind::BadCredentials, Some(rejected)) if !self.renewed => {
                self.renewed = true;
                self.inner.credentials.invalidate(&rejected);
                Retry::Now
            }
            _ => retry,
        };
        Err(Failure { error, retry })
    }

    fn error(&self, kind: ErrorKind) -> Error {
        self.request.error(kind)
    }
}

pub(crate) fn no_token(request: &ApiRequest<'_>, error: TokenError) -> Failure {
    let retry = match error.is_transient {
        true => Retry::Later(None),
        false => Retry::No,
    };
    let kind = match error.is_transient && !error.is_absent {
        true => ErrorKind::Unavailable { retry_after: None },
        false => ErrorKind::BadCredentials,
    };
    let error = request.error(kind).with_message(error.message);
    Failure { error, retry }
}
