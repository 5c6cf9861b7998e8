//! An HTTP/1.1 client whose exchanges can be observed: content in steps, interim responses, early ends.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

use super::seconds;

const MAX_RESPONSE_BODY: usize = 64 * 1024;
const MAX_INTERIM_RESPONSES: usize = 16;

pub(super) type Response = http::Response<Bytes>;

#[derive(Debug)]
pub(super) struct Interim {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

pub(super) struct Client {
    tls: Option<ClientConfig>,
    pub(super) timeout: Duration,
}

impl Client {
    /// Loads the system's root certificates if the scheme is `https`.
    pub(super) fn new(url: &Url, timeout: Duration) -> anyhow::Result<Self> {
        let mut client = Self { tls: None, timeout };
        client.prepare(url)?;
        Ok(client)
    }

    /// A redirect may lead from `http` to `https`.
    pub(super) fn prepare(&mut self, url: &Url) -> anyhow::Result<()> {
        if url.scheme() != "https" || self.tls.is_some() {
            return Ok(());
        }
        let roots = landfall_net::system_certificates(true)?;
        self.tls = Some(landfall_net::client_config(roots)?);
        Ok(())
    }

    async fn open(&self, url: &Url) -> Result<TcpStream, String> {
        let port = url.port_or_known_default().unwrap_or(80);
        let stream = match url.host() {
            Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
            Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await,
            Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await,
            None => return Err("the URL has no host".to_owned()),
        };
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        // Small steps of content must not wait for more.
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        Ok(stream)
    }

    async fn secure(
        &self,
        tls: &ClientConfig,
        url: &Url,
        protocols: &[&str],
    ) -> Result<TlsStream<TcpStream>, String> {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let mut tls = tls.clone();
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        tls.alpn_protocols = protocols.collect();
        let stream = self.open(url).await?;
        let connected = TlsConnector::from(Arc::new(tls)).connect(name, stream);
        connected
            .await
            .map_err(|error| format!("the TLS handshake fails: {error}"))
    }

    /// Returns the protocol that the server selects, or `None` if it selects none.
    pub(super) async fn negotiate(
        &self,
        url: &Url,
        protocols: &[&str],
    ) -> Result<Option<String>, String> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        let stream = self.within(self.secure(tls, url, protocols)).await?;
        let selected = stream.get_ref().1.alpn_protocol();
        Ok(selected.map(|name| String::from_utf8_lossy(name).into_owned()))
    }

    pub(super) async fn connect(&self, url: &Url) -> Result<Connection, String> {
        let sender = self.within(async {
            match &self.tls {
                Some(tls) if url.scheme() == "https" => {
                    start(self.secure(tls, url, &["http/1.1"]).await?).await
                }
                _ => start(self.open(url).await?).await,
            }
        });
        Ok(Connection {
            sender: sender.await?,
            timeout: self.timeout,
        })
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let result = timeout(self.timeout, work).await;
        result.unwrap_or_else(|_| Err(format!("no connection within {}", seconds(self.timeout))))
    }

    /// Sends a request with its content on a new connection.
    pub(super) async fn send(
        &self,
        url: &Url,
        request: Request<()>,
        content: Bytes,
    ) -> Result<Response, String> {
        let mut connection = self.connect(url).await?;
        let mut exchange = connection.start(request, content.len() as u64).await?;
        exchange.send(content).await;
        exchange.response().await
    }
}

async fn start<S>(stream: S) -> Result<SendRequest<Content>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(text)?;
    // It ends with the sender, which also has its errors.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn text(error: hyper::Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

pub(super) struct Connection {
    sender: SendRequest<Content>,
    timeout: Duration,
}

impl Connection {
    /// Sends the head of a request with `length` bytes of content, which [`Exchange::send`] adds.
    pub(super) async fn start(
        &mut self,
        request: Request<()>,
        length: u64,
    ) -> Result<Exchange, String> {
        let ready = timeout(self.timeout, self.sender.ready()).await;
        let ready = ready.map_err(|_| "the connection stays busy".to_owned())?;
        ready.map_err(text)?;
        let (content, chunks) = mpsc::channel(1);
        let (interim, interims) = mpsc::channel(MAX_INTERIM_RESPONSES);
        let mut request = request.map(|()| Content {
            chunks,
            remaining: length,
        });
        if length > 0 || request.method() == http::Method::POST {
            let headers = request.headers_mut();
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        hyper::ext::on_informational(&mut request, move |response| {
            let (status, headers) = (response.status(), response.headers().clone());
            let _ = interim.try_send(Interim { status, headers });
        });
        let response = self.sender.send_request(request);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let (head, body) = response.await.map_err(text)?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE_BODY).collect().await;
            let body = body.map_err(|error| format!("the response is cut: {error}"))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        });
        Ok(Exchange {
            content,
            interims,
            task,
            result: None,
            timeout: self.timeout,
        })
    }
}

/// A running request. Dropping it closes its connection.
pub(super) struct Exchange {
    content: mpsc::Sender<Bytes>,
    interims: mpsc::Receiver<Interim>,
    task: JoinSet<Result<Response, String>>,
    result: Option<Result<Response, String>>,
    timeout: Duration,
}

impl Exchange {
    /// Adds content; false if the request has ended, or takes no more content within the timeout.
    pub(super) async fn send(&mut self, content: Bytes) -> bool {
        if content.is_empty() {
            return true;
        }
        let sent = timeout(self.timeout, self.content.send(content)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Waits at most `duration` for the response, which [`Self::response`] returns; true if it is there.
    pub(super) async fn has_ended(&mut self, duration: Duration) -> bool {
        if self.result.is_none()
            && let Ok(Some(joined)) = timeout(duration, self.task.join_next()).await
        {
            self.result = Some(joined.unwrap_or_else(|error| Err(error.to_string())));
        }
        self.result.is_some()
    }

    /// Returns the next interim response, or `None` after the response.
    pub(super) async fn interim(&mut self) -> Option<Interim> {
        self.interims.recv().await
    }

    pub(super) async fn response(mut self) -> Result<Response, String> {
        self.has_ended(self.timeout).await;
        let late = || Err(format!("no response within {}", seconds(self.timeout)));
        self.result.unwrap_or_else(late)
    }
}

struct Content {
    chunks: mpsc::Receiver<Bytes>,
    remaining: u64,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = ready!(self.chunks.poll_recv(context));
        Poll::Ready(chunk.map(|chunk| {
            self.remaining = self.remaining.saturating_sub(chunk.len() as u64);
            Ok(Frame::data(chunk))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
