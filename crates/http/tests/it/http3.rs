//! HTTP/3, with the client of h3, and with bytes on the streams of QUIC.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3::error::Code;
use h3_quinn::{BidiStream, OpenStreams};
use http::{HeaderMap, Method, Request, StatusCode};
use landfall_http::{ClientAuth, ConnectionLimits, Listener, Tls, TlsConfig, TlsFiles, TlsMode};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use rustls::version::TLS13;
use tokio::time::timeout;

use crate::harness::{Server, TIMEOUT, get, pattern};
use crate::tls::{Authority, connect as connect_tls, load};

type Sender = SendRequest<OpenStreams, Bytes>;
type Exchange = RequestStream<BidiStream<Bytes>, Bytes>;

pub(crate) struct Http3Server {
    pub(crate) server: Server,
    pub(crate) authority: Authority,
    tls: Tls,
}

impl Http3Server {
    pub(crate) fn start(change: impl FnOnce(&mut ConnectionLimits)) -> Self {
        Self::with_grace(Duration::from_secs(5), change)
    }

    fn with_grace(grace: Duration, change: impl FnOnce(&mut ConnectionLimits)) -> Self {
        let authority = Authority::new();
        let files = authority.files(&["a.example"]);
        Self::with_files(authority, files, grace, change)
    }

