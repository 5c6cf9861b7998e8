//! Uploads to a server of HTTP/3: `http3 ADDRESS PATH CERTIFICATE COUNT BYTES CONCURRENCY` sends COUNT uploads of BYTES each
//! over one connection, CONCURRENCY at a time: the creation without content, and all of it in one PATCH if
//! BYTES is more than 1 MiB, or else the creation with content. The certificate is DER, for `localhost`.
//! HTTP3_CONGESTION=bbr in the environment replaces cubic.
//!
//! `http3 hold ADDRESS PATH CERTIFICATE CONNECTIONS STREAMS BYTES` opens CONNECTIONS, each with STREAMS uploads
//! of 1 MiB, sends BYTES of each and then nothing. It prints `ready`, and ends with its input.

mod hold;

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::{Method, Request, Response};
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig, VarInt};

type Failure = Box<dyn Error + Send + Sync>;

const CHUNK: usize = 256 * 1024;
const SMALL: usize = 1 << 20;
/// Bytes that may be in transit.
const WINDOW: u32 = 16 << 20;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Failure> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let is_held = given.first().is_some_and(|first| first == "hold");
    let [address, path, certificate, numbers @ ..] = &given[usize::from(is_held)..] else {
        return Err("http3 [hold] ADDRESS PATH CERTIFICATE NUMBER NUMBER NUMBER".into());
    };
    let (address, endpoint) = (address.parse()?, endpoint(certificate)?);
    let numbers: Result<Vec<usize>, _> = numbers.iter().map(|number| number.parse()).collect();
    let [count, bytes, concurrency] = numbers?[..] else {
        return Err("three numbers are needed".into());
    };
    if is_held {
        return hold::hold(&endpoint, address, path, [count, bytes, concurrency]).await;
    }
    let connection = endpoint.connect(address, "localhost")?.await?;
    let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection)).await?;
    let driving = tokio::spawn(async move { driver.wait_idle().await });
    let sent = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let (sent, sender, path) = (sent.clone(), sender.clone(), path.clone());
        workers.spawn(async move {
            while sent.fetch_add(1, Relaxed) < count {
                upload(sender.clone(), &path, bytes).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    drop(sender);
    driving.abort();
    Ok(())
}

fn endpoint(certificate: &str) -> Result<Endpoint, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(std::fs::read(certificate)?.into())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport
        .send_window(WINDOW.into())
        .receive_window(VarInt::from_u32(WINDOW));
    if std::env::var_os("HTTP3_CONGESTION").is_some_and(|name| name == "bbr") {
        transport.congestion_controller_factory(Arc::new(BbrConfig::default()));
    }
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into())?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

async fn upload(
    sender: SendRequest<OpenStreams, Bytes>,
    path: &str,
    bytes: usize,
) -> Result<(), Failure> {
    let length = bytes.to_string();
    let create = |uri: String| {
        Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header("tus-resumable", "1.0.0")
            .header("upload-length", &length)
    };
    let url = |path: &str| format!("https://localhost{path}");
    let content = ("content-type", "application/offset+octet-stream");
    if bytes <= SMALL {
        let request = create(url(path)).header(content.0, content.1);
        let response = ask(sender, request.body(())?, bytes).await?;
        return expect(&response, 201);
    }
    let created = ask(sender.clone(), create(url(path)).body(())?, 0).await?;
    expect(&created, 201)?;
    let location = created.headers().get("location").ok_or("no Location")?;
    let location = location.to_str()?;
    let at = location.find(path).ok_or("another Location")?;
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(url(&location[at..]))
        .header("tus-resumable", "1.0.0")
        .header("upload-offset", "0")
        .header(content.0, content.1);
    let response = ask(sender, request.body(())?, bytes).await?;
    expect(&response, 204)
}

fn expect(response: &Response<()>, status: u16) -> Result<(), Failure> {
    match response.status().as_u16() == status {
        true => Ok(()),
        false => Err(format!("{response:?}").into()),
    }
}

async fn ask(
    mut sender: SendRequest<OpenStreams, Bytes>,
    request: Request<()>,
    mut bytes: usize,
) -> Result<Response<()>, Failure> {
    let chunk = Bytes::from(vec![0; CHUNK.min(bytes)]);
    let mut stream = sender.send_request(request).await?;
    while bytes > 0 {
        let part = chunk.slice(..chunk.len().min(bytes));
        bytes -= part.len();
        stream.send_data(part).await?;
    }
    stream.finish().await?;
    let response = stream.recv_response().await?;
    while stream.recv_data().await?.is_some() {}
    Ok(response)
}
