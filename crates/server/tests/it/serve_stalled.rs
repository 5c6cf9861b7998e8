//! Clients that take nothing of their downloads do not take what is everybody's: files, memory, connections.

use std::{
    fs,
    io::Read as _,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use quinn::{ClientConfig, Endpoint, TransportConfig, crypto::rustls::QuicClientConfig};
use tokio::{net::TcpStream, sync::watch, task::block_in_place};

use crate::{
    serve_harness::{Answer, KIB, Landfall, MIB, Request, content},
    serve_memory::resident_kib,
    serve_tls::Https,
};

/// Of a response, and of its stream in a debug build.
const STALLED_KIB: u64 = 64 + 16;
/// Of responses, of steps of the store, and of anything else.
const FILES: usize = 64 + 64 + 16;

fn open_files(server: &Landfall) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_pid()));
    files.unwrap().count()
}

/// Another client, whose requests are on new connections, before and while responses are stalled.
struct Other<'a> {
    server: &'a Landfall,
    ask: &'a dyn Fn(Request) -> Answer,
    path: String,
    whole: Vec<u8>,
    fastest: Duration,
    idle_kib: u64,
    idle_files: usize,
}

impl<'a> Other<'a> {
    fn new(server: &'a Landfall, ask: &'a dyn Fn(Request) -> Answer) -> Self {
        let whole = content(1, 8 * MIB);
        let mut other = Self {
            server,
            ask,
            path: String::new(),
            fastest: Duration::MAX,
            idle_kib: 0,
            idle_files: 0,
            whole,
        };
        other.path = other.upload(&other.whole);
        other.fastest = other.fastest_download();
        other.idle_kib = resident_kib(server);
        other.idle_files = open_files(server);
        other
    }

    fn upload(&self, bytes: &[u8]) -> String {
        let request = Request::post()
            .with("Upload-Length", bytes.len())
            .with("Content-Type", "application/offset+octet-stream");
        (self.ask)(request.body(bytes)).created()
    }

    fn fastest_download(&self) -> Duration {
        let download = |_| {
            let begun = Instant::now();
            let answer = (self.ask)(Request::get(&self.path));
            assert!(answer.status == 200 && answer.body == self.whole);
            begun.elapsed()
        };
        (0..8).map(download).min().unwrap()
    }

    /// Fails unless other clients are served while this many responses are stalled.
    fn is_served(&self, stalled: u64, connections: usize) {
        let few_files = || {
            let (files, before) = (open_files(self.server), self.idle_files);
            assert!(files <= before + connections + FILES, "{files}, {before}");
        };
        few_files();
        let more = resident_kib(self.server).saturating_sub(self.idle_kib);
        assert!(more <= stalled * STALLED_KIB, "{more} KiB");
        // The machine may be busy at any time: once is enough.
        let limit = self.fastest.mul_f64(1.0 / 0.8);
        let is_fast = (0..20).any(|_| self.fastest_download() <= limit);
        assert!(is_fast, "slower than {limit:?}");
        let path = self.upload(&self.whole[..100_000]);
        let answer = (self.ask)(Request::get(&path));
        assert!(answer.status == 200 && answer.body == self.whole[..100_000]);
        few_files();
    }
}

/// Connects without TLS. The windows of all streams are those of the channel.
async fn http2(server: &Landfall, mut windows: watch::Receiver<u32>) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(server.address()).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(*windows.borrow())
        .initial_connection_window_size(16 << 20);
    let (sender, mut connection) = builder.handshake(tcp).await.unwrap();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = &mut connection => return,
                changed = windows.changed() => match changed {
                    Ok(()) => {
                        let window = *windows.borrow_and_update();
                        connection.set_initial_window_size(window).unwrap();
                    }
                    Err(_) => return,
                },
            }
        }
    });
    sender
}

