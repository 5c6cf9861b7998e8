//! Endpoints with TLS.

use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, header, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use landfall_hooks::http::Http;
use landfall_hooks::{HookName, Transport};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::{sample, settings};

/// A TLS endpoint that rejects every upload.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// Contains the certificate, `cert.pem`.
    dir: tempfile::TempDir,
    seen: Arc<Mutex<Vec<Request<()>>>>,
    accepting: JoinHandle<()>,
}

impl Endpoint {
    /// Starts an endpoint with these ALPN protocols.
    pub(super) async fn start(protocols: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let cert = made.cert.der().clone();
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();

        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = seen.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, all) = (acceptor.clone(), all.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(|request| refuse(request, all.clone()));
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            dir,
            seen,
            accepting,
        }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/hook", self.address.port())
    }

    /// Returns the heads of all requests.
    pub(super) fn seen(&self) -> Vec<Request<()>> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn refuse(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Request<()>>>>,
) -> Result<Response<String>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    assert!(body.starts_with(b"{\"Type\":"));
    seen.lock().unwrap().push(Request::from_parts(head, ()));
    let mut answer = Response::new(r#"{"RejectUpload":true}"#.to_owned());
    let json = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(answer)
}

#[tokio::test]
async fn http2_is_used_if_offered() {
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], hyper::Version::HTTP_2),
        (&["http/1.1"], hyper::Version::HTTP_11),
        (&[], hyper::Version::HTTP_11),
    ] {
        let endpoint = Endpoint::start(protocols).await;
        let mut settings = settings(endpoint.url());
        settings.skip_verify = true;
        let http = Http::new(settings).unwrap();
        for _ in 0..2 {
            assert!(
                http.deliver(&sample(HookName::PreCreate))
                    .await
                    .unwrap()
                    .reject_upload
            );
        }
        let seen = endpoint.seen();
        assert!(
            seen.iter().all(|one| one.version() == version),
            "{protocols:?}"
        );
        assert_eq!(seen.len(), 2);
        http.check().await.unwrap();
    }
}

const URL: &str = "LANDFALL_TEST_HOOK_URL";

/// The trusted roots come from the environment, so the test runs itself in another one.
#[tokio::test(flavor = "multi_thread")]
async fn trusted_certificate_is_required_and_sufficient() {
    if let Ok(url) = env::var(URL) {
        let http = Http::new(settings(url)).unwrap();
        assert!(
            http.deliver(&sample(HookName::PreCreate))
                .await
                .unwrap()
                .reject_upload
        );
        return;
    }
    let endpoint = Endpoint::start(&["http/1.1"]).await;
    let failed = Http::new(settings(endpoint.url())).map(|http| async move {
        let failure = http
            .deliver(&sample(HookName::PreCreate))
            .await
            .unwrap_err();
        assert!(failure.message.contains("certificate"), "{failure}");
    });
    match failed {
        Ok(delivering) => delivering.await,
        // Without root certificates, creation fails.
        Err(error) => assert!(error.to_string().contains("TLS for HTTP hooks")),
    }
    assert!(endpoint.seen().is_empty());
    let again = |trusted: &Path| {
        Command::new(env::current_exe().unwrap())
            .args([
                "http::tls::trusted_certificate_is_required_and_sufficient",
                "--exact",
            ])
            .env(URL, endpoint.url())
            .env("SSL_CERT_FILE", trusted)
            .output()
            .unwrap()
    };
    let trusting = again(&endpoint.dir.path().join("cert.pem"));
    let said = String::from_utf8_lossy(&trusting.stdout);
    assert!(trusting.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    let other = Endpoint::start(&["http/1.1"]).await;
    assert!(!again(&other.dir.path().join("cert.pem")).status.success());
}
