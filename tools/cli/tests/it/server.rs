//! A server in this process, on a port and a folder of its test.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{Html, IntoResponse as _, Response},
    routing::{get, post},
};
use http_body_util::BodyExt as _;
use landfall::{Config, Handler, store::file::FileStore};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};

/// A running server.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    address: SocketAddr,
    seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

/// Properties of the requests, and of the responses to come.
#[derive(Default)]
struct Seen {
    body_bytes: AtomicU64,
    /// A status other than 0 is the response to all requests.
    status: AtomicU16,
    requests: std::sync::Mutex<Vec<(Method, HeaderMap)>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(FileStore::new(folder.path()).unwrap());
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let seen = Arc::new(Seen::default());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let uploads = runtime.block_on(async { Handler::new(config).unwrap() });
        let app = Router::new()
            .merge(uploads.router())
            .route("/", get(|| async { page("./") }))
            .route("/up/", get(|| async { page("../") }))
            .route("/admin/", get(|| async { Html("the dashboard") }))
            .route("/metrics", get(|| async { "up 1" }))
            .route("/uploadjobs", post(grant))
            .layer(from_fn_with_state(seen.clone(), observe));
        runtime.spawn(async { axum::serve(listener, app).await });
        Self {
            folder,
            address,
            seen,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/files/", self.address)
    }

    /// Returns the bytes of an upload.
    pub(crate) fn bytes(&self, url: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(id(url))).unwrap()
    }

    /// Returns the metadata of an upload, as JSON.
    pub(crate) fn metadata(&self, url: &str) -> serde_json::Value {
        let path = self.folder.path().join(format!("{}.info", id(url)));
        let info: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        info["MetaData"].clone()
    }

    /// Returns the number of uploads in the folder.
    pub(crate) fn uploads(&self) -> usize {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".info")).count()
    }

    /// Returns the bytes of all request bodies that arrived.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.seen.body_bytes.load(Relaxed)
    }

    /// Returns the headers of the requests with this method.
    pub(crate) fn requests(&self, method: Method) -> Vec<HeaderMap> {
        let requests = self.seen.requests.lock().unwrap();
        let requests = requests.iter().filter(|(one, _)| *one == method);
        requests.map(|(_, headers)| headers.clone()).collect()
    }

    /// Sets the status of all responses from now on.
    pub(crate) fn respond_with(&self, status: u16) {
        self.seen.status.store(status, Relaxed);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// The upload page of a Landfall server; `root` leads to the endpoints.
fn page(root: &str) -> Html<String> {
    Html(format!(
        "<meta name=\"landfall-endpoint\" content=\"{root}files/\">\n\
         <meta name=\"landfall-grants\" content=\"{root}uploadjobs\">"
    ))
}

/// Grants the files whose names do not begin with "denied".
async fn grant(headers: HeaderMap, Json(job): Json<serde_json::Value>) -> Response {
    let name = job["filename"].as_str().unwrap();
    if headers.get("authorization").unwrap() != "Bearer lfk_right" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if name.starts_with("denied") {
        let problem = serde_json::json!({"detail": "this link accepts one file, and no more"});
        let json = [("content-type", "application/problem+json")];
        return (StatusCode::FORBIDDEN, json, problem.to_string()).into_response();
    }
    let token = format!("lft_{name}-{}", job["filesize"]);
    let grant = serde_json::json!({
        "request_id": job["id"], "upload_token": token, "location": "/", "filename": name, "state": "received",
    });
    (StatusCode::CREATED, Json(grant)).into_response()
}

fn id(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

async fn observe(State(seen): State<Arc<Seen>>, request: Request, next: Next) -> Response {
    if let Ok(status @ 400..) = StatusCode::from_u16(seen.status.load(Relaxed)).map(u16::from) {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let headers = (request.method().clone(), request.headers().clone());
    seen.requests.lock().unwrap().push(headers);
    let (head, body) = request.into_parts();
    let counter = seen.clone();
    let body = body.map_frame(move |frame| {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        counter.body_bytes.fetch_add(bytes, Relaxed);
        frame
    });
    next.run(Request::from_parts(head, Body::new(body))).await
}
