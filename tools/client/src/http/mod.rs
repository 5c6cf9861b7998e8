//! Sends requests: headers, authentication, redirects, timeouts.

mod body;
mod response;
mod tls;

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use rustls::InvalidMessage;
use tokio::sync::Mutex;
use url::{Origin, Url};

pub(crate) use self::{
    body::{ContentBody, ContentTrailer, checksum},
    response::{Response, number},
    tls::tls_config,
};
use crate::{BoxError, Control, Error, progress::Meter};

const MAX_REDIRECTS: usize = 5;

pub(crate) type AuthenticationCallback = Arc<
    dyn Fn(Option<HeaderValue>) -> BoxFuture<'static, Result<HeaderValue, BoxError>> + Send + Sync,
>;

/// The credentials of a client.
pub(crate) struct Authentication {
    pub(crate) callback: AuthenticationCallback,
    current: Mutex<Option<HeaderValue>>,
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authentication")
    }
}

impl Authentication {
    pub(crate) fn new(callback: AuthenticationCallback) -> Self {
        Self {
            callback,
            current: Mutex::new(None),
        }
    }

    /// Returns the value of `Authorization`, a new one if the current one was rejected.
    async fn authorization(&self, rejected: Option<&HeaderValue>) -> Result<HeaderValue, Error> {
        let mut current = self.current.lock().await;
        if let Some(value) = current.as_ref().filter(|value| Some(*value) != rejected) {
            return Ok(value.clone());
        }
        let value = (self.callback)(rejected.cloned()).await;
        let mut value = value.map_err(Error::Authentication)?;
        value.set_sensitive(true);
        *current = Some(value.clone());
        Ok(value)
    }
}

/// A request, without its body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
        }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name, value.into());
        self
    }
}

/// The state that the requests of one transfer share.
#[derive(Debug)]
pub(crate) struct Session {
    http: reqwest::Client,
    idle_timeout: Duration,
    authentication: Option<Arc<Authentication>>,
    /// Sent to `origin` alone, with the credentials.
    headers: HeaderMap,
    origin: Origin,
    pub(crate) control: Control,
    pub(crate) meter: Arc<Meter>,
    requests: AtomicU64,
}

impl Session {
    pub(crate) fn new(
        http: reqwest::Client,
        idle_timeout: Duration,
        authentication: Option<Arc<Authentication>>,
        headers: HeaderMap,
        endpoint: &Url,
        control: Control,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            http,
            idle_timeout,
            authentication,
            headers,
            origin: endpoint.origin(),
            control,
            meter,
            requests: AtomicU64::new(0),
        }
    }

    /// Returns the number of requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// As [`Self::send_with`].
    pub(crate) async fn send(&self, request: Request) -> Result<Response, Error> {
        self.send_with(request, || None).await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`Self::send_with`], and the error of a response that is no success.
    pub(crate) async fn send_json(
        &self,
        method: Method,
        url: Url,
        value: &impl serde::Serialize,
    ) -> Result<Response, Error> {
        let text = serde_json::to_vec(value)
            .map_err(|error| Error::Configuration(format!("invalid JSON: {error}")))?;
        let request = Request::new(method, url).with(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let body = || Some(ContentBody::from_bytes(text.clone()));
        self.send_with(request, body).await?.successful().await
    }

    /// Sends a request. `body` makes its body, again for each redirect and after new credentials.
    ///
    /// # Errors
    /// [`Error::Connection`], or errors of the source and the authentication callback. Responses of any status
    /// are no error.
    pub(crate) async fn send_with(
        &self,
        mut request: Request,
        body: impl Fn() -> Option<ContentBody>,
    ) -> Result<Response, Error> {
        let mut rejected = None;
        for _ in 0..=MAX_REDIRECTS {
            let is_same_origin = request.url.origin() == self.origin;
            let mut authorization = None;
            if let Some(authentication) = self.authentication.as_ref().filter(|_| is_same_origin) {
                let value = authentication.authorization(rejected.as_ref()).await?;
                authorization = Some(value);
            }
            let response = self
                .send_once(&request, is_same_origin, authorization.clone(), body())
                .await?;
            if response.status == StatusCode::UNAUTHORIZED
                && authorization.is_some()
                && rejected.is_none()
            {
                rejected = authorization;
                continue;
            }
            match redirect(&request.method, &response) {
                Some(url) => request.url = url,
                None => return Ok(response),
            }
        }
        Err(Error::Protocol(format!(
            "more than {MAX_REDIRECTS} redirects, the last to {}",
            request.url
        )))
    }

    async fn send_once(
        &self,
        request: &Request,
        is_same_origin: bool,
        authorization: Option<HeaderValue>,
        body: Option<ContentBody>,
    ) -> Result<Response, Error> {
        let mut message = reqwest::Request::new(request.method.clone(), request.url.clone());
        let headers = message.headers_mut();
        headers.extend(request.headers.clone());
        if is_same_origin {
            headers.extend(self.headers.clone());
        }
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value);
        }
        let watched = body.as_ref().map(|body| (body.bytes(), body.failure()));
        match body {
            Some(body) => *message.body_mut() = Some(reqwest::Body::wrap(body)),
            None if matches!(request.method, Method::POST | Method::PATCH | Method::PUT) => {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            None => {}
        }
        self.requests.fetch_add(1, Relaxed);
        let mut response = Box::pin(self.http.execute(message));
        let mut seen = 0;
        loop {
            let ended = tokio::time::timeout(self.idle_timeout, &mut response).await;
            let sent = watched.as_ref().map_or(0, |(bytes, _)| bytes.count());
            match ended {
                Ok(Ok(response)) => return Ok(Response::new(response, self.idle_timeout)),
                Ok(Err(error)) => {
                    let failure = watched.and_then(|(_, failure)| failure.lock().take());
                    return Err(failure.unwrap_or_else(|| connection_error(error)));
                }
                Err(_) if sent > seen => seen = sent,
                Err(_) => return Err(timeout_error(self.idle_timeout)),
            }
        }
    }
}

pub(crate) fn timeout_error(timeout: Duration) -> Error {
    Error::Connection(format!("no data for {} seconds", timeout.as_secs_f32()).into())
}

/// Returns the whole chain of causes in one line: the innermost has the reason.
pub(crate) fn connection_error(error: reqwest::Error) -> Error {
    let first: &(dyn std::error::Error + 'static) = &error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    match chain.clone().find_map(tls_error) {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            return Error::Certificate(reason.to_string());
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            let reason = "it does not use TLS on this port; write http:// instead of https://";
            return Error::Protocol(reason.into());
        }
        _ => {}
    }
    let mut causes: Vec<String> = chain.map(ToString::to_string).collect();
    causes.dedup();
    Error::Connection(causes.join(": ").into())
}

fn tls_error<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    // I/O errors contain that of TLS, several deep, and do not name it as their source.
    while let Some(inner) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        error = inner;
    }
    error.downcast_ref()
}

/// Returns where a request continues. Only requests that change nothing follow a redirect that may change the method.
fn redirect(method: &Method, response: &Response) -> Option<Url> {
    let follows = match response.status.as_u16() {
        307 | 308 => true,
        301..=303 => matches!(*method, Method::GET | Method::HEAD),
        _ => false,
    };
    follows.then(|| response.location().ok()).flatten()
}