async fn begin(sender: &SendRequest<Bytes>, path: &str) -> ResponseFuture {
    let mut sender = sender.clone().ready().await.unwrap();
    let head = http::Request::get(format!("http://landfall.test{path}"));
    sender.send_request(head.body(()).unwrap(), true).unwrap().0
}

/// At zero, then a byte each, now and then.
#[tokio::test(flavor = "multi_thread")]
async fn responses_over_http2_whose_windows_are_closed_or_trickle() {
    const CONNECTIONS: usize = 32;
    let server = Landfall::start(&["-enable-h2c", "-durability=none"]);
    let ask = |request| server.client().ask(request);
    let other = block_in_place(|| Other::new(&server, &ask));
    let (windows, receiver) = watch::channel(0);
    let (mut senders, mut bodies) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let sender = http2(&server, receiver.clone()).await;
        let mut responses = Vec::new();
        for _ in 0..100 {
            responses.push(begin(&sender, &other.path).await);
        }
        for response in responses {
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            bodies.push(response.into_body());
        }
        senders.push(sender);
    }
    let stalled = bodies.len() as u64;
    block_in_place(|| other.is_served(stalled, CONNECTIONS));
    for window in 1..4 {
        windows.send(window).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    block_in_place(|| other.is_served(stalled, CONNECTIONS));
    // They continue where they were, though their files were closed.
    let (first, last) = (bodies.remove(0), bodies.pop().unwrap());
    drop(bodies);
    windows.send(1 << 20).unwrap();
    for mut body in [first, last] {
        let mut received = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            received.extend_from_slice(&data);
        }
        assert!(received == other.whole);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_over_http3_whose_windows_are_closed() {
    const CONNECTIONS: usize = 8;
    let https = Https::start(&["-http3", "-durability=none"]);
    let ask = |request| https.client().ask(request);
    let other = block_in_place(|| Other::new(&https.server, &ask));
    let crypto = QuicClientConfig::try_from(https.client_config(b"h3")).unwrap();
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    // The head of a response, and little more.
    transport.stream_receive_window(2000_u32.into());
    config.transport_config(Arc::new(transport));
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        endpoint.set_default_client_config(config.clone());
        let connecting = endpoint.connect(https.server.address(), "landfall.test");
        let quic = connecting.unwrap().await.unwrap();
        let connection = h3_quinn::Connection::new(quic);
        let (mut driver, mut sender) = h3::client::new(connection).await.unwrap();
        tokio::spawn(async move { driver.wait_idle().await });
        let mut exchanges = Vec::new();
        for _ in 0..100 {
            let head = http::Request::get(format!("https://landfall.test{}", other.path));
            let mut exchange = sender.send_request(head.body(()).unwrap()).await.unwrap();
            exchange.finish().await.unwrap();
            exchanges.push(exchange);
        }
        for exchange in &mut exchanges {
            assert_eq!(exchange.recv_response().await.unwrap().status(), 200);
        }
        open.push((endpoint, sender, exchanges));
    }
    let stalled = (CONNECTIONS * 100) as u64;
    block_in_place(|| other.is_served(stalled, CONNECTIONS));
    drop(open);
}

#[test]
fn slow_readers_over_http1() {
    const CONNECTIONS: usize = 200;
    let server = Landfall::start(&["-durability=none"]);
    let ask = |request| server.client().ask(request);
    let other = Other::new(&server, &ask);
    let request = Request::get(&other.path)
        .with("Connection", "close")
        .bytes();
    let mut clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = server.client();
            client.send(&request);
            client
        })
        .collect();
    for bytes in [1, 100 * KIB] {
        for client in &mut clients {
            let mut space = vec![0; usize::try_from(bytes).unwrap()];
            client.stream.read_exact(&mut space).unwrap();
        }
        other.is_served(CONNECTIONS as u64, CONNECTIONS);
    }
    // They continue where they were.
    for client in clients.iter_mut().step_by(40) {
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).unwrap();
        assert!(rest.len() > other.whole.len() - 101 * 1024);
        assert!(other.whole.ends_with(&rest));
    }
}
