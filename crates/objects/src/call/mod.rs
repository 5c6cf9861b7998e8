//! Calls to a service: attempts, deadlines, delays between attempts, counters. It knows no service:
//! [`Service`] signs each request and judges each response.

mod connections;
mod credentials;
mod encode;
mod endpoint;
mod error;
mod headers;
mod http_send;
mod limits;
mod open_object;
mod request;
mod service;
mod settings;
mod sources;
mod stats;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request,
    header::{CONTENT_LENGTH, InvalidHeaderValue, USER_AGENT},
    response::Parts,
};
use landfall::{BoxError, store::RecentlyUsed};
use tokio::time::{Instant, sleep, timeout_at};

use crate::payload::PayloadBody;

use self::http_send::collect;
pub(crate) use self::limits::RetryPolicy;
pub use self::{
    credentials::{CredentialCache, LoadCredentials},
    encode::{path, segment},
    endpoint::{Endpoint, is_address},
    error::{Error, ErrorKind, Result, if_exists, kind_of_status, one_line},
    headers::{body_range, clock_skew, content_length, header_text, retry_after, service_time},
    http_send::{BodyStalled, HttpSend, ResponseBody},
    limits::CallLimits,
    open_object::OpenObject,
    request::CallRequest,
    service::{CredentialsOf, Service},
    settings::{CallSettings, CallSettingsError},
    sources::{UnreadableFile, exchange, read_file, run_program, variable_or_file},
    stats::{DURATION_BOUNDS_MS, OperationStats, Stats},
};

const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Objects that are open between two pieces, besides those of clients that continue at once: opening one is a
/// request, which costs time and money.
const MAX_IDLE: usize = 256;
const STALLED_AFTER: Duration = Duration::from_secs(2);

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
    /// At once: this cause is mended. Each may be mended once in a call.
    Mended(&'static str),
    /// At once, with other credentials, unless that was done in this call.
    Renew,
    /// After a delay, at least this one, if the limits allow it.
    Later(Option<Duration>),
}

/// A response of success.
#[derive(Debug)]
pub struct Response {
    /// Its head.
    pub head: Parts,
    /// Its body, if it was read.
    pub body: Bytes,
    /// Its body, if it is left to the caller.
    pub stream: Option<ResponseBody>,
}

/// Makes the calls of one client.
#[derive(Debug)]
pub struct Caller {
    /// The connections.
    pub http: Arc<dyn HttpSend>,
    user_agent: HeaderValue,
    logs: bool,
    pub(crate) limits: CallLimits,
    /// The counters.
    pub stats: Stats,
    /// The objects that are open, and which no task reads.
    #[doc(hidden)]
    pub idle_objects: RecentlyUsed<OpenObject>,
}

impl Caller {
    /// With `logs`, each attempt is a debug event with operation, duration and status.
    ///
    /// # Errors
    /// The user agent is not a valid header value.
    fn new(
        http: Arc<dyn HttpSend>,
        limits: CallLimits,
        user_agent: &str,
        logs: bool,
    ) -> Result<Self, InvalidHeaderValue> {
        Ok(Self {
            http,
            user_agent: HeaderValue::from_str(user_agent)?,
            logs,
            limits,
            stats: Stats::default(),
            idle_objects: RecentlyUsed::new(MAX_IDLE, STALLED_AFTER),
        })
    }

