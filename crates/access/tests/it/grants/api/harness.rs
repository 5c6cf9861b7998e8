//! A server with the grant API and uploads, and a client.

use std::{
    collections::HashSet,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use axum::{Router, body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use landfall::{
    Composer, Config, Handler,
    service::{Forwarded, Peer},
    store::MemoryStore,
};
use landfall_access::auth::{
    ApiKeys, AuthError, AuthMethod, Authenticator, CsrfPolicy, FailedAttempts,
};
use landfall_access::grants::{
    api::{self, ApiSettings},
    enforce::{GrantHook, GrantHookSettings},
};
use landfall_state::queue::{Principal, Queue, QueueSettings, tracking::JobTracker};
use landfall_state::sql::{Clock, Database};
use landfall_test_services::Postgres;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// Nothing in these tests takes longer, unless it hangs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// Knows callers by the header `X-Who` (`root` is an admin, with limits from `X-Most`) or by a cookie.
#[derive(Debug, Default)]
pub(crate) struct People {
    /// Principals that are no longer known.
    pub(crate) gone: Mutex<HashSet<String>>,
    /// The error for all requests.
    pub(crate) denied: Mutex<Option<AuthError>>,
}

#[async_trait]
impl AuthMethod for People {
    async fn authenticate(
        &self,
        request: &Parts,
        _client: Option<IpAddr>,
    ) -> Result<Option<Principal>, AuthError> {
        if let Some(denied) = self.denied.lock().unwrap().clone() {
            return Err(denied);
        }
        let text = |name: &str| {
            let value = request.headers.get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let cookie = text("cookie").and_then(|cookie| Some(cookie.strip_prefix("who=")?.into()));
        let by_cookie = cookie.is_some();
        let Some(who) = text("x-who").or(cookie) else {
            return Ok(None);
        };
        if self.gone.lock().unwrap().contains(&who) {
            return Err(AuthError::Forbidden("gone".into()));
        }
        let mut principal = Principal::new(&*who);
        principal.by_cookie = by_cookie;
        principal.is_admin = who == "root";
        principal.limits.max_size = text("x-most").map(|most| most.parse().unwrap());
        Ok(Some(principal))
    }
}

/// Settings that a test may change before the server starts.
pub(crate) struct Plan {
    pub(crate) queue: QueueSettings,
    pub(crate) config: Config,
    pub(crate) api: Box<dyn FnOnce(&mut ApiSettings)>,
}

impl Plan {
    pub(crate) fn api(&mut self, change: impl FnOnce(&mut ApiSettings) + 'static) {
        self.api = Box::new(change);
    }
}

/// A running server.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) database: Database,
    pub(crate) queue: Queue,
    pub(crate) handler: Handler,
    pub(crate) people: Arc<People>,
    pub(crate) shutdown: watch::Sender<bool>,
    client: Client<HttpConnector, Full<Bytes>>,
    server: JoinHandle<()>,
    _dir: Option<TempDir>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Runs a test against a server on each database.
pub(crate) async fn everywhere(change: impl Fn(&mut Plan), test: impl AsyncFn(&Site)) {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Database::Sqlite(dir.path().join("queue.db"));
    run("sqlite", Site::start(sqlite, Some(dir), &change), &test).await;
    #[cfg(feature = "postgres")]
    {
        let postgres = Database::Postgres(Postgres::shared().database("api"));
        run("postgres", Site::start(postgres, None, &change), &test).await;
    }
}

async fn run(name: &str, site: impl Future<Output = Site>, test: &impl AsyncFn(&Site)) {
    // Shown when the test fails.
    println!("database: {name}");
    let site = site.await;
    tokio::time::timeout(TIMEOUT, test(&site))
        .await
        .expect("the test hangs");
    site.queue.close().await;
}

/// [`everywhere`] with the default settings.
pub(crate) async fn with_defaults(test: impl AsyncFn(&Site)) {
    everywhere(|_| {}, test).await;
}

impl Site {
    pub(crate) async fn start(
        database: Database,
        dir: Option<TempDir>,
        change: &impl Fn(&mut Plan),
    ) -> Self {
        let mut plan = Plan {
            queue: QueueSettings::new(database.clone()),
            config: Config::new(Composer::join(MemoryStore::new())),
            api: Box::new(|_| {}),
        };
        plan.config.forwarded = Forwarded::Trust;
        change(&mut plan);
        let queue = Queue::open(plan.queue).await.unwrap();
        let gate = GrantHookSettings::default();
        // Before the policies of a test, as in the server.
        let mut config = plan.config;
        let gate = Arc::new(GrantHook::new(queue.clone(), gate));
        config.hooks.insert(0, gate);
        config
            .sinks
            .insert(0, Arc::new(JobTracker::new(queue.clone())));
        let handler = Handler::new(config).unwrap();
        let people = Arc::new(People::default());
        let keys = Arc::new(ApiKeys::new(queue.clone()));
        let ways: Vec<Arc<dyn AuthMethod>> = vec![keys, people.clone()];
        let authenticator = Authenticator::new(ways, FailedAttempts::default(), CsrfPolicy::new());
        let (shutdown, is_shutdown) = watch::channel(false);
        let mut settings = ApiSettings::new(queue.clone(), authenticator, handler.clone());
        settings.shutdown = Some(is_shutdown);
        (plan.api)(&mut settings);
        let router = together(api::service(settings), handler.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            database,
            queue,
            handler,
            people,
            shutdown,
            client: Client::builder(TokioExecutor::new()).build_http(),
            server,
            _dir: dir,
        }
    }

    /// A request without credentials.
    pub(crate) fn ask(&self, method: &str, path: &str) -> RequestBuilder<'_> {
        RequestBuilder {
            site: self,
            method: method.into(),
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) async fn get(&self, who: &str, path: &str) -> HttpReply {
        self.ask("GET", path).by(who).send().await
    }

    pub(crate) async fn delete(&self, who: &str, id: &str) -> HttpReply {
        let path = format!("/uploadjobs/{id}");
        self.ask("DELETE", &path).by(who).send().await
    }

    pub(crate) async fn post(&self, who: &str, body: Value) -> HttpReply {
        self.ask("POST", "/uploadjobs")
            .by(who)
            .json(body)
            .send()
            .await
    }

    /// A grant, which there must be; its token.
    pub(crate) async fn grant(&self, who: &str, body: Value) -> String {
        let reply = self.post(who, body).await.expect(201);
        reply.json["upload_token"].as_str().unwrap().into()
    }

    /// The row of a job.
    pub(crate) async fn row(&self, who: &str, id: &str) -> Value {
        self.get(who, &format!("/uploadjobs/{id}"))
            .await
            .expect(200)
            .json
    }

    /// Waits for a state of a job.
    pub(crate) async fn until(&self, who: &str, id: &str, field: &str, value: Value) -> Value {
        loop {
            let row = self.row(who, id).await;
            if row[field] == value {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Creates an upload with a token; its path.
    pub(crate) async fn create(&self, token: &str, length: u64) -> String {
        let ask = self.ask("POST", "/files/").with("upload-token", token);
        let ask = ask.with("upload-length", &length.to_string());
        let reply = ask.send().await.expect(201);
        path_of(&reply.header("location").unwrap())
    }

    /// Sends bytes to an upload.
    pub(crate) async fn append(&self, path: &str, offset: u64, data: &str) -> HttpReply {
        self.ask("PATCH", path)
            .with("upload-offset", &offset.to_string())
            .with("content-type", "application/offset+octet-stream")
            .body(data.to_owned())
            .send()
            .await
    }
}

/// The path of a URL.
pub(crate) fn path_of(url: &str) -> String {
    let path = url.find("/files/").expect("a URL of an upload");
    url[path..].into()
}

/// The API and uploads on one address, as they are in the server.
fn together(api: Router, handler: Handler) -> Router {
    let uploads = move |request: Request| {
        let handler = handler.clone();
        async move { handler.handle(request).await.map(Body::new) }
    };
    Router::new()
        .route("/files/", axum::routing::any(uploads.clone()))
        .route("/files/{*id}", axum::routing::any(uploads))
        .fallback_service(api)
        .layer(axum::middleware::from_fn(
            async |mut request: Request, next: axum::middleware::Next| {
                let peer = Peer {
                    address: Some(([127, 0, 0, 1], 4711).into()),
                    tls: false,
                };
                request.extensions_mut().insert(peer);
                next.run(request).await
            },
        ))
}

/// A manual clock.
pub(crate) fn clock() -> (Clock, Arc<Mutex<SystemTime>>) {
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let shown = now.clone();
    (Clock::new(move || *shown.lock().unwrap()), now)
}

/// A request to be sent.
pub(crate) struct RequestBuilder<'a> {
    site: &'a Site,
    method: String,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl RequestBuilder<'_> {
    pub(crate) fn by(self, who: &str) -> Self {
        self.with("x-who", who)
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(mut self, body: Value) -> Self {
        let json = HeaderValue::from_static("application/json");
        self.headers.insert(header::CONTENT_TYPE, json);
        self.body(body.to_string())
    }

    /// The answer as it begins to come.
    pub(crate) async fn open(self) -> http::Response<hyper::body::Incoming> {
        let url = format!("http://{}{}", self.site.address, self.path);
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method.parse().unwrap();
        *request.uri_mut() = url.parse().unwrap();
        *request.headers_mut() = self.headers;
        if self.path.starts_with("/files") {
            let version = HeaderValue::from_static("1.0.0");
            request.headers_mut().insert("tus-resumable", version);
        }
        self.site.client.request(request).await.unwrap()
    }

    pub(crate) async fn send(self) -> HttpReply {
        let (parts, body) = self.open().await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.into()).unwrap();
        HttpReply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// `null` if it isn't JSON.
    pub(crate) json: Value,
}

impl HttpReply {
    /// Fails unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Asserts that these are problem details with this status and message.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, words: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(
            reply.header("content-type").unwrap(),
            "application/problem+json"
        );
        assert_eq!(reply.header("cache-control").unwrap(), "no-store");
        let problem = &reply.json;
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["title"].is_string());
        assert_eq!(problem["detail"], problem["message"]);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail:?} lacks {words:?}");
        reply
    }

    /// The fields that are wrong.
    pub(crate) fn wrong_fields(&self) -> Vec<&str> {
        let errors = self.json["errors"].as_object().unwrap();
        for why in errors.values() {
            assert!(why[0].is_string(), "{why}");
        }
        errors.keys().map(String::as_str).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }

    /// `Retry-After`.
    #[track_caller]
    pub(crate) fn wait(&self) -> u64 {
        self.header("retry-after")
            .expect("no Retry-After")
            .parse()
            .unwrap()
    }
}
