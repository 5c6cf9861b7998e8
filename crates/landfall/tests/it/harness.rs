//! A server on a free port, and a client with full control of the bytes it sends.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use landfall::{
    BoxError, Composer, Config, Handler,
    hook::{Decision, Hook, HookPoints, RequestInfo},
    store::{
        MemoryStore,
        file::{FileOptions, FileStore},
    },
    upload::{Snapshot, UploadId},
};
use landfall_test_services::http1::AsyncClient;
use landfall_test_services::until;
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tower_service::Service as _;

/// The type of a body that goes into an upload.
pub(crate) const DATA: &str = "application/offset+octet-stream";
/// Nothing in these tests takes longer, unless it hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Answers questions about completion by a list, then always the same; counts them.
#[derive(Debug, Clone)]
pub(crate) struct AtEnd {
    answers: Arc<Mutex<Vec<Decision>>>,
    otherwise: Arc<Mutex<fn() -> Decision>>,
    asked: Arc<AtomicUsize>,
}

impl Default for AtEnd {
    fn default() -> Self {
        Self::always(Decision::allow)
    }
}

impl AtEnd {
    pub(crate) fn always(otherwise: fn() -> Decision) -> Self {
        Self {
            answers: Arc::default(),
            otherwise: Arc::new(Mutex::new(otherwise)),
            asked: Arc::default(),
        }
    }

    pub(crate) fn answering(answers: impl IntoIterator<Item = Decision>) -> Self {
        let this = Self::default();
        this.answers.lock().unwrap().extend(answers);
        this.answers.lock().unwrap().reverse();
        this
    }

    /// Answers so from now on.
    pub(crate) fn decide(&self, otherwise: fn() -> Decision) {
        *self.otherwise.lock().unwrap() = otherwise;
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Hook for AtEnd {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_finish(&self, _: &RequestInfo, _: &Snapshot) -> Result<Decision, BoxError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let next = self.answers.lock().unwrap().pop();
        Ok(next.unwrap_or_else(*self.otherwise.lock().unwrap()))
    }
}

/// A running server.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) handler: Handler,
    pub(crate) parts: Composer,
    /// True if requests are sent over HTTP/2, but for those that are [opened](TestRequest::open).
    pub(crate) uses_http2: bool,
    server: JoinHandle<()>,
    dir: Option<TempDir>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Runs a test against a server on each store.
pub(crate) async fn everywhere(change: impl Fn(&mut Config), test: impl AsyncFn(&Site)) {
    on_each_store(false, change, test).await;
}

/// [`everywhere`], over HTTP/1.1 and over HTTP/2 without negotiation.
pub(crate) async fn over_each_version(change: impl Fn(&mut Config), test: impl AsyncFn(&Site)) {
    for uses_http2 in [false, true] {
        on_each_store(uses_http2, &change, &test).await;
    }
}

async fn on_each_store(uses_http2: bool, change: impl Fn(&mut Config), test: impl AsyncFn(&Site)) {
    let memory = Composer::join(MemoryStore::new());
    let dir = tempfile::tempdir().unwrap();
    let files = Composer::join(FileStore::open(dir.path(), FileOptions::default()).unwrap());
    for (name, parts, dir) in [("memory", memory, None), ("files", files, Some(dir))] {
        // Shown when the test fails.
        println!("store: {name}, HTTP/2: {uses_http2}");
        let mut config = Config::new(parts);
        change(&mut config);
        let mut site = Site::start(config, dir).await;
        site.uses_http2 = uses_http2;
        tokio::time::timeout(TIMEOUT, test(&site))
            .await
            .expect("the test hangs");
    }
}

/// [`everywhere`] with the default configuration.
pub(crate) async fn with_defaults(test: impl AsyncFn(&Site)) {
    everywhere(|_| {}, test).await;
}

impl Site {
    /// A second server on the same parts, as after a restart.
    pub(crate) async fn sharing_store(other: &Self, change: impl Fn(&mut Config)) -> Self {
        let mut config = Config::new(other.parts.clone());
        change(&mut config);
        let mut site = Self::start(config, None).await;
        site.uses_http2 = other.uses_http2;
        site
    }

    pub(crate) async fn start(config: Config, dir: Option<TempDir>) -> Self {
        let parts = config.store.clone();
        let handler = Handler::new(config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, handler.clone()));
        Self {
            address,
            handler,
            parts,
            uses_http2: false,
            server,
            dir,
        }
    }

