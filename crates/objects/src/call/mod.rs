//! Calls to a service: attempts, deadlines, delays between attempts, counters. It knows no service:
//! [`Attempts`] builds each request and judges each response.

mod connections;
mod error;
mod headers;
mod http_send;
mod limits;
mod stats;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, response::Parts};
use landfall::BoxError;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

pub(crate) use self::limits::RetryPolicy;
pub use self::{
    connections::Connections,
    error::{Error, ErrorKind, Result, if_exists, one_line},
    headers::{body_range, content_length, header_text, modified, retry_after, service_time},
    http_send::{BodyStalled, HttpSend, ResponseBody, collect},
    limits::CallLimits,
    stats::{DURATION_BOUNDS_MS, OperationStats, Stats},
};
use crate::payload::PayloadBody;

const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// The service's side of one call: a request for each attempt, and what its response means.
#[async_trait]
pub trait Attempts: Send {
    /// Builds the request of the next attempt, whose credentials must be there before `deadline`.
    ///
    /// # Errors
    /// [`Failure`]: nothing was sent.
    async fn request(&mut self, deadline: Instant) -> Result<Request<PayloadBody>, Failure>;

    /// Judges a response that was read whole.
    ///
    /// # Errors
    /// [`Failure`]: the service refused the request.
    fn judge(&mut self, head: &Parts, body: &Bytes) -> Result<(), Failure>;

    /// Returns an error of this call.
    fn error(&self, kind: ErrorKind) -> Error;
}

/// An attempt that failed.
#[derive(Debug)]
pub struct Failure {
    /// The error of the call, unless another attempt succeeds.
    pub error: Error,
    /// The next attempt, if there is one.
    pub retry: Retry,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let retry = Retry::No;
        Self { error, retry }
    }
}

/// The next attempt after a failed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It is not.
    No,
    /// At once: the cause is mended. Each cause may be mended once in a call.
    Now,
    /// After a delay, at least this one, if the limits allow it.
    Later(Option<Duration>),
}

/// The properties of a call, besides its requests.
#[derive(Clone, Debug, Default)]
pub struct CallKind {
    /// The operation, as its service names it.
    pub operation: &'static str,
    /// The bytes of the payload.
    pub sent: u64,
    /// The bytes that the service works on before it responds, for the timeout.
    pub worked: u64,
    /// The body of a successful response is left to the caller.
    pub streams: bool,
    /// The tasks in which attempts run, to end even if the call is dropped.
    pub tasks: Option<TaskTracker>,
}

/// A response of success.
#[derive(Debug)]
pub struct Response {
    /// Its head.
    pub head: Parts,
    /// Its body, if it was read.
    pub body: Bytes,
    /// Its body, if [`CallKind::streams`].
    pub stream: Option<ResponseBody>,
}

/// Makes the calls of one client.
#[derive(Debug)]
pub struct Caller {
    /// The transport.
    pub http: Arc<dyn HttpSend>,
    /// The limits of each call.
    pub limits: CallLimits,
    /// The counters.
    pub stats: Stats,
    /// Logs each attempt as a debug event with operation, duration and status.
    pub logs: bool,
}

impl Caller {
    /// Makes a call; returns the response of the attempt that succeeded.
    ///
    /// # Errors
    /// The error of the last attempt.
    ///
    /// # Cancel safety
    /// A dropped call aborts its exchange, which may take effect nevertheless. With [`CallKind::tasks`], the
    /// exchange ends in its task.
    pub async fn run(&self, kind: &CallKind, attempts: &mut impl Attempts) -> Result<Response> {
        let started = Instant::now();
        let policy = RetryPolicy::new(&self.limits, kind.sent + kind.worked);
        let mut number = 1;
        let mut in_doubt = false;
        let result = loop {
            self.stats
                .count(kind.operation, |stats| stats.bytes_out += kind.sent);
            let attempt_started = Instant::now();
            let result = self.attempt(kind, attempts, &policy).await;
            self.log(kind, attempt_started.elapsed(), &result);
            let failed = match result {
                Ok(response) => break Ok(response),
                Err(failed) => failed,
            };
            let wait = match failed.retry {
                Retry::No => None,
                Retry::Now => Some(Duration::ZERO),
                Retry::Later(at_least) => {
                    in_doubt = true;
                    number += 1;
                    policy.next_delay(number - 1, at_least)
                }
            };
            let Some(wait) = wait else {
                break Err(failed.error.with_doubt(in_doubt));
            };
            self.stats.count(kind.operation, |stats| stats.retries += 1);
            sleep(wait).await;
        };
        let (took, failed) = (started.elapsed(), result.is_err());
        self.stats
            .count(kind.operation, |stats| stats.end_call(took, failed));
        result
    }

    async fn attempt(
        &self,
        kind: &CallKind,
        attempts: &mut impl Attempts,
        policy: &RetryPolicy,
    ) -> Result<Response, Failure> {
        let request = attempts.request(policy.deadline()).await?;
        // The response starts when the service has worked.
        let (http, deadline) = (Arc::clone(&self.http), policy.attempt_deadline());
        let sending = async move {
            let late = "the service did not respond in time";
            before(deadline, http.send(request), late).await
        };
        let response = match &kind.tasks {
            Some(tasks) => {
                let sent = tasks.spawn(sending).await;
                sent.unwrap_or_else(|panic| Err(panic.into()))
            }
            None => sending.await,
        };
        let interrupted = |source: BoxError| Failure {
            error: attempts
                .error(ErrorKind::Unavailable { retry_after: None })
                .with_source(source),
            retry: Retry::Later(None),
        };
        let (head, body) = response.map_err(interrupted)?.into_parts();
        if kind.streams && head.status.is_success() {
            return Ok(Response {
                head,
                body: Bytes::new(),
                stream: Some(body),
            });
        }
        let reading = collect(body, self.limits.idle_timeout, MAX_RESPONSE_BYTES);
        let late = "the response did not end in time";
        let reading = before(policy.deadline(), reading, late);
        let body = reading.await.map_err(interrupted)?;
        let received = body.len() as u64;
        self.stats
            .count(kind.operation, |stats| stats.bytes_in += received);
        attempts.judge(&head, &body)?;
        Ok(Response {
            head,
            body,
            stream: None,
        })
    }

    fn log(&self, kind: &CallKind, took: Duration, result: &Result<Response, Failure>) {
        if !self.logs {
            return;
        }
        let operation = kind.operation;
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(response) => {
                let status = response.head.status.as_u16();
                tracing::debug!(operation, duration_ms, status, "S3APICall");
            }
            Err(Failure { error, .. }) => {
                let status = error.status().map(|status| status.as_u16());
                tracing::debug!(operation, duration_ms, status, %error, "S3APICall");
            }
        }
    }
}

/// Runs a call until the deadline.
///
/// # Errors
/// Those of the call, or the text `late`.
pub async fn before<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, BoxError>>,
    late: &str,
) -> Result<T, BoxError> {
    let finished = timeout_at(deadline, call).await;
    finished.unwrap_or_else(|_| Err(late.into()))
}