    pub(crate) fn with_files(
        authority: Authority,
        files: TlsFiles,
        grace: Duration,
        change: impl FnOnce(&mut ConnectionLimits),
    ) -> Self {
        let tls = load(files);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::http3(any, tls.clone()).unwrap();
        Self {
            server: Server::on(listener, grace, change),
            authority,
            tls,
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        endpoint(self.client_config())
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut tls = self.authority.client(&[&TLS13]);
        tls.alpn_protocols = vec![b"h3".to_vec()];
        quic_config(tls)
    }

    pub(crate) async fn quic(&self) -> quinn::Connection {
        let endpoint = self.endpoint();
        let connecting = endpoint.connect(self.server.address, "a.example").unwrap();
        connecting.await.unwrap()
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::new(self.quic().await).await
    }
}

pub(crate) fn quic_config(tls: rustls::ClientConfig) -> ClientConfig {
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

pub(crate) fn endpoint(config: ClientConfig) -> Endpoint {
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

pub(crate) struct Client {
    sender: Sender,
    pub(crate) quic: quinn::Connection,
}

impl Client {
    pub(crate) async fn new(quic: quinn::Connection) -> Self {
        let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(quic.clone()))
            .await
            .unwrap();
        tokio::spawn(async move { driver.wait_idle().await });
        Self { sender, quic }
    }

    pub(crate) async fn begin(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Exchange {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://a.example{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let sent = self.sender.send_request(request.body(()).unwrap());
        timeout(TIMEOUT, sent).await.unwrap().unwrap()
    }

    async fn ask(&mut self, method: Method, path: &str, body: &[u8]) -> Answer {
        let mut exchange = self.begin(method, path, &[]).await;
        if !body.is_empty() {
            let data = Bytes::copy_from_slice(body);
            exchange.send_data(data).await.unwrap();
        }
        exchange.finish().await.unwrap();
        answer(&mut exchange).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, b"").await
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The next response, which may be an interim one without a body.
async fn head(exchange: &mut Exchange) -> http::Response<()> {
    timeout(TIMEOUT, exchange.recv_response())
        .await
        .expect("no response came")
        .unwrap()
}

pub(crate) async fn answer(exchange: &mut Exchange) -> Answer {
    let (parts, ()) = head(exchange).await.into_parts();
    let mut body = Vec::new();
    while let Some(mut data) = timeout(TIMEOUT, exchange.recv_data())
        .await
        .unwrap()
        .unwrap()
    {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

#[tokio::test]
async fn requests_and_bodies_pass() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    let hello = client.get("/").await;
    assert_eq!((hello.status, hello.text()), (StatusCode::OK, "hello"));
    assert_eq!(hello.headers["content-length"], "5");
    let body = pattern(700_001);
    for size in [1, 5_000, body.len()] {
        let answer = client.ask(Method::PUT, "/pattern", &body[..size]).await;
        assert!(answer.text().starts_with(&format!("{size} ")), "{answer:?}");
    }
    let answer = client.ask(Method::PUT, "/sink", &vec![1; 20_000_000]).await;
    assert_eq!(answer.text(), "20000000 complete");
    assert_eq!(client.get("/bytes/3000000").await.body.len(), 3_000_000);
    let head = client.ask(Method::HEAD, "/bytes/3000000", b"").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    let peer = client.get("/peer").await;
    assert!(peer.text().starts_with("127.0.0.1:"), "{peer:?}");
    let stats = &http3.server.stats;
    assert_eq!(stats.tls_handshakes.load(Relaxed), 1);
    assert!(stats.bytes_in.load(Relaxed) > 20_000_000);
    assert!(stats.bytes_out.load(Relaxed) > 3_000_000);
    drop(client);
    http3.server.stop().await;
}

#[tokio::test]
async fn trailers_arrive() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    let mut exchange = client.begin(Method::PUT, "/sink", &[]).await;
    exchange.send_data("hello".into()).await.unwrap();
    let trailers = [("x-sum".parse().unwrap(), "1".parse().unwrap())];
    exchange
        .send_trailers(trailers.into_iter().collect())
        .await
        .unwrap();
    exchange.finish().await.unwrap();
    assert_eq!(
        answer(&mut exchange).await.text(),
        "5 complete {\"x-sum\": \"1\"}"
    );
    drop(client);
    http3.server.stop().await;
}

/// RFC 9114 section 4.1.2, which h3 leaves to its users.
#[tokio::test]
async fn content_agrees_with_its_length() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    for (length, sent, expected) in [
        ("5", "hello", "5 complete"),
        ("6", "hello", "5 UnexpectedEnd"),
        ("3", "hello", "0 Malformed"),
    ] {
        let fields = [("content-length", length)];
        // With the head, and after the service has begun to wait for it.
        for pause in [0, 20] {
            let mut exchange = client.begin(Method::PUT, "/sink", &fields).await;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            exchange.send_data(sent.into()).await.unwrap();
            exchange.finish().await.unwrap();
            assert_eq!(answer(&mut exchange).await.text(), expected);
        }
    }
    drop(client);
    http3.server.stop().await;
}

/// RFC 9110 section 15.2, and section 4.4 of the draft Resumable Uploads for HTTP.
#[tokio::test]
async fn interim_responses_leave_while_the_body_is_received() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    for _ in 0..3 {
        let mut exchange = client.begin(Method::PUT, "/interim/frames", &[]).await;
        let first = head(&mut exchange).await;
        assert_eq!(
            (first.status().as_u16(), &first.headers()["location"]),
            (104, &"/a".parse().unwrap())
        );
        exchange.send_data("12345".into()).await.unwrap();
        let second = head(&mut exchange).await;
        assert_eq!(
            (second.status().as_u16(), &second.headers()["upload-offset"]),
            (104, &"5".parse().unwrap())
        );
        exchange.finish().await.unwrap();
        assert_eq!(answer(&mut exchange).await.text(), "5 true");
    }
    // A request whose content is there at once is announced, too.
    let mut exchange = client.begin(Method::PUT, "/interim/frames", &[]).await;
    exchange.send_data("12345".into()).await.unwrap();
    exchange.finish().await.unwrap();
    let mut announced = 0;
    let last = loop {
        let response = head(&mut exchange).await;
        if response.status().as_u16() != 104 {
            break response;
        }
        announced += usize::from(response.headers().contains_key("location"));
    };
    assert_eq!((last.status(), announced), (StatusCode::OK, 1));
    drop((exchange, client));
    http3.server.stop().await;
}

/// RFC 9110 section 10.1.1.
#[tokio::test]
async fn a_client_that_expects_100_gets_it() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    let fields = [("expect", "100-continue")];
    let mut exchange = client.begin(Method::PUT, "/sink", &fields).await;
    assert_eq!(head(&mut exchange).await.status(), StatusCode::CONTINUE);
    exchange.send_data("hello".into()).await.unwrap();
    exchange.finish().await.unwrap();
    assert_eq!(answer(&mut exchange).await.text(), "5 complete");
    drop((exchange, client));
    http3.server.stop().await;
}

#[tokio::test]
async fn an_early_response_arrives_and_the_rest_is_refused() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    let mut exchange = client.begin(Method::PUT, "/refuse", &[]).await;
    exchange.send_data(vec![1; 1000].into()).await.unwrap();
    let refused = answer(&mut exchange).await;
    assert_eq!(
        (refused.status, refused.text()),
        (StatusCode::PAYLOAD_TOO_LARGE, "too much")
    );
    let stopped = async {
        loop {
            if let Err(error) = exchange.send_data(vec![1; 100_000].into()).await {
                return error;
            }
        }
    };
    let error = timeout(TIMEOUT, stopped)
        .await
        .expect("the client can send more");
    assert!(error.to_string().contains("H3_NO_ERROR"), "{error}");
    assert_eq!(client.get("/").await.text(), "hello");
    drop((exchange, client));
    http3.server.stop().await;
}