    /// The upload directory, where uploads are files.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_ref().map(TempDir::path)
    }

    /// A request with `Tus-Resumable`.
    pub(crate) fn request(&self, method: &str, path: &str) -> TestRequest {
        let headers = vec![
            ("Host".into(), self.address.to_string()),
            ("Tus-Resumable".into(), "1.0.0".into()),
        ];
        TestRequest {
            address: self.address,
            uses_http2: self.uses_http2,
            method: method.into(),
            path: path.into(),
            headers,
            body: Vec::new(),
            chunks: None,
        }
    }

    /// Creates an upload of `length` bytes; its path.
    pub(crate) async fn create(&self, length: u64) -> String {
        self.create_with(&[("Upload-Length", &length.to_string())])
            .await
    }

    pub(crate) async fn create_with(&self, headers: &[(&str, &str)]) -> String {
        self.post(headers).await.expect(201).location()
    }

    pub(crate) async fn post(&self, headers: &[(&str, &str)]) -> TestResponse {
        self.request("POST", "/files/")
            .with_all(headers)
            .send()
            .await
    }

    /// A partial upload that is complete.
    pub(crate) async fn partial(&self, data: &str) -> String {
        let length = data.len().to_string();
        let path = self
            .create_with(&[("Upload-Concat", "partial"), ("Upload-Length", &length)])
            .await;
        self.patch(&path, 0, data).await.expect(204);
        path
    }

    pub(crate) async fn patch(&self, path: &str, offset: u64, data: &str) -> TestResponse {
        self.patching(path, offset).body(data).send().await
    }

    /// A PATCH without its body.
    pub(crate) fn patching(&self, path: &str, offset: u64) -> TestRequest {
        self.request("PATCH", path)
            .with("Content-Type", DATA)
            .with("Upload-Offset", &offset.to_string())
    }

    /// An upload of 10 bytes, and a running PATCH that has sent and stored `hello`.
    pub(crate) async fn half_sent(&self) -> (String, Open) {
        let path = self.create(10).await;
        let mut open = self.open_patch(&path, 0, 10).await;
        open.write("hello").await;
        self.until_offset(&path, 5).await;
        (path, open)
    }

    /// A PATCH that is going to send `length` bytes.
    pub(crate) async fn open_patch(&self, path: &str, offset: u64, length: u64) -> Open {
        let ask = self.patching(path, offset);
        let ask = ask.with("Content-Length", &length.to_string());
        ask.open().await
    }

    pub(crate) async fn head(&self, path: &str) -> TestResponse {
        self.request("HEAD", path).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> TestResponse {
        self.request("DELETE", path).send().await
    }

    /// The offset that HEAD tells.
    pub(crate) async fn offset(&self, path: &str) -> u64 {
        self.head(path).await.expect(200).number("upload-offset")
    }

    /// Waits until HEAD tells this offset.
    pub(crate) async fn until_offset(&self, path: &str, offset: u64) {
        until(async || self.offset(path).await == offset).await;
    }

    /// Returns the body of GET.
    pub(crate) async fn bytes(&self, path: &str) -> String {
        self.request("GET", path).send().await.expect(200).body
    }

    /// Lists the files in the store's directory, without the locker's folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let Some(dir) = &self.dir else {
            return Vec::new();
        };
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".landfall")
            .collect()
    }

    /// Returns the number of uploads in the store.
    pub(crate) async fn uploads(&self) -> usize {
        let page = self
            .parts
            .enumerator()
            .unwrap()
            .page(None, 1000)
            .await
            .unwrap();
        page.uploads.len()
    }
}

/// The id in a path.
pub(crate) fn id(path: &str) -> UploadId {
    UploadId::new(path.strip_prefix("/files/").unwrap()).unwrap()
}

async fn serve(listener: TcpListener, handler: Handler) {
    // Aborting the server drops the set, and that ends its connections.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let handler = handler.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: http::Request<_>| {
                let mut handler = handler.clone();
                async move {
                    // A route of the application.
                    if request.uri().path().starts_with("/photos/") {
                        return Ok(handler.handle_at(None, request).await);
                    }
                    handler.call(request).await
                }
            });
            // An error here is a disconnected client, which some tests intend.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct TestRequest {
    address: SocketAddr,
    uses_http2: bool,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The data and the trailers of a body without a length.
    chunks: Option<(Vec<String>, HeaderMap)>,
}

