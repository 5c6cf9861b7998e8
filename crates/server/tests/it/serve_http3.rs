//! HTTP/3 by the program.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;

use bytes::Bytes;
use h3::client::{RequestStream, SendRequest};
use h3::error::Code;
use h3_quinn::{BidiStream, OpenStreams};
use http::{Method, Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint, VarInt};

use crate::serve_harness::{MIB, TIMEOUT, content};
use crate::serve_memory::{resident_kib, settles};
use crate::serve_streams::{self, StreamClient, location};
use crate::serve_tls::Https;

struct Client {
    sender: SendRequest<OpenStreams, Bytes>,
    quic: quinn::Connection,
    endpoint: Endpoint,
}

/// Its connections use this configuration of TLS, whose ALPN is h3.
pub(crate) fn endpoint(tls: rustls::ClientConfig) -> Endpoint {
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    endpoint
}

impl StreamClient for Client {
    type Exchange = RequestStream<BidiStream<Bytes>, Bytes>;

    async fn connect(https: &Https) -> Self {
        let endpoint = endpoint(https.client_config(b"h3"));
        let quic = endpoint.connect(https.server.address(), "landfall.test");
        let quic = tokio::time::timeout(TIMEOUT, quic.unwrap())
            .await
            .unwrap()
            .unwrap();
        let connection = h3_quinn::Connection::new(quic.clone());
        let (mut driver, sender) = h3::client::new(connection).await.unwrap();
        tokio::spawn(async move { driver.wait_idle().await });
        Self {
            sender,
            quic,
            endpoint,
        }
    }

    async fn begin(&mut self, request: Request<()>) -> Self::Exchange {
        self.sender.send_request(request).await.unwrap()
    }

    async fn send(exchange: &mut Self::Exchange, data: Bytes, is_end: bool) {
        for chunk in data.chunks(256 * 1024) {
            if exchange.send_data(data.slice_ref(chunk)).await.is_err() {
                return;
            }
        }
        if is_end {
            exchange.finish().await.unwrap();
        }
    }

    async fn head(exchange: &mut Self::Exchange) -> Response<()> {
        let response = tokio::time::timeout(TIMEOUT, exchange.recv_response());
        response.await.expect("no response came").unwrap()
    }

    fn reset(exchange: Self::Exchange) {
        let (mut sending, _receiving) = exchange.split();
        sending.stop_stream(Code::H3_REQUEST_CANCELLED);
    }

    fn kill(&mut self) {
        self.quic.close(VarInt::from_u32(0x100), b"");
    }
}

fn start() -> Https {
    start_with(&[])
}

