//! A server with the routes of direct uploads, and its clients.

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use axum::{extract::Request, middleware};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use landfall::service::Peer;
use landfall_access::auth::{
    ApiKeys, AuthError, AuthMethod, Authenticator, CsrfPolicy, FailedAttempts,
};
use landfall_direct::{
    DirectSettings,
    api::{self, ApiSettings},
};
use landfall_state::queue::{
    GrantLimits, GrantOutcome, NewJob, NewKey, Principal, Queue, Token, TokenHash,
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::uploads::harness::{self as uploads, Service, send};

/// The secret of bucket notifications.
pub(crate) const SECRET: &str = "the-secret-of-notifications";

/// Authenticates principals by a cookie.
#[derive(Debug)]
struct Cookies;

#[async_trait]
impl AuthMethod for Cookies {
    async fn authenticate(
        &self,
        request: &Parts,
        _client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError> {
        let cookie = request.headers.get(header::COOKIE);
        let cookie = cookie.and_then(|cookie| cookie.to_str().ok());
        Ok(cookie
            .and_then(|cookie| cookie.strip_prefix("who="))
            .map(|requester| {
                let mut caller = Principal::new(requester);
                caller.by_cookie = true;
                caller
            }))
    }
}

/// A running server, with API keys of ann and bob.
#[derive(Debug)]
pub(crate) struct Harness {
    pub(crate) uploads: uploads::Harness,
    pub(crate) ann: Token,
    pub(crate) bob: Token,
    url: String,
    server: JoinHandle<()>,
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::with(Service::Garage, |_| {}, |_| {}).await
    }

    /// Starts with a service that verifies signatures and honors conditions, like Amazon's.
    pub(crate) async fn strict() -> Self {
        Self::strict_with(|_| {}).await
    }

    pub(crate) async fn strict_with(change: impl FnOnce(&mut DirectSettings)) -> Self {
        let honors = |settings: &mut DirectSettings| {
            settings.objects.conditional_writes = true;
            change(settings);
        };
        Self::with(Service::Ceph, honors, |_| {}).await
    }

    pub(crate) async fn with(
        service: Service,
        uploads: impl FnOnce(&mut DirectSettings),
        api: impl FnOnce(&mut ApiSettings),
    ) -> Self {
        let uploads = uploads::Harness::with(service, uploads).await;
        let queue = &uploads.queue;
        let (ann, bob) = (key(queue, "ann").await, key(queue, "bob").await);
        let keys = Arc::new(ApiKeys::new(queue.clone()));
        let guard = CsrfPolicy::new().allow_origins(["https://app.example"]);
        let mode: Vec<Arc<dyn AuthMethod>> = vec![keys, Arc::new(Cookies)];
        let callers = Authenticator::new(mode, FailedAttempts::default(), guard.unwrap());
        let mut settings = ApiSettings::new(uploads.direct.clone(), callers);
        let secret = tokio::sync::watch::channel(TokenHash::from_secret(SECRET));
        settings.notifications_secret = Some(secret.1);
        api(&mut settings);
        // Like the server does.
        let peer = middleware::from_fn(async |mut request: Request, next: middleware::Next| {
            let address = Some(([127, 0, 0, 1], 4711).into());
            let peer = Peer {
                address,
                tls: false,
            };
            request.extensions_mut().insert(peer);
            next.run(request).await
        });
        let router = api::service(settings).layer(peer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            uploads,
            ann,
            bob,
            url,
            server,
        }
    }

    /// Creates a request without credentials.
    pub(crate) fn request(&self, method: &str, path: &str) -> TestRequest {
        TestRequest {
            method: method.parse().unwrap(),
            url: format!("{}{path}", self.url),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// Creates a request of ann.
    pub(crate) fn ann(&self, method: &str, path: &str) -> TestRequest {
        self.request(method, path).key(&self.ann)
    }

    /// Gets a path as ann.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ann("GET", path).send().await
    }

    /// Posts JSON to a path as ann.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.ann("POST", path).json(body).send().await
    }

    /// Deletes a path as ann.
    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.ann("DELETE", path).send().await
    }

    /// Creates a request of bob.
    pub(crate) fn bob(&self, method: &str, path: &str) -> TestRequest {
        self.request(method, path).key(&self.bob)
    }

    /// Creates a grant for ann.
    pub(crate) async fn grant(&self, change: impl FnOnce(&mut NewJob)) -> Token {
        let id = landfall::upload::UploadId::random();
        let mut new = NewJob::new("ann", id.as_str(), "holiday.mp4");
        change(&mut new);
        match self.uploads.queue.grant(new).await.unwrap() {
            GrantOutcome::Created(_, token) => token,
            other => panic!("{other:?}"),
        }
    }

    /// Returns ann's job with this request id.
    pub(crate) async fn job(&self, request_id: &str) -> landfall_state::queue::Job {
        let job = self.uploads.queue.by_request("ann", request_id).await;
        job.unwrap().expect("there is such a job")
    }

    /// Returns the `Content-Type` of an object.
    pub(crate) async fn type_of(&self, key: &str) -> String {
        let (_, headers, _) = self.download(key).await;
        headers[header::CONTENT_TYPE].to_str().unwrap().to_owned()
    }

    /// Downloads an object.
    pub(crate) async fn object(&self, key: &str) -> Option<Bytes> {
        let (status, _, body) = self.download(key).await;
        status.is_success().then_some(body)
    }

    async fn download(&self, key: &str) -> (StatusCode, HeaderMap, Bytes) {
        let object = landfall_s3::client::ObjectRef::new(&self.uploads.bucket, key);
        let (client, none) = (&self.uploads.client, HeaderMap::new());
        let url = client.presign(Method::GET, &object, &[], &none, uploads::LONG);
        send(Method::GET, &url.await.unwrap(), &none, Bytes::new()).await
    }
}

