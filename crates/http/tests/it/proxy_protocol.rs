//! PROXY headers before HTTP and TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use landfall_http::{ConnectionLimits, Function, Listener};
use tokio::net::TcpStream;

use crate::harness::{Client, Server, TIMEOUT, get};
use crate::tls::{ALL, Authority, load, wrap};

const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn listener(is_trusted: bool) -> Listener {
    let listener = Listener::tcp("127.0.0.1", 0).unwrap();
    listener.with_proxy_protocol(Function(Arc::new(move |peer| {
        assert!(peer.is_loopback());
        is_trusted
    })))
}

fn start(change: impl FnOnce(&mut ConnectionLimits)) -> Server {
    Server::on(listener(true), Duration::from_secs(5), change)
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE_V2, &[command, family], &len, rest].concat()
}

fn v2_tcp4(client: [u8; 4], port: u16, more: &[u8]) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let rest = [&client[..], &[10, 0, 0, 1, high, low, 1, 187], more];
    v2(0x21, 0x11, &rest.concat())
}

fn v2_tcp6() -> Vec<u8> {
    let mut rest = [0; 36];
    rest[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    rest[15] = 7;
    rest[31] = 1;
    rest[32..].copy_from_slice(&[0x12, 0x67, 1, 187]);
    v2(0x21, 0x21, &rest)
}

/// The longest header of version 1.
fn longest_v1() -> Vec<u8> {
    let address =
        "ffff:f...f:ffff ffff:f...f:ffff".replace("f...f", "ffff:ffff:ffff:ffff:ffff:ffff");
    let header = format!("PROXY UNKNOWN {address} 65535 65535\r\n").into_bytes();
    assert_eq!(header.len(), 107);
    header
}

/// Headers, and the client of each; none for those that name no client.
fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let mut unix = [0; 216];
    unix[..5].copy_from_slice(b"/sock");
    vec![
        (
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(),
            Some("192.0.2.7:4711"),
        ),
        (
            b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n".to_vec(),
            Some("[2001:db8::7]:4711"),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 443\r\n".to_vec(),
            Some("192.0.2.7:4711"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (longest_v1(), None),
        (v2_tcp4([192, 0, 2, 7], 4711, b""), Some("192.0.2.7:4711")),
        // Fields that are not needed, up to the maximum length.
        (
            v2_tcp4([192, 0, 2, 7], 4711, &[4; 508]),
            Some("192.0.2.7:4711"),
        ),
        (v2_tcp6(), Some("[2001:db8::7]:4711")),
        (v2(0x20, 0, b""), None),
        // What LOCAL names is ignored.
        (v2(0x20, 0x11, &[9; 12]), None),
        (v2(0x20, 0xff, &[9; 3]), None),
        (v2(0x21, 0, b""), None),
        (v2(0x21, 0x31, &unix), None),
    ]
}

async fn peer(client: &mut Client<TcpStream>) -> String {
    client.answer().await.unwrap().text()
}

#[tokio::test]
async fn headers_name_the_client() {
    let server = start(|_| {});
    for (header, expected) in headers() {
        let mut client = server.connect().await;
        let own = client.stream.local_addr().unwrap().to_string();
        let expected = expected.unwrap_or(&own);
        client
            .send([&*header, get("/peer").as_bytes()].concat())
            .await;
        assert_eq!(peer(&mut client).await, expected, "{header:?}");
        assert_eq!(client.ask(get("/")).await.text(), "hello");
        // A second header is part of a request.
        if header.starts_with(b"PROXY TCP4 ") {
            let answer = client.ask([&*header, b"\r\n"].concat()).await;
            assert_eq!(answer.status, 400);
        }
    }
    assert_eq!(server.stats.proxy_errors.load(Relaxed), 0);
    server.stop().await;
}

/// Waits until the server has read everything that was sent, so that the next bytes arrive in another read.
async fn until_read(client: &Client<TcpStream>, server: SocketAddr) {
    let own = client.stream.local_addr().unwrap();
    let row = |from: SocketAddr, to: SocketAddr| {
        let hex = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
        format!("{} {} 01", hex(from), hex(to))
    };
    let row = row(server, own);
    // On a busy machine with thousands of closed connections, one look takes seconds.
    for _ in 0..2000 {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find(|line| line.contains(&row));
        if line.is_some_and(|line| line.contains(" 00000000:00000000 ")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the server has not read what was sent");
}

#[tokio::test]
async fn headers_arrive_in_two_parts_at_every_byte() {
    let server = start(|limits| limits.header_timeout = Duration::ZERO);
    for (header, expected) in headers() {
        let all = [&*header, get("/peer").as_bytes()].concat();
        // Of a long header, the fields are alike.
        let ends =
            (1..header.len().min(60)).chain([header.len() - 1, header.len(), header.len() + 1]);
        for end in ends {
            let mut client = server.connect().await;
            let own = client.stream.local_addr().unwrap().to_string();
            client.send(&all[..end]).await;
            until_read(&client, server.address).await;
            client.send(&all[end..]).await;
            let found = peer(&mut client).await;
            assert_eq!(found, expected.unwrap_or(&own), "{end}: {header:?}");
        }
    }
    let mut client = server.connect().await;
    let (header, _) = &headers()[0];
    for byte in header {
        client.send([*byte]).await;
        until_read(&client, server.address).await;
    }
    client.send(get("/peer")).await;
    assert_eq!(peer(&mut client).await, "192.0.2.7:4711");
    server.stop().await;
}

#[tokio::test]
async fn connections_without_a_valid_header_are_closed() {
    let server = start(|_| {});
    let mut long = longest_v1();
    long.splice(13..13, *b" ");
    let invalid = [
        get("/peer").into_bytes(),
        b"\x16\x03\x01\x02\0\x01".to_vec(),
        b"PROXY\r\n".to_vec(),
        b"PROXY  TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY_TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY TCP5 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.700 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 10.0.0.1 4711 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443 1\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\n".to_vec(),
        b"PROXY UNKNOWN\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 107][..]].concat(),
        long,
        // Another version, command, family and transport.
        v2(0x11, 0x11, &[1; 12]),
        v2(0x22, 0x11, &[1; 12]),
        v2(0x21, 0x41, &[1; 12]),
        v2(0x21, 0x12, &[1; 12]),
        // Too short for its addresses, and too long.
        v2(0x21, 0x11, &[1; 11]),
        v2(0x21, 0x21, &[1; 35]),
        v2_tcp4([192, 0, 2, 7], 4711, &[4; 509]),
        [SIGNATURE_V2, &[0x20, 0, 0xff, 0xff]].concat(),
    ];
    let count = invalid.len() as u64;
    for header in invalid {
        let mut client = server.connect().await;
        client
            .send([&*header, get("/peer").as_bytes()].concat())
            .await;
        assert!(client.closed().await, "{header:?}");
    }
    assert_eq!(server.stats.proxy_errors.load(Relaxed), count);
    assert_eq!(server.stats.requests.load(Relaxed), 0);
    server.stop().await;
}

#[tokio::test]
async fn checks_that_send_nothing_are_no_errors_and_cut_headers_are() {
    let server = start(|_| {});
    drop(server.connect().await);
    let mut cut = server.connect().await;
    cut.send("PROXY TCP4 ").await;
    tokio::io::AsyncWriteExt::shutdown(&mut cut.stream)
        .await
        .unwrap();
    assert!(cut.closed().await);
    let errors = server.stats.clone();
    server.stop().await;
    assert_eq!(errors.proxy_errors.load(Relaxed), 1);
}

#[tokio::test]
async fn connections_of_other_peers_are_closed() {
    let server = Server::on(listener(false), Duration::from_secs(5), |_| {});
    for (header, _) in headers().into_iter().take(2) {
        let mut client = server.connect().await;
        // It may be closed before.
        let bytes = [&*header, get("/").as_bytes()].concat();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, &bytes).await;
        assert!(client.closed().await);
    }
    assert_eq!(server.stats.proxy_errors.load(Relaxed), 2);
    server.stop().await;
}

#[tokio::test]
async fn slow_headers_count_as_part_of_the_head() {
    let server = start(|limits| limits.header_timeout = Duration::from_millis(300));
    for part in [
        "",
        "PROXY TCP4 192.0.2.7 ",
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN\r\nGET / ",
    ] {
        let mut client = server.connect().await;
        client.send(part).await;
        assert!(client.closed().await, "{part:?}");
    }
    assert_eq!(server.stats.header_timeouts.load(Relaxed), 4);
    assert_eq!(server.stats.proxy_errors.load(Relaxed), 0);
    server.stop().await;
}

#[tokio::test]
async fn the_client_is_limited_and_not_the_proxy() {
    let server = start(|limits| {
        limits.addresses.connections.set(2);
        limits.addresses.client = Function(Arc::new(|_, peer| peer));
    });
    let header = |last| v2_tcp4([192, 0, 2, last], 4711, b"");
    let mut clients = Vec::new();
    for (last, expected) in [(7, 200), (7, 200), (8, 200), (7, 503), (8, 200), (7, 503)] {
        let mut client = server.connect().await;
        let answer = client.ask([&*header(last), get("/").as_bytes()].concat());
        assert_eq!(answer.await.status, expected);
        clients.push(client);
    }
    drop(clients);
    server.stop().await;
}

#[tokio::test]
async fn clients_far_over_their_limit_are_closed() {
    let server = start(|limits| {
        limits.addresses.connections.set(1);
        limits.addresses.client = Function(Arc::new(|_, peer| peer));
    });
    let header = v2_tcp4([192, 0, 2, 7], 4711, b"");
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send(&header).await;
        until_read(&client, server.address).await;
        clients.push(client);
    }
    let mut third = server.connect().await;
    third.send(&header).await;
    assert!(third.closed().await);
    assert_eq!(server.stats.address_connections.load(Relaxed), 1);
    assert_eq!(clients[0].ask(get("/")).await.status, 200);
    assert_eq!(clients[1].ask(get("/")).await.status, 503);
    server.stop().await;
}

#[tokio::test]
async fn tls_and_http2_follow_a_header() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    let server = Server::on(listener(true).with_tls(tls), Duration::from_secs(5), |_| {});
    for (header, expected) in headers().into_iter().filter_map(|(h, e)| Some((h, e?))) {
        let mut client = server.connect().await;
        client.send(&header).await;
        let stream = wrap(client.stream, authority.client(ALL), "a.example").await;
        let mut client = Client::new(stream.unwrap());
        let answer = client.ask(get("/peer")).await;
        assert_eq!(answer.text(), expected);
    }
    // TLS instead of a header.
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let outcome = wrap(tcp, authority.client(ALL), "a.example").await;
    outcome.unwrap_err();
    assert_eq!(server.stats.proxy_errors.load(Relaxed), 1);
    server.stop().await;

    let server = start(|limits| limits.http2 = true);
    let mut client = server.connect().await;
    client.send(&headers()[0].0).await;
    until_read(&client, server.address).await;
    client
        .send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    // The server's settings.
    let mut frame = [0; 9];
    let read = tokio::io::AsyncReadExt::read_exact(&mut client.stream, &mut frame);
    tokio::time::timeout(TIMEOUT, read).await.unwrap().unwrap();
    assert_eq!(frame[3], 4);
    let mut plain = server.connect().await;
    plain
        .send([&*headers()[0].0, get("/peer").as_bytes()].concat())
        .await;
    assert_eq!(peer(&mut plain).await, "192.0.2.7:4711");
    drop(client);
    server.stop().await;
}
