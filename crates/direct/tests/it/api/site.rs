//! A server with the routes of direct uploads, and clients that ask it.

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use axum::{extract::Request, middleware};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header, request::Parts};
use landfall::service::Peer;
use landfall_direct::{
    DirectSettings,
    api::{self, ApiSettings},
};
use landfall_grants::{
    GrantLimits, Principal, Queue, Token,
    auth::{ApiKeys, AuthError, AuthMethod, Authenticator, CsrfPolicy, FailedAttempts, KeySecret},
    queue::{GrantOutcome, NewJob, NewKey},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::uploads::site::{self as uploads, Service, send};

/// What the bucket's notifications are known by.
pub(crate) const SECRET: &str = "the-secret-of-notifications";

/// Knows callers by a cookie.
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
            .map(|who| {
                let mut caller = Principal::new(who);
                caller.by_cookie = true;
                caller
            }))
    }
}

/// A running server. It is asked by clients with keys: ann's and bob's.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) uploads: uploads::Site,
    pub(crate) ann: KeySecret,
    pub(crate) bob: KeySecret,
    url: String,
    server: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(Service::Garage, |_| {}, |_| {}).await
    }

    pub(crate) async fn with(
        service: Service,
        uploads: impl FnOnce(&mut DirectSettings),
        api: impl FnOnce(&mut ApiSettings),
    ) -> Self {
        let uploads = uploads::Site::with(service, uploads).await;
        let queue = &uploads.queue;
        let (ann, bob) = (key(queue, "ann").await, key(queue, "bob").await);
        let keys = Arc::new(ApiKeys::new(queue.clone()));
        let guard = CsrfPolicy::new().allow_origins(["https://app.example"]);
        let ways: Vec<Arc<dyn AuthMethod>> = vec![keys, Arc::new(Cookies)];
        let callers = Authenticator::new(ways, FailedAttempts::default(), guard.unwrap());
        let mut settings = ApiSettings::new(uploads.direct.clone(), callers);
        settings.events_secret = Some(SECRET.into());
        api(&mut settings);
        // As the server does it.
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

    /// A request of nobody yet.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Ask {
        Ask {
            method: method.parse().unwrap(),
            url: format!("{}{path}", self.url),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// A request of ann's.
    pub(crate) fn ann(&self, method: &str, path: &str) -> Ask {
        self.ask(method, path).key(&self.ann)
    }

    /// A request of bob's.
    pub(crate) fn bob(&self, method: &str, path: &str) -> Ask {
        self.ask(method, path).key(&self.bob)
    }

    /// What a grant of ann's is carried by.
    pub(crate) async fn grant(&self, change: impl FnOnce(&mut NewJob)) -> Token {
        let id = landfall::upload::UploadId::random();
        let mut new = NewJob::new("ann", id.as_str(), "holiday.mp4");
        change(&mut new);
        match self.uploads.queue.grant(new).await.unwrap() {
            GrantOutcome::Created(_, token) => token,
            other => panic!("{other:?}"),
        }
    }

    /// The row of ann's job with this id.
    pub(crate) async fn job(&self, request_id: &str) -> landfall_grants::Job {
        let job = self.uploads.queue.by_request("ann", request_id).await;
        job.unwrap().expect("there is such a job")
    }

    /// The bytes of an object.
    pub(crate) async fn object(&self, key: &str) -> Option<Bytes> {
        let place = landfall_s3::client::ObjectRef::new(&self.uploads.bucket, key);
        let (client, none) = (&self.uploads.client, HeaderMap::new());
        let url = client.presign(Method::GET, &place, &[], &none, uploads::LONG);
        let url = url.await.unwrap();
        let (status, _, body) = send(Method::GET, &url, &none, Bytes::new()).await;
        status.is_success().then_some(body)
    }
}

async fn key(queue: &Queue, subject: &str) -> KeySecret {
    let key = KeySecret::random();
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

/// A request to be sent.
#[derive(Debug)]
pub(crate) struct Ask {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask {
    /// The same, sent elsewhere.
    pub(crate) fn at(mut self, url: &str) -> Self {
        self.url = url.to_owned();
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn key(self, key: &KeySecret) -> Self {
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

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// `null` if it isn't JSON.
    pub(crate) json: Value,
}

impl Reply {
    /// Fails unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("cache-control").as_deref(), Some("no-store"));
        let sniffing = self.header("x-content-type-options");
        assert_eq!(sniffing.as_deref(), Some("nosniff"));
        self
    }

    /// Fails unless it is a refusal in Companion's words.
    #[track_caller]
    pub(crate) fn companion(self, status: u16, words: &str) -> Self {
        let reply = self.expect(status);
        let message = reply.text_of("message");
        assert!(message.contains(words), "{message:?} lacks {words:?}");
        assert_eq!(reply.json["error"], reply.json["message"]);
        reply
    }

    /// Fails unless it is a refusal in the seed's words.
    #[track_caller]
    pub(crate) fn seed(self, status: u16, field: Option<&str>, words: &str) -> Self {
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

    /// The names of the answer's fields, in their order.
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

/// As scripts encode what goes into a query or a path.
pub(crate) fn encoded(text: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Sends a whole file.
pub(crate) async fn put(url: &str, headers: &[(&'static str, &str)], body: &[u8]) -> Reply {
    let mut ask = Ask {
        method: Method::PUT,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body),
    };
    for (name, value) in headers {
        ask = ask.with(name, value);
    }
    ask.send().await
}

/// Sends a form as browsers do, with `file` in the end.
pub(crate) async fn post_form(url: &str, fields: &Value, file: &[u8]) -> Reply {
    const BOUNDARY: &str = "----landfall-test-71f09a";
    let mut body = String::new();
    for (name, value) in fields.as_object().unwrap() {
        let value = value.as_str().unwrap();
        body.push_str(&format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    body.push_str(&format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"blob\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    ));
    let mut body = body.into_bytes();
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let ask = Ask {
        method: Method::POST,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: body.into(),
    };
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    ask.with("content-type", &kind).send().await
}
