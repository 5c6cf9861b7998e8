//! A server with a small test service, and a client that sends exactly the given bytes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use landfall::service::{Peer, RequestBodyError};
use landfall_http::{
    Body, ClientCertificate, ConnectionLimits, HttpService, Listener, NetStats, Shutdown,
    interim_sender, serve,
};
pub(crate) use landfall_test_services::http1::{AsyncClient as Client, Message as Answer};
use landfall_test_services::until;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Longer than anything here takes; a hang fails instead of blocking.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) stats: Arc<NetStats>,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// With timers long enough not to matter, on a free port of 127.0.0.1.
    pub(crate) fn start(change: impl FnOnce(&mut ConnectionLimits)) -> Self {
        Self::with_grace(Duration::from_secs(5), change)
    }

    pub(crate) fn with_grace(grace: Duration, change: impl FnOnce(&mut ConnectionLimits)) -> Self {
        Self::on(Listener::tcp("127.0.0.1", 0).unwrap(), grace, change)
    }

    pub(crate) fn on(
        listener: Listener,
        grace: Duration,
        change: impl FnOnce(&mut ConnectionLimits),
    ) -> Self {
        Self::on_all(vec![listener], grace, change)
    }

    /// Its address is that of the first listener.
    pub(crate) fn on_all(
        listeners: Vec<Listener>,
        grace: Duration,
        change: impl FnOnce(&mut ConnectionLimits),
    ) -> Self {
        let mut limits = ConnectionLimits::default();
        // Brings the counts up to date four times a second.
        limits.linger_idle = Duration::from_secs(1);
        change(&mut limits);
        let address = listeners[0].local_addr().unwrap();
        let shutdown = Shutdown::new(grace).with_response_timeout(Duration::from_secs(2));
        let stats = Arc::new(NetStats::default());
        let task = tokio::spawn(serve(
            listeners,
            Probe,
            limits,
            shutdown.clone(),
            stats.clone(),
            async {},
        ));
        Self {
            address,
            shutdown,
            stats,
            task,
        }
    }

    pub(crate) async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// Waits until the service has been given so many requests.
    pub(crate) async fn until_requests(&self, count: u64) {
        until(async || self.stats.requests.load(Relaxed) >= count).await;
    }

    /// Ends the server and waits until every connection is closed.
    pub(crate) async fn stop(self) {
        self.shutdown.start();
        tokio::time::timeout(TIMEOUT, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

/// Lets the server read all sent bytes, and give its buffer back.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// The service under the edge. It answers by path:
///
/// * `/peer`: the two ends of the connection
/// * `/sink`: reads the body; returns its length, its trailers, and how it ended
/// * `/pattern`: slowly reads a body that must be the [`pattern`]; returns the length of the largest frame
/// * `/certificate`: answers with the name of the client's certificate
/// * `/refuse`: 413 without reading the body
/// * `/late/MS`: answers after so many milliseconds
/// * `/bytes/N`: a body of so many bytes
/// * `/counted/N`: the same, and [`KEPT`] has those that exist
/// * `/interim/MODE`: sends interim responses, see [`interim`]
/// * `/panic`: panics
/// * else: `hello`
#[derive(Clone)]
pub(crate) struct Probe;

impl HttpService for Probe {
    type Body = ProbeBody;
    type Future = Pin<Box<dyn Future<Output = Response<ProbeBody>> + Send>>;

    fn call(&self, request: Request<Body>) -> Self::Future {
        Box::pin(answer(request))
    }
}

async fn answer(request: Request<Body>) -> Response<ProbeBody> {
    let path = request.uri().path().to_owned();
    let number = |prefix| {
        path.strip_prefix(prefix)
            .map(|n: &str| n.parse::<u64>().unwrap())
    };
    if let Some(ms) = number("/late/") {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        return plain(StatusCode::OK, "late".into());
    }
    if let Some(n) = number("/bytes/") {
        return Response::new(ProbeBody {
            left: n,
            text: None,
            is_counted: false,
        });
    }
    if let Some(n) = number("/counted/") {
        return Response::new(ProbeBody {
            left: n,
            text: None,
            is_counted: true,
        });
    }
    if let Some(enough) = number("/until/") {
        let (mut body, mut total) = (request.into_body(), 0);
        while total < enough {
            let frame = body.frame().await.unwrap().unwrap();
            total += frame.into_data().unwrap().len() as u64;
        }
        return plain(StatusCode::OK, "enough".into());
    }
    if let Some(ms) = number("/impatient/") {
        let (mut body, mut total) = (request.into_body(), 0);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(ms);
        while let Ok(frame) = tokio::time::timeout_at(deadline, body.frame()).await {
            total += frame.unwrap().unwrap().into_data().unwrap().len();
        }
        return plain(StatusCode::OK, format!("{total} late"));
    }
    if let Some(mode) = path.strip_prefix("/interim/") {
        return interim(mode, request).await;
    }
    match path.as_str() {
        "/peer" => {
            let peer = request.extensions().get::<Peer>().unwrap();
            plain(StatusCode::OK, peer.text())
        }
        "/certificate" => {
            let certificate = request.extensions().get::<ClientCertificate>();
            plain(
                StatusCode::OK,
                format!("{:?}", certificate.map(ClientCertificate::name)),
            )
        }
        "/sink" => {
            let (status, text) = sink(request.into_body()).await;
            plain(status, text)
        }
        "/pattern" => plain(StatusCode::OK, check_pattern(request.into_body()).await),
        "/refuse" => plain(StatusCode::PAYLOAD_TOO_LARGE, "too much".into()),
        "/panic" => panic!("as asked"),
        _ => plain(StatusCode::OK, "hello".into()),
    }
}

/// How often [`interim`] has sent all of `flood`.
pub(crate) static FLOODS: AtomicU64 = AtomicU64::new(0);

/// Sends a 104 with `Location`, and others with growing `Upload-Offset`: `frames` after each frame of the body,
/// `ticks` from another task, `flood` many large ones before it reads the body. Returns the length of the
/// body and whether interim responses can be sent. Tries to send more after its response.
async fn interim(mode: &str, request: Request<Body>) -> Response<ProbeBody> {
    let sender = interim_sender(&request);
    let can_send = sender.is_some();
    let send = move |name: &'static str, value: String| {
        if let Some(sender) = &sender {
            let response = Response::builder().status(104).header(name, value);
            sender.send(response.body(()).unwrap());
        }
    };
    send("location", "/a".into());
    if mode == "flood" {
        for n in 1..=2_000 {
            send("upload-offset", format!("{n}{}", " x".repeat(4_000)));
            tokio::task::yield_now().await;
        }
        FLOODS.fetch_add(1, Relaxed);
    }
    let send = Arc::new(send);
    let ticking = (mode == "ticks").then(|| {
        let send = send.clone();
        tokio::spawn(async move {
            for n in 1.. {
                tokio::time::sleep(Duration::from_millis(20)).await;
                send("upload-offset", n.to_string());
            }
        })
    });
    let (mut body, mut total) = (request.into_body(), 0);
    while let Some(frame) = body.frame().await {
        total += frame.unwrap().into_data().unwrap().len();
        if mode == "frames" {
            send("upload-offset", total.to_string());
        }
    }
    if let Some(ticking) = ticking {
        ticking.abort();
    }
    tokio::spawn(async move {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            send("too-late", "1".into());
        }
    });
    plain(StatusCode::OK, format!("{total} {can_send}"))
}

