//! The response to a request on a stream.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use landfall::service::Peer;
use landfall_protocol::date_value;

use super::{Exchange, SendHalf, StreamContent, task};
use crate::body::{OutgoingBody, RequestContent, ResponseBody};
use crate::connection::StreamGuard;
use crate::limits::timeouts::WRITING;
use crate::service::{ConnectionService, HttpService, ServiceCall, check_stream};

/// Fields of a connection of HTTP/1.1 (RFC 9113 section 8.2.2).
const CONNECTION_FIELDS: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Lets the service respond to a request, sends the response, and refuses the rest of the content.
///
/// All but the waiting is done before the future is created, which is kept for each silent request.
pub(crate) fn respond<S: HttpService, T: SendHalf>(
    head: Request<()>,
    content: StreamContent,
    sending: T,
    service: &ConnectionService<S>,
    peer: Peer,
) -> impl Future<Output = Result<(), T::Error>> + Send + use<S, T> {
    let exchange = content.exchange().clone();
    let is_head = head.method() == Method::HEAD;
    let shared = service.shared.clone();
    let mut guard = StreamGuard::new(shared.clone());
    let rejection = check_stream(&head).or_else(|| guard.count_head(&head).err());
    let request = head.map(|()| RequestContent::Stream(Box::new(content)));
    let ServiceCall {
        mut response,
        permit,
    } = service.start(request, peer, rejection);
    // On the heap: it would be a part of several futures.
    let called = Box::pin(async move {
        let mut response = poll_fn(|cx| response.poll(cx)).await;
        shared.add_tls_fields(response.headers_mut());
        let stream = task::current();
        if let Some(stream) = &stream {
            stream.set_waiting(WRITING);
        }
        let held = (guard, permit);
        response.map(|inner| OutgoingBody {
            inner,
            stream,
            _held: held,
        })
    });
    async move {
        let mut response = PendingResponse {
            exchange: &exchange,
            sending: Some(sending),
            interim: None,
        };
        let answer = response.wait_for(called).await?;
        let mut sending = CutUnlessFinished(response.sending);
        let sent = send_response(&mut sending, answer, is_head).await;
        // HTTP/2 has one reset for both halves.
        drop(sending);
        exchange.refuse_rest().await;
        sent
    }
}

/// Sends interim responses while the service runs.
struct PendingResponse<'a, T: SendHalf> {
    exchange: &'a Exchange,
    /// `None` while an interim response is written, and after an error.
    sending: Option<T>,
    /// It must be written whole before anything else.
    interim: Option<InterimWrite<'a, T>>,
}

type InterimWrite<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, <T as SendHalf>::Error>> + Send + 'a>>;

impl<'a, T: SendHalf + 'a> PendingResponse<'a, T> {
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.exchange.register(cx);
        loop {
            if let Some(interim) = &mut self.interim {
                let sent = ready!(interim.as_mut().poll(cx));
                self.interim = None;
                self.sending = Some(sent?);
            }
            let Some(sending) = self.sending.take_if(|sending| sending.can_send_interim()) else {
                return Poll::Ready(Ok(()));
            };
            let Some(response) = self.exchange.take_interim() else {
                self.sending = Some(sending);
                return Poll::Ready(Ok(()));
            };
            self.interim = Some(Box::pin(send_interim(sending, response)));
        }
    }

    async fn wait_for<R>(&mut self, called: impl Future<Output = R>) -> Result<R, T::Error> {
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
            && let Some(sending) = &mut self.sending
        {
            sending.send_interim(announcement).await?;
        }
        Ok(answer)
    }
}

async fn send_interim<T: SendHalf>(mut sending: T, response: Response<()>) -> Result<T, T::Error> {
    sending.send_interim(response).await?;
    Ok(sending)
}

/// A response that is not finished must not look complete to its client.
struct CutUnlessFinished<T: SendHalf>(Option<T>);

impl<T: SendHalf> Drop for CutUnlessFinished<T> {
    fn drop(&mut self) {
        if let Some(sending) = &mut self.0 {
            sending.cut();
        }
    }
}

async fn send_response<T: SendHalf, B: ResponseBody>(
    guarded: &mut CutUnlessFinished<T>,
    response: Response<OutgoingBody<B>>,
    is_head: bool,
) -> Result<(), T::Error> {
    let Some(sending) = &mut guarded.0 else {
        return Ok(());
    };
    let (mut parts, body) = response.into_parts();
    let has_length = !is_head && !matches!(parts.status.as_u16(), 100..200 | 204 | 304);
    let length = body.size_hint().exact().filter(|_| has_length);
    finish_fields(&mut parts.headers, length);
    let mut is_end = is_head || body.is_end_stream();
    sending
        .send_head(Response::from_parts(parts, ()), is_end)
        .await?;
    let mut body = pin!(body);
    while !is_end {
        let next = poll_fn(|cx| match sending.poll_cancelled(cx) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => body.as_mut().poll_frame(cx).map(Ok),
        });
        let frame = match next.await? {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let error: Box<dyn std::error::Error + Send + Sync> = error;
                tracing::debug!(%error, "response ended");
                return Ok(());
            }
            None => {
                sending.send_data(bytes::Bytes::new(), true).await?;
                break;
            }
        };
        match frame.into_data() {
            Ok(data) => {
                is_end = body.is_end_stream();
                sending.send_data(data, is_end).await?;
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    sending.send_trailers(trailers).await?;
                    break;
                }
            }
        }
    }
    guarded.0 = None;
    Ok(())
}

fn finish_fields(fields: &mut HeaderMap, length: Option<u64>) {
    for name in &CONNECTION_FIELDS {
        fields.remove(name);
    }
    if let Some(length) = length {
        fields
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    if !fields.contains_key(DATE) {
        fields.insert(DATE, date_value(SystemTime::now()));
    }
}
