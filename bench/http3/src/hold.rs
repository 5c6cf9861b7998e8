//! Clients that have sent some bytes, or none, and are silent.

use std::io::Read as _;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request};
use quinn::Endpoint;

use super::Failure;

const LENGTH: &str = "1048576";

pub(crate) async fn hold(
    endpoint: &Endpoint,
    address: SocketAddr,
    path: &str,
    [connections, streams, bytes]: [usize; 3],
) -> Result<(), Failure> {
    let mut open = Vec::new();
    for _ in 0..connections {
        let quic = endpoint.connect(address, "localhost")?.await?;
        let (mut driver, mut sender) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
        tokio::spawn(async move { driver.wait_idle().await });
        let mut exchanges = Vec::new();
        for _ in 0..streams {
            let request = Request::builder()
                .method(Method::POST)
                .uri(format!("https://localhost{path}"))
                .header("tus-resumable", "1.0.0")
                .header("upload-length", LENGTH)
                .header("content-type", "application/offset+octet-stream");
            let mut exchange = sender.send_request(request.body(())?).await?;
            if bytes > 0 {
                exchange.send_data(Bytes::from(vec![0; bytes])).await?;
            }
            exchanges.push(exchange);
        }
        open.push((sender, exchanges));
    }
    println!("ready");
    let input = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(input).await??;
    drop(open);
    endpoint.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    Ok(())
}
