//! Handshakes that a server rejects, or that want more than it offers, over TCP and QUIC.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use landfall_http::{CertificateFiles, TlsFiles};
use quinn::ClientConfig;
use rcgen::{CertificateParams, date_time_ymd};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Client, TIMEOUT, get};
use crate::http3::{Client as Http3Client, Http3Server, endpoint, quic_config};
use crate::tls::{ALL, Authority, handshake, load, start};

fn http3_with(authority: Authority, files: TlsFiles) -> Http3Server {
    Http3Server::with_files(authority, files, Duration::from_secs(5), |_| {})
}

async fn rejected(http3: &Http3Server, config: ClientConfig, name: &str) -> String {
    let connecting = endpoint(config).connect(http3.server.address, name);
    let connection = tokio::time::timeout(TIMEOUT, connecting.unwrap()).await;
    match connection.expect("no answer came") {
        Err(error) => error.to_string(),
        // The server checks certificates of clients after their handshake has ended.
        Ok(connection) => connection.closed().await.to_string(),
    }
}

/// RFC 7301 section 3.2, RFC 9001 section 8.1.
#[tokio::test]
async fn a_client_without_a_common_protocol_is_told_so() {
    let authority = Authority::new();
    let files = authority.files(&["a.example"]);
    let http3 = http3_with(authority, files);
    for protocols in [&[&b"h2"[..]][..], &[b"h3-29", b"spdy/3"], &[]] {
        let mut config = http3.authority.client(&[&TLS13]);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let error = rejected(&http3, quic_config(config), "a.example").await;
        assert!(
            error.contains("peer doesn't support any known protocol"),
            "{error}"
        );
    }
    assert_eq!(http3.connect().await.get("/").await.text(), "hello");
    assert_eq!(http3.server.stats.tls_errors.load(Relaxed), 3);
    http3.server.stop().await;
}

/// Addresses are not sent as names (RFC 6066 section 3). The first certificate is used.
#[tokio::test]
async fn clients_that_send_no_name_are_served() {
    let authority = Authority::new();
    let files = authority.files(&["127.0.0.1", "a.example"]);
    let server = start(&load(files.clone()), |_| {});
    let stream = handshake(&server, authority.client(ALL), "127.0.0.1").await;
    let answer = Client::new(stream.unwrap()).ask(get("/")).await;
    assert_eq!(answer.text(), "hello");
    server.stop().await;

    let http3 = http3_with(authority, files);
    let connecting = http3.endpoint().connect(http3.server.address, "127.0.0.1");
    let mut client = Http3Client::new(connecting.unwrap().await.unwrap()).await;
    assert_eq!(client.get("/").await.text(), "hello");
    drop(client);
    http3.server.stop().await;
}

fn expired(authority: &Authority, name: &str) -> CertificateFiles {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    authority.issue_with(name, params)
}

#[tokio::test]
async fn an_expired_certificate_of_the_server_is_rejected_by_clients() {
    let authority = Authority::new();
    let mut files = authority.files(&["a.example"]);
    files.certificates = vec![expired(&authority, "a.example")];
    let server = start(&load(files.clone()), |_| {});
    for version in ALL {
        let error = handshake(&server, authority.client(&[version]), "a.example").await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("certificate expired"), "{error}");
    }
    server.stop().await;

    let http3 = http3_with(authority, files);
    let config = http3.client_config();
    let error = rejected(&http3, config, "a.example").await;
    assert!(error.contains("certificate expired"), "{error}");
    http3.server.stop().await;
}

#[tokio::test]
async fn expired_certificates_of_clients_are_rejected() {
    let authority = Authority::new();
    let mut files = authority.files(&["a.example"]);
    files.client_authorities = Some(authority.path("ca.pem"));
    let own = expired(&authority, "client.example");
    let server = start(&load(files.clone()), |_| {});
    for version in ALL {
        let config = authority.client_with(&[version], &own);
        let read = async {
            let mut stream = handshake(&server, config, "a.example").await?;
            // In TLS 1.3 the client learns of it after the handshake.
            stream.read_u8().await
        };
        let error = read.await.unwrap_err().to_string();
        assert!(error.contains("CertificateExpired"), "{version:?}: {error}");
    }
    assert_eq!(server.stats.tls_errors.load(Relaxed), 2);
    server.stop().await;

    let mut config = authority.client_with(&[&TLS13], &own);
    config.alpn_protocols = vec![b"h3".to_vec()];
    let http3 = http3_with(authority, files);
    let error = rejected(&http3, quic_config(config), "a.example").await;
    // The alert certificate_expired (RFC 8446 section 6).
    assert!(error.contains("error 45"), "{error}");
    assert_eq!(http3.server.stats.tls_errors.load(Relaxed), 1);
    http3.server.stop().await;
}

/// A replayed request would repeat its effect (RFC 8470): no ticket allows early data.
#[tokio::test]
async fn resumed_sessions_have_no_early_data() {
    let authority = Authority::new();
    let files = authority.files(&["a.example"]);
    let mut config = authority.client(&[&TLS13]);
    config.enable_early_data = true;
    let server = start(&load(files.clone()), |_| {});
    let connector = TlsConnector::from(Arc::new(config.clone()));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        let mut has_early_data = false;
        let connecting = connector.connect_with(name, tcp, |connection| {
            has_early_data = connection.early_data().is_some();
        });
        let stream = connecting.await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        assert!(!has_early_data, "{kind:?}");
        // Tickets arrive with the response.
        assert_eq!(Client::new(stream).ask(get("/")).await.text(), "hello");
    }
    server.stop().await;

    config.alpn_protocols = vec![b"h3".to_vec()];
    let http3 = http3_with(authority, files);
    let endpoint = endpoint(quic_config(config));
    for _ in 0..2 {
        let connecting = endpoint.connect(http3.server.address, "a.example");
        let Err(connecting) = connecting.unwrap().into_0rtt() else {
            panic!("the ticket allows early data");
        };
        let mut client = Http3Client::new(connecting.await.unwrap()).await;
        assert_eq!(client.get("/").await.text(), "hello");
    }
    http3.server.stop().await;
}
