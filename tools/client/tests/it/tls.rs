//! TLS: HTTP versions and certificates.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use landfall_client::{Client, Error, HttpVersion, Source};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::{content, in_time, server::Server};

/// Terminates TLS in front of a server.
struct TlsProxy {
    endpoint: String,
    certificate: String,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TlsProxy {
    async fn start(server: SocketAddr) -> Self {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into();
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut inner = TcpStream::connect(server).await.unwrap();
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _ = copy_bidirectional(&mut stream, &mut inner).await;
                    }
                });
            }
        });
        Self {
            endpoint: format!("https://localhost:{port}/files/"),
            certificate: key.cert.pem(),
            connections,
            task,
        }
    }
}

#[tokio::test]
async fn each_version_of_http_works_over_tls() {
    for (version, used) in [
        (HttpVersion::Auto, http::Version::HTTP_11),
        (HttpVersion::Http1, http::Version::HTTP_11),
        (HttpVersion::Http2, http::Version::HTTP_2),
    ] {
        let server = Server::start().await;
        let proxy = TlsProxy::start(server.address).await;
        let client = Client::builder()
            .root_certificates(proxy.certificate.as_bytes())
            .http_version(version)
            .build()
            .unwrap();
        let bytes = content(3_000_000);
        let upload = client.upload(&proxy.endpoint, Source::bytes(bytes.clone()));
        let completed = in_time(upload.run()).await.unwrap();
        assert_eq!(completed.length, 3_000_000);
        // The server does not know of TLS, and names its URLs http://.
        assert_eq!(completed.url.scheme(), "https");
        let versions: Vec<_> = server.seen().iter().map(|one| one.version).collect();
        assert!(
            versions.iter().all(|version| *version == used),
            "{versions:?}"
        );
    }
}

#[tokio::test]
async fn a_server_without_tls_is_an_error_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!(
        "https://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        stream
    });
    let upload = Client::builder().build().unwrap();
    let upload = upload.upload(&endpoint, Source::bytes(content(10)));
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(error.to_string().contains("write http://"), "{error}");
    assert!(!error.is_retryable());
    drop(server);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_an_error_at_once() {
    let server = Server::start().await;
    let proxy = TlsProxy::start(server.address).await;
    let client = Client::builder().build().unwrap();
    let upload = client.upload(&proxy.endpoint, Source::bytes(content(10)));
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(matches!(error, Error::Certificate(_)), "{error:?}");
    assert!(!error.is_retryable());
    assert!(
        proxy.connections.load(Relaxed) <= 2,
        "{:?}",
        proxy.connections
    );

    let client = Client::builder()
        .accept_invalid_certificates(true)
        .build()
        .unwrap();
    let upload = client.upload(&proxy.endpoint, Source::bytes(content(10)));
    in_time(upload.run()).await.unwrap();
}
