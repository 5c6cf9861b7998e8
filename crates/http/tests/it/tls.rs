//! HTTP over TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use landfall_http::{
    CertificateFiles, ClientAuth, ConnectionLimits, Listener, Tls, TlsConfig, TlsFiles, TlsMode,
};
use landfall_test_services::until;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Client, Server, get, pattern, pause};

/// Issues certificates, whose files are in a directory.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Replaces the files `NAME.pem` and `NAME.key`.
    pub(crate) fn issue(&self, name: &str) -> CertificateFiles {
        self.issue_with(name, CertificateParams::new([name.to_owned()]).unwrap())
    }

    pub(crate) fn issue_with(&self, name: &str, params: CertificateParams) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = CertificateFiles {
            chain: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        };
        std::fs::write(&files.chain, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    pub(crate) fn files(&self, names: &[&str]) -> TlsFiles {
        TlsFiles {
            certificates: names.iter().map(|name| self.issue(name)).collect(),
            client_authorities: None,
            client_auth: ClientAuth::Required,
        }
    }

    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.builder(versions).with_no_client_auth()
    }

    pub(crate) fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        certificate: &CertificateFiles,
    ) -> ClientConfig {
        let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
        let chain = vec![read(&certificate.chain)];
        let builder = self.builder(versions);
        builder.with_client_auth_cert(chain, key).unwrap()
    }

    fn builder(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
    }
}

pub(crate) const ALL: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

pub(crate) fn start(tls: &Tls, change: impl FnOnce(&mut ConnectionLimits)) -> Server {
    let listener = Listener::tcp("127.0.0.1", 0).unwrap().with_tls(tls.clone());
    Server::on(listener, Duration::from_secs(5), change)
}

pub(crate) fn load(files: TlsFiles) -> Tls {
    Tls::new(TlsConfig::load(files, TlsMode::Tls12).unwrap())
}

pub(crate) async fn handshake(
    server: &Server,
    config: impl Into<Arc<ClientConfig>>,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(server.address).await.unwrap();
    wrap(tcp, config, name).await
}

pub(crate) async fn wrap(
    tcp: TcpStream,
    config: impl Into<Arc<ClientConfig>>,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(config.into()).connect(name, tcp).await
}

pub(crate) async fn connect(
    server: &Server,
    config: impl Into<Arc<ClientConfig>>,
) -> Client<TlsStream<TcpStream>> {
    Client::new(handshake(server, config, "a.example").await.unwrap())
}

#[tokio::test]
async fn requests_and_long_bodies_pass_in_both_versions() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    for version in ALL {
        let server = start(&tls, |_| {});
        let mut client = connect(&server, authority.client(&[version])).await;
        assert_eq!(client.ask(get("/")).await.text(), "hello");
        let body = pattern(3_000_001);
        for size in [1, 5_000, 100_000, body.len()] {
            let head =
                format!("PUT /pattern HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
            client.send([head.as_bytes(), &body[..size]].concat()).await;
            let text = client.answer().await.unwrap();
            assert!(
                text.text().starts_with(&format!("{size} ")),
                "{}",
                text.text()
            );
        }
        assert_eq!(
            client.ask(get("/bytes/3000000")).await.body.len(),
            3_000_000
        );
        // An idle connection waits without hyper.
        pause().await;
        assert_eq!(client.ask(get("/")).await.text(), "hello");
        assert_eq!(server.stats.tls_handshakes.load(Relaxed), 1);
        server.stop().await;
    }
}

#[tokio::test]
async fn only_responses_over_tls_demand_it() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    let hsts = |limits: &mut ConnectionLimits| {
        limits.hsts = Some(http::HeaderValue::from_static("max-age=60"));
    };
    let server = start(&tls, hsts);
    let mut client = connect(&server, authority.client(ALL)).await;
    for path in ["/", "/refuse"] {
        let answer = client.ask(get(path)).await;
        let value = answer.header("strict-transport-security");
        assert_eq!(value, Some("max-age=60"), "{path}");
    }
    // Rejected before the service, by the validator and by a check of all versions.
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("PUT / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
    ] {
        let mut client = connect(&server, authority.client(ALL)).await;
        let answer = client.ask(request).await;
        assert_eq!(answer.status, status);
        let value = answer.header("strict-transport-security");
        assert_eq!(value, Some("max-age=60"), "{request}");
    }
    server.stop().await;

    let server = Server::start(hsts);
    let answer = server.connect().await.ask(get("/")).await;
    assert_eq!(answer.header("strict-transport-security"), None);
    server.stop().await;
}

