//! HTTP/2 by the program.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{Method, Request, Response};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::serve_harness::TIMEOUT;
use crate::serve_streams::{self, DRAFT, StreamClient, location};
use crate::serve_tls::Https;

struct Client {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

struct Exchange {
    response: ResponseFuture,
    sending: SendStream<Bytes>,
}

impl StreamClient for Client {
    type Exchange = Exchange;

    async fn connect(https: &Https) -> Self {
        let tcp = TcpStream::connect(https.server.address()).await.unwrap();
        let tls = TlsConnector::from(Arc::new(https.client_config(b"h2")));
        let name = ServerName::try_from("landfall.test").unwrap();
        let stream = tls.connect(name, tcp).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move {
            // The server may have closed it.
            let _ = connection.await;
        });
        Self { sender, connection }
    }

    async fn begin(&mut self, request: Request<()>) -> Exchange {
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (response, sending) = sender.send_request(request, false).unwrap();
        Exchange { response, sending }
    }

    async fn send(exchange: &mut Exchange, mut data: Bytes, is_end: bool) {
        let sending = &mut exchange.sending;
        while !data.is_empty() {
            sending.reserve_capacity(data.len().min(64 * 1024));
            let Some(Ok(capacity)) = poll_fn(|cx| sending.poll_capacity(cx)).await else {
                return;
            };
            let piece = data.split_to(capacity.min(data.len()));
            if sending.send_data(piece, false).is_err() {
                return;
            }
            // Some of it leaves before the next piece.
            tokio::task::yield_now().await;
        }
        if is_end {
            sending.send_data(Bytes::new(), true).unwrap();
        }
    }

    async fn head(exchange: &mut Exchange) -> Response<()> {
        let response = &mut exchange.response;
        let next = async {
            match poll_fn(|cx| response.poll_informational(cx)).await {
                Some(interim) => interim.unwrap(),
                None => response.await.unwrap().map(drop),
            }
        };
        let next = tokio::time::timeout(TIMEOUT, next);
        next.await.expect("no response came")
    }

    fn reset(mut exchange: Exchange) {
        exchange.sending.send_reset(Reason::CANCEL);
    }

    fn kill(&mut self) {
        self.connection.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_by_urlsession_is_cut_at_every_byte() {
    serve_streams::an_upload_by_urlsession_is_cut_at_every_byte::<Client>(Https::start(&[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_right_after_random_resets_and_lost_connections() {
    serve_streams::bytes_are_right_after_random_cuts::<Client>(Https::start(&[])).await;
}

/// `draft/interruption/cut-creation-does-not-complete`: an end without END_STREAM does not complete an upload, whatever the reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_without_an_error_completes_no_upload() {
    let https = Https::start(&[]);
    let mut client = Client::connect(&https).await;
    let fields = [DRAFT, ("upload-complete", "?1")];
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        let mut exchange = client.open(Method::POST, "/files/", &fields).await;
        let path = location(&Client::head(&mut exchange).await);
        Client::send(&mut exchange, "hello".into(), false).await;
        // The offset is that of the last commit.
        tokio::time::sleep(Duration::from_millis(50)).await;
        exchange.sending.send_reset(reason);
        drop(exchange);
        while client.offset(&path).await < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let state = client.ask(Method::HEAD, &path, &[DRAFT], b"").await;
        assert_eq!(state.headers()["upload-complete"], "?0");
    }
    serve_streams::stop(https).await;
}
