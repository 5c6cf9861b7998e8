//! Renewal information (ARI, RFC 9773), which Debian's Pebble does not have: a proxy adds it.

use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use landfall_test_services::Pebble;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::serve_acme::{SETTLED, Site, YEAR, connect};
use crate::serve_harness::eventually;

/// A proxy in front of Pebble: the first certificate is due for renewal at once, and others in a year.
struct RenewalInfo {
    pebble_port: u16,
    connector: TlsConnector,
    /// The certificates whose renewal information was requested, and those that orders replaced.
    asked: Mutex<Vec<String>>,
    replaced: Mutex<Vec<String>>,
}

impl RenewalInfo {
    /// Returns the URL of the directory, too.
    async fn start(pebble: &Pebble) -> (Arc<Self>, String) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = CertificateDer::from_pem_file(pebble.authority()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let [chain, key] = pebble.server_files().map(|file| fs::read(file).unwrap());
        let chain = vec![CertificateDer::from_pem_slice(&chain).unwrap()];
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&key).unwrap())
            .unwrap();
        let proxy = Arc::new(Self {
            pebble_port: pebble.port(),
            connector: Arc::new(client).into(),
            asked: Mutex::default(),
            replaced: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        tokio::spawn({
            let proxy = proxy.clone();
            async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let (proxy, acceptor) = (proxy.clone(), acceptor.clone());
                    tokio::spawn(async move {
                        let tls = acceptor.accept(tcp).await.unwrap();
                        let service = service_fn(move |request| {
                            let proxy = proxy.clone();
                            async move { Ok::<_, Infallible>(proxy.respond(request, port).await) }
                        });
                        let server = hyper::server::conn::http1::Builder::new();
                        let _ = server.serve_connection(TokioIo::new(tls), service).await;
                    });
                }
            }
        });
        (proxy, format!("https://localhost:{port}/dir"))
    }

    async fn respond(&self, request: Request<Incoming>, port: u16) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        if let Some(id) = path.strip_prefix("/renewal-info/") {
            return self.window(id);
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let replaces = replaces(&body);
        let is_directory = head.method == Method::GET && path == "/dir";
        let (mut head, mut body) = self
            .forward(Request::from_parts(head, Full::new(body)))
            .await;
        let mut add = |name: &str, value: &str| {
            let mut json: Value = serde_json::from_slice(&body).unwrap();
            json[name] = value.into();
            body = json.to_string().into();
        };
        if is_directory {
            add(
                "renewalInfo",
                &format!("https://localhost:{port}/renewal-info"),
            );
        } else if let Some(id) = replaces.filter(|_| head.status.is_success()) {
            add("replaces", &id);
            self.replaced.lock().unwrap().push(id);
        }
        head.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(head, Full::new(body))
    }

    fn window(&self, id: &str) -> Response<Full<Bytes>> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(id.to_owned());
        let year = if asked[0] == id { 2001 } else { 2101 };
        let window = json!({ "suggestedWindow": {
            "start": format!("{year}-01-01T00:00:00Z"), "end": format!("{year}-01-02T00:00:00Z"),
        }});
        let mut response = Response::new(Full::new(window.to_string().into()));
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, 21600.into());
        response
    }

    /// Pebble makes URLs of the `Host` of the request, so they lead here.
    async fn forward(&self, request: Request<Full<Bytes>>) -> (http::response::Parts, Bytes) {
        let address = (Ipv4Addr::LOCALHOST, self.pebble_port);
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = self.connector.connect(name, tcp).await.unwrap();
        let client = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await;
        let (mut sender, connection) = client.unwrap();
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        (head, body.collect().await.unwrap().to_bytes())
    }
}

/// The field of an order (a signed JSON object).
fn replaces(body: &[u8]) -> Option<String> {
    let signed: Value = serde_json::from_slice(body).ok()?;
    let payload = BASE64_URL_SAFE_NO_PAD
        .decode(signed["payload"].as_str()?)
        .ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    Some(payload["replaces"].as_str()?.to_owned())
}

#[test]
fn certificates_are_renewed_when_the_authority_suggests() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut site = Site::new(YEAR);
    let (proxy, directory) = runtime.block_on(RenewalInfo::start(&site.pebble));
    site.directory = directory;
    let server = site.start(&[]);
    let roots = site.roots();
    let asked = || proxy.asked.lock().unwrap().clone();
    eventually("the certificate is not renewed", || asked().len() == 2);
    assert_ne!(asked()[0], asked()[1]);
    assert_eq!(*proxy.replaced.lock().unwrap(), asked()[..1]);
    connect(site.ports.https(), "landfall.test", &roots).unwrap();
    thread::sleep(SETTLED);
    let orders = server.log().matches("ordering a certificate").count();
    assert_eq!(orders, 2, "{}", server.log());
    assert_eq!(asked().len(), 2);
    server.stop();
}