/// The connection of a slow body is taken from hyper and given back, with plaintext that TLS has in its
/// buffer.
#[tokio::test]
async fn slow_bodies_are_handed_over() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    let server = start(&tls, |_| {});
    let mut client = connect(&server, authority.client(ALL)).await;
    let body = pattern(400_100);
    let head = format!(
        "PUT /pattern HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(head).await;
    let (bytes, burst) = body.split_at(50);
    for byte in bytes {
        client.send([*byte]).await;
        client.stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pause().await;
    client.send([burst, get("/").as_bytes()].concat()).await;
    let text = client.answer().await.unwrap();
    assert!(text.text().starts_with("400100 "), "{}", text.text());
    assert_eq!(client.answer().await.unwrap().text(), "hello");
    server.stop().await;
}

#[tokio::test]
async fn a_client_chooses_http2_by_alpn() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    let server = start(&tls, |_| {});
    let mut config = authority.client(ALL);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = handshake(&server, config, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let http2 = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = http2.await.unwrap();
    tokio::spawn(connection);
    let body = pattern(3_000_001);
    let request = Request::put("https://a.example/pattern")
        .body(Full::new(bytes::Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(text.starts_with(b"3000001 "), "{text:?}");
    let mut config = authority.client(ALL);
    config.alpn_protocols = vec![b"spdy/3".to_vec()];
    assert!(handshake(&server, config, "a.example").await.is_err());
    drop(sender);
    server.stop().await;
}

fn presented(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].clone().into_owned()
}

fn read(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let authority = Authority::new();
    let files = authority.files(&["a.example", "b.example", "*.c.example"]);
    let chains: Vec<_> = files
        .certificates
        .iter()
        .map(|pair| read(&pair.chain))
        .collect();
    let server = start(&load(files), |_| {});
    for (name, expected) in [("a.example", 0), ("b.example", 1), ("x.c.example", 2)] {
        let stream = handshake(&server, authority.client(ALL), name)
            .await
            .unwrap();
        assert_eq!(presented(&stream), chains[expected], "{name}");
    }
    // Another name, or none, gets the first certificate, which this client rejects.
    for name in ["d.example", "127.0.0.1"] {
        let error = handshake(&server, authority.client(ALL), name)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
    server.stop().await;
}

#[tokio::test]
async fn replaced_files_are_used_for_new_connections() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    let server = start(&tls, |_| {});
    assert!(!tls.reload_changed_files().unwrap());
    let mut before = connect(&server, authority.client(ALL)).await;
    let old = presented(&before.stream);
    authority.issue("a.example");
    assert!(tls.reload_changed_files().unwrap());
    assert!(!tls.reload_changed_files().unwrap());
    let after = connect(&server, authority.client(ALL)).await;
    assert_ne!(presented(&after.stream), old);
    assert_eq!(before.ask(get("/")).await.text(), "hello");

    let current = presented(&after.stream);
    std::fs::write(authority.path("a.example.key"), "no key").unwrap();
    let error = tls.reload_changed_files().unwrap_err();
    assert_eq!(error.path, authority.path("a.example.key"));
    // It is reported once.
    assert!(!tls.reload_changed_files().unwrap());
    let later = connect(&server, authority.client(ALL)).await;
    assert_eq!(presented(&later.stream), current);
    drop((before, after, later));
    server.stop().await;
}

#[tokio::test]
async fn sessions_are_resumed_also_after_a_reload() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    let server = start(&tls, |_| {});
    for version in ALL {
        let config = Arc::new(authority.client(&[version]));
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let stream = handshake(&server, config.clone(), "a.example")
                .await
                .unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
            // Tickets arrive with the first answer.
            assert_eq!(Client::new(stream).ask(get("/")).await.text(), "hello");
            authority.issue("a.example");
            assert!(tls.reload_changed_files().unwrap());
        }
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [Full, Resumed, Resumed]);
    }
    server.stop().await;
}

#[tokio::test]
async fn clients_need_certificates_of_the_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut files = authority.files(&["a.example"]);
    files.client_authorities = Some(authority.path("ca.pem"));
    let server = start(&load(files), |_| {});
    let with_certificate =
        |issuer: &Authority| authority.client_with(ALL, &issuer.issue("client.example"));
    let mut client = connect(&server, with_certificate(&authority)).await;
    assert_eq!(client.ask(get("/")).await.text(), "hello");
    for config in [authority.client(ALL), with_certificate(&other)] {
        // In TLS 1.3 the client learns of it after the handshake.
        let mut client = connect(&server, config).await;
        client.stream.write_all(get("/").as_bytes()).await.ok();
        assert!(client.closed().await);
    }
    assert_eq!(server.stats.tls_errors.load(Relaxed), 2);
    server.stop().await;
}

/// A certificate with this common name and these alternative names.
fn client_certificate(
    authority: &Authority,
    common_name: Option<&str>,
    names: &[SanType],
) -> CertificateFiles {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.subject_alt_names = names.to_vec();
    authority.issue_with("client", params)
}