#[tokio::test]
async fn a_reset_is_no_end() {
    let http3 = Http3Server::start(|_| {});
    let quic = http3.quic().await;
    let mut client = Client::new(quic.clone()).await;
    let exchange = client.begin(Method::PUT, "/sink", &[]).await;
    let (mut sending, mut receiving) = exchange.split();
    sending.send_data("abc".into()).await.unwrap();
    http3.server.until_requests(1).await;
    sending.stop_stream(Code::H3_REQUEST_CANCELLED);
    let response = timeout(TIMEOUT, receiving.recv_response())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let mut text = receiving.recv_data().await.unwrap().unwrap();
    let text = text.copy_to_bytes(text.remaining());
    assert!(text.ends_with(b" Reset"), "{text:?}");
    drop((sending, receiving, client));
    http3.server.stop().await;
}

/// RFC 9000 section 9.
#[tokio::test]
async fn a_body_goes_on_when_its_client_has_another_address() {
    let http3 = Http3Server::start(|_| {});
    let endpoint = http3.endpoint();
    let connecting = endpoint.connect(http3.server.address, "a.example").unwrap();
    let mut client = Client::new(connecting.await.unwrap()).await;
    let before = client.get("/peer").await;
    let body = pattern(400_000);
    let mut exchange = client.begin(Method::PUT, "/pattern", &[]).await;
    for (n, part) in body.chunks(100_000).enumerate() {
        if n > 0 {
            endpoint
                .rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
                .unwrap();
        }
        exchange
            .send_data(Bytes::copy_from_slice(part))
            .await
            .unwrap();
    }
    exchange.finish().await.unwrap();
    let whole = answer(&mut exchange).await;
    assert!(whole.text().starts_with("400000 "), "{whole:?}");
    let after = client.get("/peer").await;
    assert_ne!(before.text(), after.text());
    let port = endpoint.local_addr().unwrap().port();
    assert_eq!(after.text(), format!("127.0.0.1:{port}"));
    assert_eq!(http3.server.stats.accepted.load(Relaxed), 1);
    drop((exchange, client));
    http3.server.stop().await;
}

#[tokio::test]
async fn silent_clients_have_timeouts() {
    let short = Duration::from_millis(400);
    let http3 = Http3Server::start(|limits| {
        limits.header_timeout = short;
        limits.body_timeout = short;
        limits.idle_timeout = short * 2;
        limits.min_rate = 0;
    });
    // No request: not even control streams.
    let quic = http3.quic().await;
    timeout(TIMEOUT, quic.closed())
        .await
        .expect("it is still open");
    // A head that never ends.
    let quic = http3.quic().await;
    let (mut sending, mut receiving) = quic.open_bi().await.unwrap();
    sending.write_all(&[1, 20, 0]).await.unwrap();
    assert!(
        timeout(TIMEOUT, receiving.read_to_end(100))
            .await
            .unwrap()
            .unwrap_or_default()
            .is_empty()
    );
    timeout(TIMEOUT, quic.closed())
        .await
        .expect("it is still open");
    // A body that stalls.
    let mut client = http3.connect().await;
    let mut exchange = client.begin(Method::PUT, "/sink", &[]).await;
    exchange.send_data("abc".into()).await.unwrap();
    let stalled = answer(&mut exchange).await;
    assert_eq!(
        (stalled.status, stalled.text()),
        (StatusCode::REQUEST_TIMEOUT, "3 Timeout")
    );
    assert_eq!(http3.server.stats.body_timeouts.load(Relaxed), 1);
    timeout(TIMEOUT, client.quic.closed())
        .await
        .expect("it is still open");
    drop((exchange, client));
    http3.server.stop().await;
}

