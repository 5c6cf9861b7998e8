//! HTTP/3 by the program: uploads in both protocols, resumed over another version of HTTP, and cut at random.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h3::client::{RequestStream, SendRequest};
use h3::error::Code;
use h3_quinn::{BidiStream, OpenStreams};
use http::{Method, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::serve_harness::{MIB, TIMEOUT, content, path_of};
use crate::serve_tls::Https;

type Exchange = RequestStream<BidiStream<Bytes>, Bytes>;

struct Client {
    sender: SendRequest<OpenStreams, Bytes>,
    quic: quinn::Connection,
}

pub(crate) fn endpoint(certificate: &CertificateDer<'static>) -> Endpoint {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    endpoint
}

impl Client {
    async fn connect(endpoint: &Endpoint, address: SocketAddr) -> Self {
        let quic = endpoint.connect(address, "landfall.test").unwrap();
        let quic = tokio::time::timeout(TIMEOUT, quic).await.unwrap().unwrap();
        let connection = h3_quinn::Connection::new(quic.clone());
        let (mut driver, sender) = h3::client::new(connection).await.unwrap();
        tokio::spawn(async move { driver.wait_idle().await });
        Self { sender, quic }
    }

    async fn begin(&mut self, method: Method, path: &str, fields: &[(&str, &str)]) -> Exchange {
        let uri = format!("https://landfall.test{path}");
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.sender
            .send_request(request.body(()).unwrap())
            .await
            .unwrap()
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response<()> {
        let mut exchange = self.begin(method, path, fields).await;
        for chunk in body.chunks(256 * 1024) {
            let chunk = Bytes::copy_from_slice(chunk);
            exchange.send_data(chunk).await.unwrap();
        }
        exchange.finish().await.unwrap();
        head(&mut exchange).await
    }

    /// By tus.
    async fn offset(&mut self, path: &str) -> u64 {
        loop {
            let fields = [("tus-resumable", "1.0.0")];
            let response = self.ask(Method::HEAD, path, &fields, b"").await;
            // The request that was cut may still store its last bytes.
            if response.status() != 423 {
                assert_eq!(response.status(), 200);
                return number(&response, "upload-offset");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn head(exchange: &mut Exchange) -> Response<()> {
    let response = tokio::time::timeout(TIMEOUT, exchange.recv_response());
    response.await.expect("no response came").unwrap()
}

fn number(response: &Response<()>, name: &str) -> u64 {
    response.headers()[name].to_str().unwrap().parse().unwrap()
}

fn location(response: &Response<()>) -> String {
    path_of(response.headers()["location"].to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_created_over_http3_and_resumed_over_http1() {
    let https = Https::start(&["-http3"]);
    https.server.says("Serving HTTP/3 on 127.0.0.1:");
    let bytes = content(1, 5 * MIB);
    let endpoint = endpoint(&https.certificate);
    let mut client = Client::connect(&endpoint, https.server.address()).await;
    let length = bytes.len().to_string();
    let fields = [
        ("tus-resumable", "1.0.0"),
        ("upload-length", &length),
        ("content-type", "application/offset+octet-stream"),
    ];
    let created = client
        .ask(Method::POST, "/files/", &fields, &bytes[..2_000_000])
        .await;
    assert_eq!(created.status(), 201);
    assert_eq!(number(&created, "upload-offset"), 2_000_000);
    let path = location(&created);
    assert_eq!(client.offset(&path).await, 2_000_000);
    let over_tcp = tokio::task::spawn_blocking(move || {
        let mut client = https.client();
        let answer = client.head(&path);
        assert!(
            answer
                .header("Alt-Svc")
                .is_some_and(|offer| offer.starts_with("h3=\":"))
        );
        client.resumes_to(&path, &bytes);
        client.holds(&path, &bytes);
        let metrics = client
            .ask(crate::serve_harness::Request::get("/metrics"))
            .text();
        assert!(
            metrics.contains("landfall_tls_handshakes_total 2"),
            "{metrics}"
        );
        https
    });
    let https = over_tcp.await.unwrap();
    drop(client);
    tokio::task::spawn_blocking(move || https.server.stop())
        .await
        .unwrap();
}

/// Section 4.2.2 of the draft Resumable Uploads for HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn a_creation_of_the_draft_is_announced_and_resumed() {
    let https = Https::start(&["-http3"]);
    let bytes = content(2, MIB);
    let endpoint = endpoint(&https.certificate);
    let mut client = Client::connect(&endpoint, https.server.address()).await;
    let length = bytes.len().to_string();
    let draft = ("upload-draft-interop-version", "8");
    let fields = [
        draft,
        ("upload-complete", "?1"),
        ("content-length", &length),
    ];
    let mut exchange = client.begin(Method::POST, "/files/", &fields).await;
    let announced = head(&mut exchange).await;
    assert_eq!(announced.status().as_u16(), 104);
    let path = location(&announced);
    exchange
        .send_data(Bytes::copy_from_slice(&bytes[..1000]))
        .await
        .unwrap();
    let (mut sending, _receiving) = exchange.split();
    while client.offset(&path).await < 1000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sending.stop_stream(Code::H3_REQUEST_CANCELLED);
    let fields = [
        draft,
        ("upload-complete", "?1"),
        ("upload-offset", "1000"),
        ("content-type", "application/partial-upload"),
    ];
    let whole = client
        .ask(Method::PATCH, &path, &fields, &bytes[1000..])
        .await;
    assert!(whole.status().is_success(), "{whole:?}");
    assert_eq!(whole.headers()["upload-complete"], "?1");
    tokio::task::spawn_blocking(move || {
        https.client().holds(&path, &bytes);
        https.server.stop();
    })
    .await
    .unwrap();
}

/// `LANDFALL_LONG=1` cuts 10,000 times.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_right_after_random_resets_and_lost_connections() {
    let cuts = match std::env::var("LANDFALL_LONG").is_ok_and(|long| long == "1") {
        true => 10_000,
        false => 200,
    };
    let https = Https::start(&["-http3"]);
    let seed = 7_u64;
    let mut state = seed;
    // Marsaglia's xorshift.
    let mut random = move |below: u64| {
        for shift in [13, -7, 17] {
            state ^= if shift > 0 {
                state << shift
            } else {
                state >> -shift
            };
        }
        state % below
    };
    let bytes = content(seed, 40 * MIB);
    let endpoint = endpoint(&https.certificate);
    let mut client = Client::connect(&endpoint, https.server.address()).await;
    let length = bytes.len().to_string();
    let fields = [("tus-resumable", "1.0.0"), ("upload-length", &*length)];
    let mut uploads = Vec::new();
    let (mut path, mut acknowledged) = (String::new(), 0);
    for cut in 0..cuts {
        if path.is_empty() {
            path = location(&client.ask(Method::POST, "/files/", &fields, b"").await);
        }
        let offset = client.offset(&path).await;
        assert!(
            offset >= acknowledged,
            "cut {cut}: {offset} < {acknowledged}"
        );
        acknowledged = offset;
        let start = offset.to_string();
        let patch = [
            ("tus-resumable", "1.0.0"),
            ("upload-offset", &*start),
            ("content-type", "application/offset+octet-stream"),
        ];
        let rest = &bytes[offset as usize..];
        let size = (random(1_000_000) as usize).min(rest.len());
        let mut exchange = client.begin(Method::PATCH, &path, &patch).await;
        // The client may have lost the connection before.
        let _ = exchange
            .send_data(Bytes::copy_from_slice(&rest[..size]))
            .await;
        let (mut sending, receiving) = exchange.split();
        match random(4) {
            0 => {
                client.quic.close(VarInt::from_u32(0x100), b"");
                client = Client::connect(&endpoint, https.server.address()).await;
            }
            1 => tokio::time::sleep(Duration::from_millis(2)).await,
            _ => {}
        }
        sending.stop_stream(Code::H3_REQUEST_CANCELLED);
        drop(receiving);
        if client.offset(&path).await == bytes.len() as u64 {
            uploads.push(std::mem::take(&mut path));
            acknowledged = 0;
        }
    }
    if !path.is_empty() {
        let offset = client.offset(&path).await;
        let start = offset.to_string();
        let patch = [
            ("tus-resumable", "1.0.0"),
            ("upload-offset", &*start),
            ("content-type", "application/offset+octet-stream"),
        ];
        let last = client
            .ask(Method::PATCH, &path, &patch, &bytes[offset as usize..])
            .await;
        assert_eq!(last.status(), 204);
        uploads.push(path);
    }
    assert!(!uploads.is_empty());
    tokio::task::spawn_blocking(move || {
        for path in uploads {
            https.client().holds(&path, &bytes);
        }
        https.server.stop();
    })
    .await
    .unwrap();
}
