//! Connections to a complete server, over HTTP/1.1 with pipelining and over HTTP/2.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Shutdown as Half,
    os::unix::net::UnixStream,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use http::{Request, Response};
use landfall::{
    BoxError, Composer, Config, Handler,
    hook::{CreateDecision, Hook, HookPoints, RequestInfo},
    service::ResponseBody,
    store::{Enumerate as _, MemoryStore, Read as _},
    upload::{Upload, UploadId},
};
use landfall_http::{Body, ConnectionLimits, HttpService, Listener, NetStats, Shutdown, serve};

/// The maximum time of an input, which has a few kilobytes.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The maximum size of all responses to an input.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// A server with a new handler for each input.
struct Server {
    socket: PathBuf,
    handler: Arc<Mutex<Handler>>,
}

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

impl Server {
    fn start() -> Self {
        let name = format!("landfall-fuzz-{}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let handler = Arc::new(Mutex::new(handler(MemoryStore::new())));
        let (path, current) = (socket.clone(), Current(handler.clone()));
        let (listening, listens) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                let listener = Listener::unix(path).expect("a socket");
                listening.send(()).expect("the receiver exists");
                let mut limits = ConnectionLimits::default();
                limits.http2 = true;
                limits.max_head = 4096;
                limits.max_streams = 16;
                let stats = Arc::new(NetStats::default());
                let shutdown = Shutdown::new(Duration::ZERO);
                serve(vec![listener], current, limits, shutdown, stats, async {}).await
            })
        });
        listens.recv().expect("the server starts");
        Self { socket, handler }
    }

    /// Sends bytes in chunks of this length, and returns everything received until the connection closes.
    fn send(&self, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut stream = UnixStream::connect(&self.socket).expect("a connection");
        stream
            .set_read_timeout(Some(TIMEOUT))
            .expect("a time limit");
        stream
            .set_write_timeout(Some(TIMEOUT))
            .expect("a time limit");
        for piece in bytes.chunks(piece.max(1)) {
            // The server may have closed the connection.
            if stream.write_all(piece).is_err() {
                break;
            }
        }
        drop(stream.shutdown(Half::Write));
        let mut answered = Vec::new();
        match stream
            .take(MAX_RESPONSE_BYTES as u64)
            .read_to_end(&mut answered)
        {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the server hangs"),
            _ => {}
        }
        assert!(
            answered.len() < MAX_RESPONSE_BYTES,
            "{} bytes were answered with more",
            bytes.len()
        );
        answered
    }
}

/// The current handler.
#[derive(Clone)]
struct Current(Arc<Mutex<Handler>>);

impl HttpService for Current {
    type Body = ResponseBody;
    type Future = Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>;

    fn call(&self, request: Request<Body>) -> Self::Future {
        let handler = self.0.lock().expect("no panic").clone();
        Box::pin(async move { handler.handle(request).await })
    }
}

/// Generates the upload ids `0`, `1` and so on, which inputs can contain.
#[derive(Debug, Default)]
struct Numbers(AtomicU64);

#[async_trait]
impl Hook for Numbers {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(&self, _: &RequestInfo, _: &Upload) -> Result<CreateDecision, BoxError> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(CreateDecision::allow().id(UploadId::new(&number.to_string())?))
    }
}

fn handler(store: MemoryStore) -> Handler {
    let mut config = Config::new(Composer::join(store)).hook(Numbers::default());
    config.limits.max_size = Some(1 << 20);
    config.lease_wait = Duration::from_secs(1);
    Handler::new(config).expect("a valid configuration")
}

/// The first byte is the size of the writes; the rest are pipelined requests, of which the last may be
/// truncated.
///
/// The connection closes when the client closes it, responses are valid HTTP, stored offsets are
/// consistent, and the next client is served.
pub fn pipeline(data: &[u8]) {
    let [piece, requests @ ..] = data else {
        return;
    };
    let answered = after(requests, usize::from(*piece));
    assert!(
        answered.is_empty() || answered.starts_with(b"HTTP/1.") || requests.starts_with(b"PRI"),
        "{:?}",
        String::from_utf8_lossy(&answered)
    );
}

/// The first byte is the size of the writes; then follow frames: kind, flags, stream, length and payload.
///
/// The server sends frames of at most the negotiated size, and a bounded number of them; otherwise as
/// [`pipeline`].
pub fn http2(data: &[u8]) {
    let [piece, rest @ ..] = data else {
        return;
    };
    let mut rest = rest;
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    while let [kind, flags, stream, length, after @ ..] = rest {
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        sent.extend_from_slice(&[0, 0, payload.len() as u8, *kind, *flags, 0, 0, 0, *stream]);
        sent.extend_from_slice(payload);
        rest = after;
    }
    let answered = after(&sent, usize::from(*piece));
    let mut rest = &answered[..];
    let mut first = true;
    while let [a, b, c, kind, after @ ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        assert!(length <= 16384, "a frame of {length} bytes");
        assert!(
            !first || *kind == 4 || *kind == 7,
            "it begins with a frame of kind {kind}"
        );
        first = false;
        // The last one may be truncated.
        rest = after.get(5 + length..).unwrap_or_default();
    }
}

/// Returns the response to some bytes, and checks that the server still works.
fn after(sent: &[u8], piece: usize) -> Vec<u8> {
    let store = MemoryStore::new();
    *SERVER.handler.lock().expect("no panic") = handler(store.clone());
    // Limits the number of chunks.
    let answered = SERVER.send(sent, piece.max(sent.len() / 64));
    let options = b"OPTIONS /files/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let next = SERVER.send(options, options.len());
    assert!(
        next.starts_with(b"HTTP/1.1 200"),
        "{:?}",
        String::from_utf8_lossy(&next)
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(adds_up(&store));
    answered
}

async fn adds_up(store: &MemoryStore) {
    let page = store.page(None, 1000).await.expect("a page");
    for snapshot in page.uploads {
        let (upload, offset) = (&snapshot.upload, snapshot.offset);
        assert!(upload.length.is_none_or(|length| offset <= length));
        assert!(offset <= 1 << 20);
        let mut bytes = store.read(upload, 0..offset).await.expect("its bytes");
        let mut read = 0;
        while let Some(piece) = bytes.next().await {
            read += piece.expect("a piece").len() as u64;
        }
        assert_eq!(read, offset);
    }
}
