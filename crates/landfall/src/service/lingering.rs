//! Lingering close for servers that have none, such as `axum::serve`: the rest of a rejected request is read
//! after the response.
//!
//! A server that closes a connection with unread input makes the kernel send a reset, which destroys the
//! response on its way: the client sees a broken connection instead of a 401 or 413.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http::{Request, Version, header};
use http_body::{Body, Frame, SizeHint};
use tokio::{runtime::Handle, time::timeout};

/// Limits of a lingering close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LingeringLimits {
    /// Maximum bytes that are read and discarded. Default: 256 MiB.
    pub bytes: u64,
    /// Maximum time. Default: 30 s.
    pub total: Duration,
    /// Maximum time without bytes. Default: 5 s.
    pub idle: Duration,
}

impl Default for LingeringLimits {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            total: Duration::from_secs(30),
            idle: Duration::from_secs(5),
        }
    }
}

/// A tower layer that reads the rest of a request's body after the response, within
/// [limits](LingeringLimits), and discards it.
///
/// A client that sends its whole body before it reads thus gets an early response, such as a 401 of a
/// middleware. Add it last, so that it is the outermost layer. [`Handler::router`](crate::Handler::router) has it
/// for the handler's own responses.
///
/// It concerns HTTP/1.1 only, and no request whose client waits for `100 Continue`. It must be called within a
/// tokio runtime, and has no use in a server that lingers itself.
///
/// ```
/// # fn app(uploads: landfall::Handler) {
/// use landfall::service::LingeringCloseLayer;
/// use tower_layer::Layer as _;
///
/// let service = LingeringCloseLayer::default().layer(uploads);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct LingeringCloseLayer {
    limits: LingeringLimits,
}

impl LingeringCloseLayer {
    /// Creates a layer with limits.
    #[must_use]
    pub const fn new(limits: LingeringLimits) -> Self {
        Self { limits }
    }
}

impl<S> tower_layer::Layer<S> for LingeringCloseLayer {
    type Service = LingeringClose<S>;

    fn layer(&self, inner: S) -> LingeringClose<S> {
        let limits = self.limits;
        LingeringClose { inner, limits }
    }
}

/// The service of a [`LingeringCloseLayer`].
#[derive(Debug, Clone)]
pub struct LingeringClose<S> {
    inner: S,
    limits: LingeringLimits,
}

impl<S, B> tower_service::Service<Request<B>> for LingeringClose<S>
where
    S: tower_service::Service<Request<LingeringBody<B>>>,
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let lingers = request.version() <= Version::HTTP_11;
        // To read from this client would ask it to send.
        let waits = request.headers().contains_key(header::EXPECT);
        let limits = lingers.then_some(self.limits);
        self.inner.call(request.map(|body| LingeringBody {
            rest: Some(Box::pin(body)),
            limits,
            waits,
        }))
    }
}

/// A request body that is read to its end when it is dropped, in the background.
pub struct LingeringBody<B: Body<Data = Bytes> + Send + 'static> {
    /// `None` after the end or an error.
    rest: Option<Pin<Box<B>>>,
    limits: Option<LingeringLimits>,
    /// True until it is polled if the client waits for that.
    waits: bool,
}

impl<B: Body<Data = Bytes> + Send + 'static> fmt::Debug for LingeringBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LingeringBody")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Body for LingeringBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.waits = false;
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let frame = ready!(rest.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.rest = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref();
        rest.map_or(SizeHint::with_exact(0), |rest| rest.size_hint())
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Drop for LingeringBody<B> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take()
            && let Some(limits) = self.limits
            && !self.waits
            && !rest.is_end_stream()
            && let Ok(runtime) = Handle::try_current()
        {
            // One task per connection: the server reads no further request meanwhile.
            runtime.spawn(async move {
                let _ = timeout(limits.total, discard(rest, limits)).await;
            });
        }
    }
}

async fn discard<B: Body<Data = Bytes>>(mut rest: Pin<Box<B>>, limits: LingeringLimits) {
    let mut left = limits.bytes;
    while left > 0 {
        let next = poll_fn(|cx| rest.as_mut().poll_frame(cx));
        let Ok(Some(Ok(frame))) = timeout(limits.idle, next).await else {
            return;
        };
        let bytes = frame.data_ref().map_or(0, |bytes| bytes.remaining() as u64);
        left = left.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Ready, ready},
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        },
    };

    use tokio::time::{Instant, sleep};
    use tower_layer::Layer as _;
    use tower_service::Service as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Client {
        sent: Arc<AtomicU64>,
        is_silent: bool,
        is_dropped: Arc<AtomicBool>,
    }

    struct EndlessBody(Client);

    impl Body for EndlessBody {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0.is_silent {
                return Poll::Pending;
            }
            self.0.sent.fetch_add(1000, SeqCst);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1000])))))
        }
    }

    impl Drop for EndlessBody {
        fn drop(&mut self) {
            self.0.is_dropped.store(true, SeqCst);
        }
    }

    struct Reject;

    impl tower_service::Service<Request<LingeringBody<EndlessBody>>> for Reject {
        type Response = ();
        type Error = Infallible;
        type Future = Ready<Result<(), Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<LingeringBody<EndlessBody>>) -> Self::Future {
            ready(Ok(()))
        }
    }

    /// Returns for how long the body is read.
    async fn rejected(client: &Client, change: impl FnOnce(&mut Request<EndlessBody>)) -> Duration {
        let limits = LingeringLimits {
            bytes: 10_000,
            ..LingeringLimits::default()
        };
        let mut request = Request::new(EndlessBody(client.clone()));
        change(&mut request);
        let mut service = LingeringCloseLayer::new(limits).layer(Reject);
        let Ok(()) = service.call(request).await;
        let started = Instant::now();
        while !client.is_dropped.load(SeqCst) {
            sleep(Duration::from_millis(100)).await;
        }
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_read_within_limits() {
        let client = Client::default();
        rejected(&client, |_| {}).await;
        assert_eq!(client.sent.load(SeqCst), 10_000);
        let silent = Client {
            is_silent: true,
            ..Client::default()
        };
        let read_for = rejected(&silent, |_| {}).await;
        let idle = LingeringLimits::default().idle;
        assert!(
            (idle..idle + Duration::from_secs(1)).contains(&read_for),
            "{read_for:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_from_clients_that_wait_and_streams_of_http_2() {
        let client = Client::default();
        let continues = "100-continue".parse().unwrap();
        let read_for = rejected(&client, |request| {
            request.headers_mut().insert(header::EXPECT, continues);
        });
        assert_eq!(read_for.await, Duration::ZERO);
        let client = Client::default();
        let read_for = rejected(&client, |request| *request.version_mut() = Version::HTTP_2);
        assert_eq!(read_for.await, Duration::ZERO);
        assert_eq!(client.sent.load(SeqCst), 0);
    }
}
