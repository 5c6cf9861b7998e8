//! HTTP/3 by the program.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use h3::client::{RequestStream, SendRequest};
use h3::error::Code;
use h3_quinn::{BidiStream, OpenStreams};
use http::{Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, VarInt};

use crate::serve_harness::TIMEOUT;
use crate::serve_streams::{self, StreamClient};
use crate::serve_tls::Https;

struct Client {
    sender: SendRequest<OpenStreams, Bytes>,
    quic: quinn::Connection,
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
        Self { sender, quic }
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
    let https = Https::start(&["-http3"]);
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
async fn a_creation_of_the_draft_is_announced_and_resumed() {
    serve_streams::a_creation_of_the_draft_is_announced_and_resumed::<Client>(start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_right_after_random_resets_and_lost_connections() {
    serve_streams::bytes_are_right_after_random_cuts::<Client>(start()).await;
}
