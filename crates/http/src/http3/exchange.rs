//! A request and its response, on one stream.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::content::Http3Content;
use super::interim::Exchange;
use super::quic::{QuicConnection, SendStream};
use super::window::ReceiveWindow;
use crate::body::{OutgoingBody, RequestContent, ResponseBody};
use crate::info::{Endpoint, plain};
use crate::service::{ConnectionService, HttpService};
use crate::stats::NetStats;

type Sending = RequestStream<SendStream, Bytes>;

/// Both halves of a stream.
type Halves = RequestStream<super::quic::RequestStream, Bytes>;

/// Receives a request, lets the service respond, and sends the response.
pub(super) async fn serve_request<S: HttpService>(
    resolver: RequestResolver<QuicConnection, Bytes>,
    service: ConnectionService<S>,
    window: Arc<ReceiveWindow>,
) {
    let limit = service.shared.server.limits.header_timeout;
    let resolved = match limit.is_zero() {
        true => resolver.resolve_request().await,
        false => match timeout(limit, resolver.resolve_request()).await {
            Ok(resolved) => resolved,
            Err(_) => {
                NetStats::add(&service.shared.server.stats.header_timeouts, 1);
                return;
            }
        },
    };
    let served = match resolved {
        Ok((head, stream)) => respond(head, stream, service, window).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "stream ended");
    }
}

async fn respond<S: HttpService>(
    head: Request<()>,
    stream: Halves,
    service: ConnectionService<S>,
    window: Arc<ReceiveWindow>,
) -> Result<(), StreamError> {
    let (sending, receiving) = stream.split();
    let exchange = Arc::new(Exchange::default());
    let length = content_length(head.headers());
    let mut content = Http3Content::new(receiving, length, exchange.clone(), window.clone());
    let mut response = PendingResponse {
        exchange: &exchange,
        sending: Some(sending),
        interim: None,
    };
    poll_fn(|cx| {
        content.poll_first(cx);
        Poll::Ready(())
    })
    .await;
    let is_head = head.method() == Method::HEAD;
    let shared = service.shared.clone();
    let request = head.map(|()| RequestContent::Http3(Box::new(content)));
    let mut info = shared.info;
    info.peer = Endpoint::Tcp(plain(window.connection.remote_address()));
    let called = service.start(request, info);
    let Ok(answer) = response.wait_for(called).await?;
    let sent = response
        .send::<S>(answer, is_head, &shared.server.stats)
        .await;
    exchange.refuse_rest().await;
    sent
}

/// Sends interim responses while the service runs, then the final one.
struct PendingResponse<'a> {
    exchange: &'a Exchange,
    /// `None` while an interim response is written, and after an error.
    sending: Option<Sending>,
    /// It must be written whole before anything else.
    interim: Option<InterimWrite>,
}

type InterimWrite = Pin<Box<dyn Future<Output = Result<Sending, StreamError>> + Send>>;

impl PendingResponse<'_> {
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        loop {
            if let Some(interim) = &mut self.interim {
                let sent = ready!(interim.as_mut().poll(cx));
                self.interim = None;
                self.sending = Some(sent?);
            }
            let Some(response) = self.exchange.poll_interim(cx) else {
                return Poll::Ready(Ok(()));
            };
            let Some(sending) = self.sending.take() else {
                return Poll::Ready(Ok(()));
            };
            self.interim = Some(Box::pin(send_head(sending, response)));
        }
    }

    async fn wait_for<R>(&mut self, called: impl Future<Output = R>) -> Result<R, StreamError> {
        let mut called = pin!(called);
        let answer = poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_interim(cx) {
                // The service need not stop: the client may still resume.
                tracing::debug!(%error, "interim response not sent");
            }
            called.as_mut().poll(cx)
        });
        let answer = answer.await;
        let announcement = self.exchange.close();
        poll_fn(|cx| self.poll_interim(cx)).await?;
        if let Some(announcement) = announcement
            && let Some(sending) = self.sending.take()
        {
            self.sending = Some(send_head(sending, announcement).await?);
        }
        Ok(answer)
    }

    async fn send<S: HttpService>(
        self,
        response: Response<OutgoingBody<S::Body>>,
        is_head: bool,
        stats: &NetStats,
    ) -> Result<(), StreamError> {
        let mut sending = CutUnlessFinished(self.sending);
        send_response(&mut sending, response, is_head, stats).await
    }
}

async fn send_head(mut sending: Sending, head: Response<()>) -> Result<Sending, StreamError> {
    sending.send_response(head).await?;
    Ok(sending)
}

/// A response that is not finished must not look complete to its client.
struct CutUnlessFinished(Option<Sending>);

impl Drop for CutUnlessFinished {
    fn drop(&mut self) {
        if let Some(sending) = &mut self.0 {
            sending.stop_stream(Code::H3_REQUEST_CANCELLED);
        }
    }
}

async fn send_response<B: ResponseBody>(
    guarded: &mut CutUnlessFinished,
    response: Response<OutgoingBody<B>>,
    is_head: bool,
    stats: &NetStats,
) -> Result<(), StreamError> {
    let Some(sending) = &mut guarded.0 else {
        return Ok(());
    };
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONNECTION);
    if let Some(length) = body.size_hint().exact()
        && !is_head
        && !parts.headers.contains_key(CONTENT_LENGTH)
        && !matches!(parts.status.as_u16(), 100..200 | 204 | 304)
    {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    sending
        .send_response(Response::from_parts(parts, ()))
        .await?;
    let mut body = pin!(body);
    while let Some(frame) = body.as_mut().frame().await {
        if is_head {
            break;
        }
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%error, "response ended");
                return Ok(());
            }
        };
        match frame.into_data() {
            Ok(data) => {
                NetStats::add(&stats.bytes_out, data.len() as u64);
                sending.send_data(data).await?;
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    sending.send_trailers(trailers).await?;
                }
            }
        }
    }
    sending.finish().await?;
    guarded.0 = None;
    Ok(())
}

/// Anything that is not one number is for the service to reject.
fn content_length(fields: &HeaderMap) -> Option<u64> {
    let mut values = fields.get_all(CONTENT_LENGTH).iter();
    let value = values.next()?.to_str().ok()?;
    value.parse().ok().filter(|_| values.next().is_none())
}