/// A response whose client reads nothing is cut, and does not look complete.
#[tokio::test]
async fn a_response_that_is_not_read_is_reset() {
    let http3 = Http3Server::start(|limits| limits.write_timeout = Duration::from_millis(400));
    let mut client = http3.connect().await;
    let mut exchanges = Vec::new();
    for _ in 0..3 {
        let mut exchange = client.begin(Method::GET, "/bytes/100000000", &[]).await;
        exchange.finish().await.unwrap();
        exchanges.push(exchange);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for mut exchange in exchanges {
        let read = async {
            exchange.recv_response().await?;
            while exchange.recv_data().await?.is_some() {}
            Ok::<_, h3::error::StreamError>(())
        };
        assert!(
            timeout(TIMEOUT, read).await.unwrap().is_err(),
            "it came whole"
        );
    }
    assert_eq!(http3.server.stats.write_timeouts.load(Relaxed), 3);
    drop(client);
    http3.server.stop().await;
}

#[tokio::test]
async fn a_shutdown_lets_requests_finish() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    let mut idle = http3.connect().await;
    assert_eq!(idle.get("/").await.text(), "hello");
    let mut exchange = client.begin(Method::GET, "/late/500", &[]).await;
    exchange.finish().await.unwrap();
    http3.server.until_requests(2).await;
    let begin = std::time::Instant::now();
    http3.server.shutdown.start();
    assert_eq!(answer(&mut exchange).await.text(), "late");
    http3.server.stop().await;
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "it waited for the grace time"
    );
    drop((client, idle));
}

#[tokio::test]
async fn a_shutdown_aborts_bodies_with_a_response() {
    let http3 = Http3Server::with_grace(Duration::from_millis(200), |_| {});
    let mut client = http3.connect().await;
    let mut exchange = client.begin(Method::PUT, "/sink", &[]).await;
    exchange.send_data("abc".into()).await.unwrap();
    http3.server.until_requests(1).await;
    http3.server.shutdown.start();
    let aborted = answer(&mut exchange).await;
    assert_eq!(
        (aborted.status, aborted.text()),
        (StatusCode::SERVICE_UNAVAILABLE, "3 ShuttingDown")
    );
    drop((exchange, client));
    http3.server.stop().await;
}

#[tokio::test]
async fn responses_over_tls_offer_http3() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    let tcp = Listener::tcp("127.0.0.1", 0).unwrap().with_tls(tls.clone());
    let address = tcp.local_addr().unwrap();
    let udp = Listener::http3(address, tls.clone()).unwrap();
    assert_eq!(udp.local_addr(), Some(address));
    let plain = Listener::tcp("127.0.0.1", 0).unwrap();
    let plain_address = plain.local_addr().unwrap();
    let server = Server::on_all(vec![tcp, udp, plain], Duration::from_secs(5), |_| {});
    let offered = format!("h3=\":{}\"; ma=86400", address.port());
    let mut client = connect_tls(&server, authority.client(&[&TLS13])).await;
    let answer = client.ask(get("/")).await;
    assert_eq!(answer.header("alt-svc"), Some(&*offered));
    let stream = tokio::net::TcpStream::connect(plain_address).await.unwrap();
    let mut client = crate::harness::Client::new(stream);
    assert_eq!(client.ask(get("/")).await.header("alt-svc"), None);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn certificates_are_replaced() {
    let http3 = Http3Server::start(|_| {});
    let chain = |quic: &quinn::Connection| {
        let identity = quic.peer_identity().unwrap();
        let chain = identity
            .downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
            .unwrap();
        chain[0].clone()
    };
    let before = chain(&http3.quic().await);
    http3.authority.issue("a.example");
    assert!(http3.tls.reload_changed_files().unwrap());
    assert_ne!(chain(&http3.quic().await), before);
    http3.server.stop().await;
}

#[tokio::test]
async fn tls_1_3_is_required() {
    let authority = Authority::new();
    let config = TlsConfig::load(authority.files(&["a.example"]), TlsMode::Tls12Strong).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let error = Listener::http3(any, Tls::new(config)).unwrap_err();
    assert_eq!(error.to_string(), "HTTP/3 requires TLS 1.3");
}

#[tokio::test]
async fn certificates_of_clients_have_a_name() {
    let authority = Authority::new();
    let mut files = authority.files(&["a.example"]);
    files.client_authorities = Some(authority.path("ca.pem"));
    files.client_auth = ClientAuth::Optional;
    let server = Http3Server::with_files(authority, files, Duration::from_secs(5), |_| {});
    let mut anonymous = server.connect().await;
    assert_eq!(anonymous.get("/certificate").await.text(), "None");
    let certificate = server.authority.issue("client.example");
    let mut config = server.authority.client_with(&[&TLS13], &certificate);
    config.alpn_protocols = vec![b"h3".to_vec()];
    let endpoint = endpoint(quic_config(config));
    let connecting = endpoint
        .connect(server.server.address, "a.example")
        .unwrap();
    let mut client = Client::new(connecting.await.unwrap()).await;
    let name = client.get("/certificate").await;
    assert_eq!(name.text(), r#"Some(Some("rcgen self signed cert"))"#);
    server.server.stop().await;
}