impl TestRequest {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn with_all(self, headers: &[(&str, &str)]) -> Self {
        headers
            .iter()
            .fold(self, |ask, (name, value)| ask.with(name, value))
    }

    /// Leaves out a header, in any case.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// A body with `Content-Length`.
    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self.with("Content-Length", &body.len().to_string())
    }

    /// A chunked body with a trailer section.
    pub(crate) fn chunked(self, chunks: &[&str], trailers: &[(&str, &str)]) -> Self {
        let mut ask = self.with("Transfer-Encoding", "chunked");
        for chunk in chunks {
            ask.body
                .extend(format!("{:x}\r\n{chunk}\r\n", chunk.len()).bytes());
        }
        ask.body.extend(b"0\r\n");
        for (name, value) in trailers {
            ask.body.extend(format!("{name}: {value}\r\n").bytes());
        }
        ask.body.extend(b"\r\n");
        let field = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        };
        let chunks = chunks.iter().map(ToString::to_string).collect();
        ask.chunks = Some((chunks, trailers.iter().map(field).collect()));
        ask
    }

    pub(crate) async fn send(self) -> TestResponse {
        if self.uses_http2 {
            return self.send_over_http2().await;
        }
        let body = self.body.clone();
        let mut open = self.open().await;
        // A server that has answered already need not read the rest.
        let _ = open.client.stream.write_all(&body).await;
        open.reply().await
    }

    async fn send_over_http2(self) -> TestResponse {
        let stream = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let uri = format!("http://{}{}", self.address, self.path);
        let mut request = http::Request::builder().method(&*self.method).uri(uri);
        for (name, value) in &self.headers {
            // Fields of the connection.
            if !matches!(&*name.to_ascii_lowercase(), "host" | "transfer-encoding") {
                request = request.header(name, value);
            }
        }
        let body = match self.chunks {
            Some((chunks, trailers)) => {
                let chunks = chunks
                    .into_iter()
                    .map(|chunk| Frame::data(Bytes::from(chunk)));
                let trailers = (!trailers.is_empty()).then(|| Frame::trailers(trailers));
                let frames = chunks.chain(trailers).map(Ok::<_, Infallible>);
                StreamBody::new(futures_util::stream::iter(frames)).boxed()
            }
            None => Full::new(Bytes::from(self.body)).boxed(),
        };
        let response = sender
            .send_request(request.body(body).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        connection.abort();
        TestResponse {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
            continued: false,
        }
    }

    /// Sends the head alone, over HTTP/1.1.
    pub(crate) async fn open(self) -> Open {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Open {
            client: AsyncClient::new(stream),
            method: self.method,
        }
    }
}

/// A request whose head has been sent.
pub(crate) struct Open {
    pub(crate) client: AsyncClient<TcpStream>,
    method: String,
}

impl Open {
    pub(crate) async fn write(&mut self, data: &str) {
        self.client.send(data).await;
    }

    /// The final answer.
    pub(crate) async fn reply(&mut self) -> TestResponse {
        let mut continued = false;
        loop {
            let message = self.client.answer_to(&self.method).await;
            let message = message.expect("the connection ended without an answer");
            if message.status == 100 {
                continued = true;
                continue;
            }
            let mut headers = HeaderMap::new();
            for (name, value) in &message.headers {
                headers.append::<HeaderName>(name.parse().unwrap(), value.parse().unwrap());
            }
            return TestResponse {
                status: message.status,
                headers,
                body: message.text(),
                continued,
            };
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// Whether `100 Continue` was received first.
    pub(crate) continued: bool,
}

impl TestResponse {
    /// Fails unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless the body begins with this code, as that of a refusal does.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let reply = self.expect(status);
        assert!(reply.body.starts_with(&format!("{code}: ")), "{reply:?}");
        assert!(reply.body.ends_with('\n'), "{reply:?}");
        reply
    }

    /// Every value of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        assert!(
            self.headers.get_all(name).iter().count() <= 1,
            "{name} twice in {self:?}"
        );
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        let value = self
            .header(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value.parse().unwrap()
    }

    /// The path of `Location`.
    #[track_caller]
    pub(crate) fn location(&self) -> String {
        let location = self.header("location").expect("no Location");
        let path = location.find("/files/").expect("a Location elsewhere");
        location[path..].into()
    }
}
