//! Streams of HTTP/3.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3::error::Code;
use http::HeaderMap;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use tokio::net::lookup_host;
use url::Url;

use super::connection::{MAX_BODY_BYTES, TOO_LONG, is_interim};
use super::streams::{Opener, Receiver, Sender, Sides};
use super::{ClientError, Response, stream_error, tls_error};

pub(super) struct Http3Opener {
    requests: SendRequest<h3_quinn::OpenStreams, Bytes>,
    /// Its socket has the connection.
    _endpoint: Endpoint,
}

/// Starts a connection to the host of a URL.
pub(super) async fn connect(
    url: &Url,
    tls: &rustls::ClientConfig,
) -> Result<Http3Opener, ClientError> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(443);
    let mut addresses = lookup_host((host, port))
        .await
        .map_err(ClientError::Connect)?;
    let address = addresses.next().ok_or(ClientError::Closed)?;
    let local: SocketAddr = match address.is_ipv4() {
        true => (Ipv4Addr::UNSPECIFIED, 0).into(),
        false => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let quic = QuicClientConfig::try_from(tls.clone()).map_err(tls_error)?;
    let mut endpoint = Endpoint::client(local).map_err(ClientError::Connect)?;
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(quic)));
    let connecting = endpoint.connect(address, host).map_err(tls_error)?;
    let connection = connecting.await.map_err(tls_error)?;
    let started = h3::client::new(h3_quinn::Connection::new(connection)).await;
    let (mut driver, requests) = started.map_err(stream_error)?;
    // It ends when the last stream and the opener are dropped; its error is that of the streams, too.
    tokio::spawn(async move { driver.wait_idle().await });
    Ok(Http3Opener {
        requests,
        _endpoint: endpoint,
    })
}

#[async_trait]
impl Opener for Http3Opener {
    async fn open(&mut self, head: http::Request<()>, ends: bool) -> Result<Sides, ClientError> {
        let opened = self.requests.send_request(head).await;
        let mut stream = opened.map_err(stream_error)?;
        if ends {
            stream.finish().await.map_err(stream_error)?;
        }
        let (sender, receiver) = stream.split();
        Ok((
            Box::new(Http3Sender(sender)),
            Box::new(Http3Receiver(receiver, false)),
        ))
    }
}

struct Http3Sender(RequestStream<h3_quinn::SendStream<Bytes>, Bytes>);

#[async_trait]
impl Sender for Http3Sender {
    async fn send(&mut self, data: Bytes, ends: bool) -> Result<(), ClientError> {
        self.0.send_data(data).await.map_err(stream_error)?;
        match ends {
            true => self.0.finish().await.map_err(stream_error),
            false => Ok(()),
        }
    }

    async fn finish(&mut self, trailers: HeaderMap) -> Result<(), ClientError> {
        if !trailers.is_empty() {
            let sent = self.0.send_trailers(trailers).await;
            sent.map_err(stream_error)?;
        }
        self.0.finish().await.map_err(stream_error)
    }

    fn reset(&mut self) {
        self.0.stop_stream(Code::H3_REQUEST_CANCELLED);
    }
}

/// The receiving side, and whether the final response has arrived.
struct Http3Receiver(RequestStream<h3_quinn::RecvStream, Bytes>, bool);

#[async_trait]
impl Receiver for Http3Receiver {
    async fn head(&mut self) -> Result<Response, ClientError> {
        if self.1 {
            return std::future::pending().await;
        }
        let head = self.0.recv_response().await.map_err(stream_error)?;
        let head = Response::from(&head.into_parts().0);
        self.1 = !is_interim(head.status);
        Ok(head)
    }

    async fn body(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut content = Vec::new();
        while let Some(mut data) = self.0.recv_data().await.map_err(stream_error)? {
            let size = data.remaining();
            content.extend_from_slice(&data.copy_to_bytes(size));
            if content.len() > MAX_BODY_BYTES {
                return Err(TOO_LONG);
            }
        }
        Ok(content)
    }
}