async fn sink(mut body: Body) -> (StatusCode, String) {
    let (mut total, mut trailers) = (0, String::new());
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => total += data.len(),
            Ok(Err(other)) => trailers = format!(" {:?}", other.into_trailers().unwrap()),
            Err(error) => {
                let status = match error {
                    RequestBodyError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
                    RequestBodyError::Timeout | RequestBodyError::TooSlow => {
                        StatusCode::REQUEST_TIMEOUT
                    }
                    _ => StatusCode::BAD_REQUEST,
                };
                let name = format!("{error:?}");
                let name = name.split(['(', ' ']).next().unwrap();
                return (status, format!("{total} {name}"));
            }
        }
    }
    (StatusCode::OK, format!("{total} complete{trailers}"))
}

/// Bytes that show their position.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(8) as u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(length);
    bytes
}

async fn check_pattern(mut body: Body) -> String {
    let (mut received, mut largest) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        largest = largest.max(data.len());
        received.extend_from_slice(&data);
        // Meanwhile the client fills the socket's buffer.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(received == pattern(received.len()), "other bytes");
    format!("{} {largest}", received.len())
}

fn plain(status: StatusCode, text: String) -> Response<ProbeBody> {
    let body = ProbeBody {
        left: text.len() as u64,
        text: Some(text.into()),
        is_counted: false,
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// A text, or so many bytes made up as they are sent.
pub(crate) struct ProbeBody {
    left: u64,
    text: Option<Bytes>,
    is_counted: bool,
}

/// Bytes of counted frames that the server keeps, and the most that it has kept.
pub(crate) static KEPT: AtomicUsize = AtomicUsize::new(0);
pub(crate) static MOST_KEPT: AtomicUsize = AtomicUsize::new(0);

const COUNTED: usize = 32 * 1024;

struct CountedFrame([u8; COUNTED]);

impl CountedFrame {
    fn new() -> Self {
        let kept = KEPT.fetch_add(COUNTED, Relaxed) + COUNTED;
        MOST_KEPT.fetch_max(kept, Relaxed);
        Self([b'x'; COUNTED])
    }
}

impl AsRef<[u8]> for CountedFrame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for CountedFrame {
    fn drop(&mut self) {
        KEPT.fetch_sub(COUNTED, Relaxed);
    }
}

impl http_body::Body for ProbeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let data = match self.text.take() {
            Some(text) => text,
            None if self.is_counted => Bytes::from_owner(CountedFrame::new()),
            None => Bytes::from(vec![b'x'; self.left.min(65_536) as usize]),
        };
        self.left = self.left.saturating_sub(data.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}
