//! The response to a request on a stream.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use http_body_util::{Either, Full};
use landfall::service::Peer;
use landfall_protocol::date_value;

use super::{Exchange, SendHalf, StreamContent, task};
use crate::body::{RequestContent, ResponseBody};
use crate::connection::StreamGuard;
use crate::service::{ConnectionService, HttpService, check_stream};

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
) -> impl Future<Output = ()> + Send + use<S, T> {
    let exchange = content.exchange().clone();
    let is_head = head.method() == Method::HEAD;
    let shared = service.shared.clone();
    let mut guard = StreamGuard::new(shared.clone());
    let rejection = check_stream(&head).or_else(|| guard.count_head(&head).err());
    let content = RequestContent::Stream(Box::new(content));
    let (mut response, permit) = service.start(head, content, peer, rejection);
    async move {
        let called = poll_fn(|cx| {
            let response = ready!(exchange.in_turn(cx, |cx| response.poll(cx)));
            exchange.close();
            task::set_writing(true);
            Poll::Ready(response)
        });
        let interim = send_interim_responses(&exchange, sending);
        // First the service, so that it takes what has arrived from a client that leaves.
        let (mut response, sending) = tokio::join!(biased; called, interim);
        let Some(sending) = sending else {
            return;
        };
        shared.add_tls_fields(response.headers_mut());
        let mut sending = CutUnlessFinished {
            half: sending,
            is_finished: false,
        };
        let sent = send_response(&mut sending.half, response, is_head).await;
        sending.is_finished = matches!(sent, Ok(true));
        if let Err(error) = sent {
            tracing::debug!(%error, "stream ended");
        }
        // HTTP/2 has one reset for both halves.
        drop((sending, guard, permit));
        exchange.refuse_rest().await;
    }
}

/// Sends interim responses until the response is ready. Returns the half then, and drops it when the client has left or
/// takes none: the service need not stop, because the client may still resume.
async fn send_interim_responses<T: SendHalf>(exchange: &Exchange, mut sending: T) -> Option<T> {
    loop {
        let next = poll_fn(|cx| {
            let next = exchange.poll_interim(sending.can_send_interim());
            match next {
                Poll::Pending => sending.poll_left(cx).map(|()| Err(())),
                Poll::Ready(next) => Poll::Ready(Ok(next)),
            }
        });
        let sent = match next.await {
            Ok(None) => return Some(sending),
            Ok(Some(response)) => sending.send_interim(response).await,
            Err(()) => {
                tracing::debug!("the client has left");
                exchange.leave();
                return None;
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "stream ended");
            exchange.leave();
            return None;
        }
    }
}

/// A response that is not finished must not look complete to its client.
struct CutUnlessFinished<T: SendHalf> {
    half: T,
    is_finished: bool,
}

impl<T: SendHalf> Drop for CutUnlessFinished<T> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.half.cut();
        }
    }
}

/// Returns whether the response is complete.
async fn send_response<T: SendHalf, B: ResponseBody>(
    sending: &mut T,
    response: Response<Either<B, Full<Bytes>>>,
    is_head: bool,
) -> Result<bool, T::Error> {
    let (mut parts, mut body) = response.into_parts();
    let has_length = !is_head && !matches!(parts.status.as_u16(), 100..200 | 204 | 304);
    let length = body.size_hint().exact().filter(|_| has_length);
    finish_fields(&mut parts.headers, length);
    let mut is_end = is_head || body.is_end_stream();
    let head = Response::from_parts(parts, ());
    sending.send_head(head, is_end).await?;
    while !is_end {
        let next = poll_fn(|cx| {
            if sending.poll_left(cx).is_ready() {
                return Poll::Ready(Err(()));
            }
            let frame = Pin::new(&mut body).poll_frame(cx);
            // Polled again when the client's window has space.
            task::set_writing(frame.is_ready());
            frame.map(Ok)
        });
        let Ok(next) = next.await else {
            tracing::debug!("the client has left");
            return Ok(false);
        };
        let frame = match next {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                tracing::debug!(%error, "response ended");
                return Ok(false);
            }
            None => {
                sending.send_data(Bytes::new(), true).await?;
                break;
            }
        };
        is_end = frame.is_trailers() || body.is_end_stream();
        match frame.into_data() {
            Ok(data) => sending.send_data(data, is_end).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    sending.send_trailers(trailers).await?;
                }
            }
        }
    }
    Ok(true)
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