async fn key(queue: &Queue, subject: &str) -> Token {
    let key = Token::api_key();
    let new = NewKey {
        hash: key.hash(),
        name: subject.into(),
        subject: subject.into(),
        limits: GrantLimits::default(),
        is_admin: false,
        expires_at: None,
    };
    queue.add_key(new).await.unwrap();
    key
}

/// A request to send.
#[derive(Debug)]
pub(crate) struct TestRequest {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

impl TestRequest {
    /// Changes the URL.
    pub(crate) fn at(mut self, url: &str) -> Self {
        self.url = url.to_owned();
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn key(self, key: &Token) -> Self {
        self.with("authorization", &format!("Bearer {}", key.reveal()))
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.with("content-type", "application/json")
            .body(body.to_string())
    }

    pub(crate) async fn send(self) -> Reply {
        let (status, headers, body) = send(self.method, &self.url, &self.headers, self.body).await;
        let text = String::from_utf8(body.into()).unwrap();
        Reply {
            status: status.as_u16(),
            headers,
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// `null` if the body is not JSON.
    pub(crate) json: Value,
}

impl Reply {
    /// Panics unless the status matches.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("cache-control").as_deref(), Some("no-store"));
        let sniffing = self.header("x-content-type-options");
        assert_eq!(sniffing.as_deref(), Some("nosniff"));
        self
    }

    /// Panics unless it is an error in Companion's format.
    #[track_caller]
    pub(crate) fn companion(self, status: u16, words: &str) -> Self {
        let reply = self.expect(status);
        let message = reply.text_of("message");
        assert!(message.contains(words), "{message:?} lacks {words:?}");
        assert_eq!(reply.json["error"], reply.json["message"]);
        reply
    }

    /// Panics unless it is an error in the format of `/api`.
    #[track_caller]
    pub(crate) fn api_error(self, status: u16, field: Option<&str>, words: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.json["statusCode"], status);
        let phrase = http::StatusCode::from_u16(status).unwrap();
        assert_eq!(reply.json["error"], phrase.canonical_reason().unwrap());
        let message = reply.text_of("message");
        assert!(message.contains(words), "{message:?} lacks {words:?}");
        assert_eq!(reply.json["field"].as_str(), field, "{reply:?}");
        reply
    }

    #[track_caller]
    pub(crate) fn text_of(&self, name: &str) -> String {
        let text = self.json[name].as_str();
        text.unwrap_or_else(|| panic!("{name} of {self:?}"))
            .to_owned()
    }

    /// Returns the names of the response's fields, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.json.as_object().unwrap().keys().collect();
        names.sort();
        names.into_iter().map(String::as_str).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }
}

/// Encodes a text for a query or a path, like scripts do.
pub(crate) fn encoded(text: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Sends a file by a PUT.
pub(crate) async fn put(url: &str, headers: &[(&'static str, &str)], body: &[u8]) -> Reply {
    let mut request = TestRequest {
        method: Method::PUT,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body),
    };
    for (name, value) in headers {
        request = request.with(name, value);
    }
    request.send().await
}

/// Sends a form like browsers do, with `file` at the end.
pub(crate) async fn post_form(url: &str, fields: &Value, file: &[u8]) -> Reply {
    let fields = fields.as_object().unwrap().iter();
    let fields = fields.map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    let (kind, body) = landfall_test_services::http1::form(fields, file);
    let request = TestRequest {
        method: Method::POST,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: body.into(),
    };
    request.with("content-type", &kind).send().await
}