fn start_with(args: &[&str]) -> Https {
    let https = Https::start(&[&["-http3"], args].concat());
    https.server.says("Serving HTTP/3 on 127.0.0.1:");
    https
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_created_over_http3_and_resumed_over_http1() {
    let https = serve_streams::uploads_are_resumed_over_http1::<Client>(start()).await;
    let over_tcp = tokio::task::spawn_blocking(move || {
        let answer = https.client().head("/files/");
        let offer = answer.header("Alt-Svc").unwrap();
        assert!(offer.starts_with("h3=\":"), "{offer}");
        https.server.stop();
    });
    over_tcp.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_by_urlsession_is_cut_at_every_byte() {
    serve_streams::an_upload_by_urlsession_is_cut_at_every_byte::<Client>(start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_right_after_random_resets_and_lost_connections() {
    serve_streams::bytes_are_right_after_random_cuts::<Client>(start()).await;
}

/// RFC 9000 section 9: such as that of a phone that leaves a Wi-Fi.
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_continues_when_the_address_of_its_client_changes() {
    let https = start();
    let bytes = content(3, 5 * MIB);
    let mut client = Client::connect(&https).await;
    let length = bytes.len().to_string();
    let fields = [("tus-resumable", "1.0.0"), ("upload-length", &*length)];
    let path = location(&client.ask(Method::POST, "/files/", &fields, b"").await);
    let fields = [
        ("tus-resumable", "1.0.0"),
        ("upload-offset", "0"),
        ("content-type", "application/offset+octet-stream"),
    ];
    let mut patch = client.open(Method::PATCH, &path, &fields).await;
    let (last, parts) = bytes.split_at(4_000_000);
    for part in last.chunks(1_000_000) {
        Client::send(&mut patch, Bytes::copy_from_slice(part), false).await;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.endpoint.rebind(socket).unwrap();
    }
    Client::send(&mut patch, Bytes::copy_from_slice(parts), true).await;
    assert_eq!(Client::head(&mut patch).await.status(), 204);
    drop(client);
    tokio::task::spawn_blocking(move || {
        let mut client = https.client();
        client.holds(&path, &bytes);
        // One of QUIC, and this one.
        let metrics = client.ask(crate::serve_harness::Request::get("/metrics"));
        let metrics = metrics.text();
        assert!(
            metrics.contains("landfall_tls_handshakes_total 2"),
            "{metrics}"
        );
        https.server.stop();
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_streams_release_memory() {
    const CONNECTIONS: usize = 4;
    const STREAMS: usize = 100;
    let https = start_with(&["-durability=none", "-max-connections-per-address=0"]);
    let length = MIB.to_string();
    let fields = [
        ("tus-resumable", "1.0.0"),
        ("upload-length", &*length),
        ("content-type", "application/offset+octet-stream"),
    ];
    let mut client = Client::connect(&https).await;
    let created = client
        .ask(Method::POST, "/files/", &fields, &[7; 1000])
        .await;
    assert_eq!(created.status(), 201);
    let idle = resident_kib(&https.server);
    let mut stalled = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(&https).await;
        for _ in 0..STREAMS {
            let mut exchange = client.open(Method::POST, "/files/", &fields).await;
            Client::send(&mut exchange, vec![7; 200_000].into(), false).await;
            stalled.push(exchange);
        }
        // The connections end with their exchanges.
        drop(client);
    }
    let https = tokio::task::spawn_blocking(move || {
        // Debug builds have larger futures than what is released has; it would be 200 KiB and more.
        let limit = (CONNECTIONS * STREAMS * 100) as u64;
        settles(&https.server, idle, limit, "stalled");
        drop(stalled);
        settles(&https.server, idle, 30 * 1024, "left");
        https
    });
    serve_streams::stop(https.await.unwrap()).await;
}

/// `LANDFALL_LONG=1` opens 100,000 streams.
#[tokio::test(flavor = "multi_thread")]
async fn many_streams_of_a_connection_use_bounded_memory() {
    let count = match std::env::var("LANDFALL_LONG").is_ok_and(|long| long == "1") {
        true => 100_000,
        false => 5_000,
    };
    let https = start();
    let mut client = Client::connect(&https).await;
    let options =
        async |client: &mut Client| client.ask(Method::OPTIONS, "/files/", &[], b"").await;
    let mut idle = 0;
    for n in 0..count {
        assert_eq!(options(&mut client).await.status(), 200);
        if n == 1000 {
            // What the first requests allocate stays.
            idle = resident_kib(&https.server);
        }
    }
    let more = resident_kib(&https.server).saturating_sub(idle);
    assert!(more < 4 * 1024, "{more} KiB");

    // As many that are reset before they have a request: the connection is closed, and no other one.
    let mut other = Client::connect(&https).await;
    let quic = client.quic.clone();
    let opening = async {
        for _ in 0..100_000 {
            let (mut sending, mut receiving) = quic.open_bi().await?;
            // The type of the first frame.
            sending.write_all(&[1]).await.ok();
            sending.reset(VarInt::from_u32(0x10c)).ok();
            receiving.stop(VarInt::from_u32(0x10c)).ok();
        }
        Ok::<_, ConnectionError>(())
    };
    let closed = tokio::time::timeout(TIMEOUT, opening).await;
    let error = closed.expect("it is still open").unwrap_err();
    assert!(error.to_string().contains("closed by peer: 263"), "{error}");
    assert_eq!(options(&mut other).await.status(), 200);
    let line = https
        .server
        .says("closed a connection with too many reset requests");
    assert!(line.contains("127.0.0.1"), "{line}");
    let more = resident_kib(&https.server).saturating_sub(idle);
    assert!(more < 4 * 1024, "{more} KiB");
    drop((client, other));
    serve_streams::stop(https).await;
}