#[tokio::test]
async fn optional_certificates_of_clients_are_verified_and_have_a_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut files = authority.files(&["a.example"]);
    files.client_authorities = Some(authority.path("ca.pem"));
    files.client_auth = ClientAuth::Optional;
    let server = start(&load(files), |_| {});
    let name = async |config: Arc<ClientConfig>| {
        let mut client = connect(&server, config).await;
        client.ask(get("/certificate")).await.text()
    };
    assert_eq!(name(authority.client(ALL).into()).await, "None");
    let uri = SanType::URI("spiffe://example/backend".try_into().unwrap());
    let host = SanType::DnsName("backend.example".try_into().unwrap());
    for (common_name, names, expected) in [
        (
            Some("backend"),
            &[uri.clone()][..],
            r#"Some(Some("backend"))"#,
        ),
        (
            None,
            &[uri][..],
            r#"Some(Some("spiffe://example/backend"))"#,
        ),
        (Some(""), &[host][..], r#"Some(Some("backend.example"))"#),
        (None, &[], "Some(None)"),
    ] {
        let files = client_certificate(&authority, common_name, names);
        for version in ALL {
            let config = Arc::new(authority.client_with(&[version], &files));
            // The second connection resumes the session of the first one.
            for _ in 0..2 {
                assert_eq!(name(config.clone()).await, expected, "{version:?}");
            }
        }
    }
    let foreign = client_certificate(&other, Some("backend"), &[]);
    let mut client = connect(&server, authority.client_with(ALL, &foreign)).await;
    client.stream.write_all(get("/").as_bytes()).await.ok();
    assert!(client.closed().await);
    server.stop().await;
}

#[tokio::test]
async fn modes_limit_versions_and_ciphers() {
    let authority = Authority::new();
    let files = authority.files(&["a.example"]);
    for (mode, tls12, tls13) in [
        (TlsMode::Tls12, true, true),
        (TlsMode::Tls12Strong, true, false),
        (TlsMode::Tls13, false, true),
    ] {
        let tls = Tls::new(TlsConfig::load(files.clone(), mode).unwrap());
        let server = start(&tls, |_| {});
        for (version, works) in [(&version::TLS12, tls12), (&version::TLS13, tls13)] {
            let outcome = handshake(&server, authority.client(&[version]), "a.example").await;
            assert_eq!(outcome.is_ok(), works, "{mode:?} {version:?}");
            let Ok(stream) = outcome else { continue };
            let suite = stream
                .get_ref()
                .1
                .negotiated_cipher_suite()
                .unwrap()
                .suite();
            let is_strong = format!("{suite:?}").contains("AES_256_GCM");
            assert!(is_strong || mode != TlsMode::Tls12Strong, "{suite:?}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn http_without_tls_gets_an_explanation_and_silence_a_close() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    let server = start(&tls, |limits| {
        limits.header_timeout = Duration::from_millis(300);
    });
    let mut plain = server.connect().await;
    let answer = plain.ask(get("/")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("https://"), "{}", answer.text());
    assert!(plain.closed().await);
    let mut noise = server.connect().await;
    noise.send([0x16, 3, 1, 0xff, 0xff, 7, 7]).await;
    let mut silent = server.connect().await;
    assert!(silent.closed().await);
    assert!(noise.stream.write_all(&[0; 70_000]).await.is_ok() || noise.closed().await);
    server.stop().await;
}

/// A client that reads nothing does not keep the response forever.
#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    let authority = Authority::new();
    let tls = load(authority.files(&["a.example"]));
    let server = start(&tls, |limits| {
        limits.write_timeout = Duration::from_millis(300);
    });
    let mut client = connect(&server, authority.client(ALL)).await;
    client.send(get("/bytes/100000000")).await;
    until(async || server.stats.write_timeouts.load(Relaxed) > 0).await;
    server.stop().await;
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let (a, b) = (authority.issue("a.example"), authority.issue("b.example"));
    let pair = |chain: &Path, key: &Path| {
        let files = TlsFiles {
            certificates: vec![CertificateFiles {
                chain: chain.to_owned(),
                key: key.to_owned(),
            }],
            client_authorities: None,
            client_auth: ClientAuth::Required,
        };
        TlsConfig::load(files, TlsMode::Tls12)
            .unwrap_err()
            .to_string()
    };
    let empty = authority.path("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let missing = authority.path("missing.pem");
    assert!(pair(&missing, &a.key).ends_with("missing.pem: there is no such file"));
    assert!(pair(&empty, &a.key).ends_with("there is no certificate"));
    assert!(pair(&a.key, &a.key).ends_with("there is no certificate"));
    assert!(pair(&a.chain, &a.chain).ends_with("there is no private key"));
    let text = pair(&a.chain, &b.key);
    assert!(
        text.contains("b.example.key: not the private key of"),
        "{text}"
    );
    let files = TlsFiles {
        certificates: vec![a],
        client_authorities: Some(empty),
        client_auth: ClientAuth::Required,
    };
    let error = TlsConfig::load(files, TlsMode::Tls12).unwrap_err();
    assert!(error.path.ends_with("empty.pem"), "{error}");
}