    /// Makes a call; returns the response of the attempt that succeeded. `streams`: its body is left to the caller.
    ///
    /// # Errors
    /// The error of the last attempt.
    ///
    /// # Cancel safety
    /// A dropped call aborts its exchange, which may take effect nevertheless. With [`CallRequest::tasks`], the
    /// exchange ends in its task.
    pub(crate) async fn run<S: Service>(
        &self,
        service: &S,
        request: &CallRequest<'_, S::Extra>,
        streams: bool,
    ) -> Result<Response> {
        let (started, sent) = (Instant::now(), request.payload.len());
        let policy = RetryPolicy::new(&self.limits, sent + request.worked);
        let count = |count: fn(&mut OperationStats, u64), value| {
            let count = |stats: &mut OperationStats| count(stats, value);
            self.stats.count(request.operation, count);
        };
        let (mut number, mut in_doubt, mut mended) = (1, false, BTreeSet::new());
        let result = loop {
            count(|stats, sent| stats.bytes_out += sent, sent);
            let attempt_started = Instant::now();
            let mut used = None;
            let result = self.attempt(service, request, streams, &policy, &mut used);
            let result = result.await;
            self.log::<S>(request.operation, attempt_started.elapsed(), &result);
            let failed = match result {
                Ok(response) => break Ok(response),
                Err(failed) => failed,
            };
            let renew = |rejected| service.credentials().invalidate(&rejected);
            let wait = match failed.retry {
                Retry::No => None,
                Retry::Mended(cause) => mended.insert(cause).then_some(Duration::ZERO),
                Retry::Renew => (mended.insert("credentials") && used.is_some_and(renew))
                    .then_some(Duration::ZERO),
                Retry::Later(at_least) => {
                    in_doubt = true;
                    number += 1;
                    policy.next_delay(number - 1, at_least)
                }
            };
            let Some(wait) = wait else {
                break Err(failed.error.with_doubt(in_doubt));
            };
            count(|stats, more| stats.retries += more, 1);
            sleep(wait).await;
        };
        let (took, failed) = (started.elapsed(), result.is_err());
        self.stats
            .count(request.operation, |stats| stats.end_call(took, failed));
        result
    }

    /// `used`: the credentials of the request.
    async fn attempt<S: Service>(
        &self,
        service: &S,
        request: &CallRequest<'_, S::Extra>,
        streams: bool,
        policy: &RetryPolicy,
        used: &mut Option<Arc<CredentialsOf<S>>>,
    ) -> Result<Response, Failure> {
        let late = "timeout while getting credentials";
        let getting = before(policy.deadline(), service.credentials().get(), late).await;
        *used = getting.map_err(|error| service.no_credentials(request, error))?;
        let http_request = self.http_request(service, request, used.as_deref()).await;
        let http_request = http_request.map_err(|error| request.unexpected(error))?;
        // The response starts when the service has worked.
        let (http, deadline) = (Arc::clone(&self.http), policy.attempt_deadline());
        let sending = async move {
            let late = "the service did not respond in time";
            before(deadline, http.send(http_request), late).await
        };
        let response = match &request.tasks {
            Some(tasks) => {
                let sent = tasks.spawn(sending).await;
                sent.unwrap_or_else(|panic| Err(panic.into()))
            }
            None => sending.await,
        };
        let interrupted = |source: BoxError| Failure {
            error: request
                .error(ErrorKind::Unavailable { retry_after: None })
                .with_source(source),
            retry: Retry::Later(None),
        };
        let (head, body) = response.map_err(interrupted)?.into_parts();
        if streams && head.status.is_success() {
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
            .count(request.operation, |stats| stats.bytes_in += received);
        if !service.is_success(request, &head, &body) {
            return Err(service.refusal(request, &head, &body));
        }
        Ok(Response {
            head,
            body,
            stream: None,
        })
    }

    async fn http_request<S: Service>(
        &self,
        service: &S,
        request: &CallRequest<'_, S::Extra>,
        credentials: Option<&CredentialsOf<S>>,
    ) -> Result<Request<PayloadBody>, BoxError> {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = request.method.clone();
        head.headers = request.headers.clone();
        head.headers.insert(USER_AGENT, self.user_agent.clone());
        service.sign(request, credentials, &mut head).await?;
        if matches!(request.method, Method::PUT | Method::POST) {
            let length = request.payload.len().into();
            head.headers.insert(CONTENT_LENGTH, length);
        }
        Ok(Request::from_parts(head, request.payload.body()))
    }

    fn log<S: Service>(
        &self,
        operation: &'static str,
        took: Duration,
        result: &Result<Response, Failure>,
    ) {
        if !self.logs {
            return;
        }
        let service = S::Source::SERVICE;
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(response) => {
                let status = response.head.status.as_u16();
                tracing::debug!(operation, duration_ms, status, "{service}APICall");
            }
            Err(Failure { error, .. }) => {
                let status = error.status().map(|status| status.as_u16());
                tracing::debug!(operation, duration_ms, status, %error, "{service}APICall");
            }
        }
    }
}

/// Runs a call until the deadline.
///
/// # Errors
/// Those of the call, or the text `late`.
pub(crate) async fn before<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, BoxError>>,
    late: &str,
) -> Result<T, BoxError> {
    let finished = timeout_at(deadline, call).await;
    finished.unwrap_or_else(|_| Err(late.into()))
}
