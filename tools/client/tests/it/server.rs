//! A server in this process, whose requests a test can reject.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use landfall::{Config, Handler, store::MemoryStore};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// Returns a response in place of that of the server.
type Gate = dyn Fn(&Request<Incoming>) -> Option<Response<&'static str>> + Send + Sync;

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) headers: HeaderMap,
    pub(crate) version: http::Version,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, |_| None).await
    }

    pub(crate) async fn with(
        change: impl FnOnce(&mut Config),
        gate: impl Fn(&Request<Incoming>) -> Option<Response<&'static str>> + Send + Sync + 'static,
    ) -> Self {
        let mut config = Config::new(MemoryStore::new());
        change(&mut config);
        let handler = Handler::new(config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, handler, Arc::new(gate), seen.clone()));
        Self {
            address,
            seen,
            task,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/files/", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Returns the number of requests of a method.
    pub(crate) fn count(&self, method: &str) -> usize {
        let seen = self.seen.lock();
        seen.iter().filter(|seen| seen.method == method).count()
    }

    /// Returns the bytes of an upload, fetched without the proxy.
    pub(crate) async fn bytes(&self, url: &url::Url) -> Bytes {
        let response = self.request("GET", url, "").await;
        assert!(response.starts_with(b"HTTP/1.0 200"));
        let end = response.windows(4).position(|four| four == b"\r\n\r\n");
        Bytes::from(response).slice(end.unwrap() + 4..)
    }

    /// Returns the offset of an upload, also of one that is receiving bytes.
    pub(crate) async fn offset(&self, url: &url::Url) -> u64 {
        let response = self.request("HEAD", url, "Tus-Resumable: 1.0.0\r\n").await;
        let head = String::from_utf8(response).unwrap().to_lowercase();
        let offset = head
            .lines()
            .find_map(|line| line.strip_prefix("upload-offset: "));
        offset.expect("an offset").parse().unwrap()
    }

    pub(crate) async fn remove(&self, url: &url::Url) {
        assert!(
            self.request("DELETE", url, "Tus-Resumable: 1.0.0\r\n")
                .await
                .starts_with(b"HTTP/1.0 204")
        );
    }

    async fn request(&self, method: &str, url: &url::Url, fields: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let path = url.path();
        let head = format!("{method} {path} HTTP/1.0\r\nHost: test\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        response
    }
}

async fn serve(
    listener: TcpListener,
    handler: Handler,
    gate: Arc<Gate>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    // Aborting the server drops the set, and that ends its connections.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (handler, gate, seen) = (handler.clone(), gate.clone(), seen.clone());
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                seen.lock().push(Seen {
                    method: request.method().to_string(),
                    headers: request.headers().clone(),
                    version: request.version(),
                });
                let rejected = gate(&request);
                let handler = handler.clone();
                async move {
                    let response: Response<Body> = match rejected {
                        Some(response) => response.map(|text| {
                            Full::from(text)
                                .map_err(|never| match never {})
                                .boxed_unsync()
                        }),
                        None => handler
                            .handle(request)
                            .await
                            .map(|body| body.map_err(Into::into).boxed_unsync()),
                    };
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            // An error here is a lost connection, which most tests intend.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Returns a response.
pub(crate) fn response(status: u16, headers: &[(&str, &str)]) -> Response<&'static str> {
    let builder = headers.iter().fold(
        Response::builder().status(status),
        |builder, (name, value)| builder.header(*name, *value),
    );
    builder.body("").unwrap()
}

/// Returns true for the first `count` calls.
pub(crate) fn first(count: usize) -> impl Fn() -> bool + Send + Sync {
    let calls = AtomicUsize::new(0);
    move || calls.fetch_add(1, Relaxed) < count
}
