//! One call: signed, sent, sorted, and tried again where that may help.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_LENGTH, HOST, USER_AGENT},
    response::Parts,
};
use http_body_util::BodyExt;
use landfall::BoxError;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    Inner,
    address::Target,
    answer::{Refusal, Remedy},
    credentials::Credentials,
    encode::Query,
    error::{Error, ErrorKind, Result},
    payload::Payload,
    retry::Patience,
    sign::{S3, Signer, UNSIGNED_PAYLOAD, hex},
    stats::Operation,
    transport::AnswerBody,
    xml,
};

/// The largest answer that is read into memory: a page of a thousand keys has about 4 MiB at most.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Call<'a> {
    operation: Operation,
    method: Method,
    bucket: &'a str,
    key: Option<&'a str>,
    query: Query,
    pub(super) headers: HeaderMap,
    payload: Payload,
    effort: Option<u64>,
    elsewhere: Option<(&'static str, Target)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        operation: Operation,
        method: Method,
        bucket: &'a str,
        key: Option<&'a str>,
    ) -> Self {
        Self {
            operation,
            method,
            bucket,
            key,
            query: Query::new(),
            headers: HeaderMap::new(),
            payload: Payload::new(Vec::new(), None),
            effort: None,
            elsewhere: None,
        }
    }

    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        self.query = self.query.with(name, value);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = self.header_value(name, value)?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn header_value(&self, name: &str, value: &str) -> Result<HeaderValue> {
        HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            self.error(ErrorKind::Other)
                .with_message(format!("{name} can't be {value:?}"))
        })
    }

    pub(super) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// A small body, covered by the signature.
    pub(super) fn text(self, text: String) -> Self {
        let sha256 = Sha256::digest(text.as_bytes()).into();
        self.payload(Payload::new(vec![text.into()], Some(sha256)))
    }

    /// The service works on `bytes` of its own before it answers, and may answer 200 and only say
    /// in the body that it failed.
    pub(super) fn working(mut self, bytes: u64) -> Self {
        self.effort = Some(bytes);
        self
    }

    /// It goes to another service than S3, at another place.
    pub(super) fn to(mut self, service: &'static str, target: Target) -> Self {
        self.elsewhere = Some((service, target));
        self
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        let target = match self.key {
            Some(key) => format!("{}/{}", self.bucket, key.escape_debug()),
            None => self.bucket.to_owned(),
        };
        Error::new(kind, self.operation.name(), target)
    }

    /// The error of an answer that makes no sense.
    pub(super) fn nonsense(&self, source: impl Into<BoxError>) -> Error {
        self.error(ErrorKind::Other).with_source(source)
    }

    fn payload_hash(&self) -> String {
        match self.payload.sha256() {
            Some(hash) => hex(hash),
            None if self.payload.is_empty() => hex(&Sha256::digest([])),
            None => UNSIGNED_PAYLOAD.to_owned(),
        }
    }
}

/// An answer that is a success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Parts,
    /// All of it, or nothing if it is streamed.
    pub(super) body: Bytes,
    stream: Option<AnswerBody>,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Outcome<T> {
    pub(super) result: Result<T>,
    /// An earlier attempt failed in a way that leaves open whether it had its effect.
    pub(super) unsure: bool,
}

/// An attempt that failed.
#[derive(Debug)]
struct Failure {
    error: Error,
    remedy: Remedy,
    keys: Option<Arc<Credentials>>,
}

/// Whether the body of the answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Take {
    Whole,
    Head,
}

impl Inner {
    /// Makes the call and reads the answer.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer> {
        self.run(call, Take::Whole).await.result
    }

    /// The same, and tells whether an attempt before may have had its effect.
    pub(super) async fn call_unsure(&self, call: &Call<'_>) -> Outcome<Answer> {
        self.run(call, Take::Whole).await
    }

    /// Makes the call and leaves the body of the answer to the caller.
    pub(super) async fn open(&self, call: &Call<'_>) -> Result<(Parts, AnswerBody)> {
        let Answer { head, stream, .. } = self.run(call, Take::Head).await.result?;
        let stream = stream.ok_or_else(|| call.nonsense("the answer has no body"))?;
        Ok((head, stream))
    }

    async fn run(&self, call: &Call<'_>, take: Take) -> Outcome<Answer> {
        let stats = self.stats.of(call.operation);
        let begun = Instant::now();
        let patience = Patience::new(
            &self.settings,
            call.payload.len() + call.effort.unwrap_or_default(),
        );
        let mut attempt = 1;
        let (mut unsure, mut renewed, mut moved) = (false, false, false);
        let result = loop {
            stats.sent(call.payload.len());
            let attempt_begun = Instant::now();
            let result = self.attempt(call, take, &patience).await;
            self.log(call, attempt_begun.elapsed(), &result);
            let failure = match result {
                Ok(answer) => break Ok(answer),
                Err(failure) => failure,
            };
            let wait = match failure.remedy {
                Remedy::None => None,
                Remedy::Later(asked) => {
                    unsure = true;
                    attempt += 1;
                    patience.wait(attempt - 1, asked)
                }
                Remedy::Keys => {
                    let again =
                        !renewed && failure.keys.is_some_and(|keys| self.keeper.refuse(&keys));
                    renewed = true;
                    again.then_some(Duration::ZERO)
                }
                Remedy::Region(region) => {
                    if self.regions.learn(call.bucket, &region) {
                        tracing::warn!(
                            bucket = call.bucket,
                            region,
                            "the bucket is in another region than was set; using that one"
                        );
                    }
                    // Another call may have learned it meanwhile.
                    let again = !moved && *self.regions.of(call.bucket) == *region;
                    moved = true;
                    again.then_some(Duration::ZERO)
                }
            };
            let Some(wait) = wait else {
                break Err(failure.error);
            };
            stats.retried();
            sleep(wait).await;
        };
        stats.ended(begun.elapsed(), result.is_err());
        Outcome { result, unsure }
    }

    async fn attempt(
        &self,
        call: &Call<'_>,
        take: Take,
        patience: &Patience,
    ) -> Result<Answer, Failure> {
        let no_keys = |source: BoxError| Failure {
            error: call.error(ErrorKind::BadCredentials).with_source(source),
            remedy: Remedy::None,
            keys: None,
        };
        let keys = match timeout_at(patience.deadline(), self.keeper.get()).await {
            Ok(keys) => keys.map_err(no_keys)?,
            Err(_) => return Err(no_keys("no credentials came in time".into())),
        };
        let request = self
            .request(call, keys.as_deref())
            .map_err(|error| Failure {
                error: call.nonsense(error),
                remedy: Remedy::None,
                keys: None,
            })?;
        // The answer to a call that works begins when the work is done.
        let ends = patience.attempt_ends();
        let answer = match timeout_at(ends, self.http.send(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(cut(call, error)),
            Err(_) => return Err(cut(call, "no answer in time")),
        };
        let (head, body) = answer.into_parts();
        if take == Take::Head && head.status.is_success() {
            return Ok(Answer {
                head,
                body: Bytes::new(),
                stream: Some(body),
            });
        }
        let reading = collect(body, self.settings.idle_timeout, LARGEST_ANSWER);
        let body = match timeout_at(patience.deadline(), reading).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Err(cut(call, error)),
            Err(_) => return Err(cut(call, "the answer didn't end in time")),
        };
        self.stats.of(call.operation).received(body.len() as u64);
        if head.status.is_success() && (call.effort.is_none() || xml::problem(&body).is_none()) {
            return Ok(Answer {
                head,
                body,
                stream: None,
            });
        }
        let refusal = Refusal::of(call.operation, &head, &body);
        let Refusal {
            kind,
            remedy,
            status,
            code,
            message,
            request_id,
        } = refusal;
        let reads = matches!(call.operation, Operation::GetObject | Operation::HeadObject);
        let kind = match kind {
            ErrorKind::AccessDenied if reads && self.settings.denied_is_missing => {
                ErrorKind::NoSuchKey
            }
            kind => kind,
        };
        let error = call
            .error(kind)
            .with_answer(status, code, message, request_id);
        Err(Failure {
            error,
            remedy,
            keys,
        })
    }

    fn request(
        &self,
        call: &Call<'_>,
        keys: Option<&Credentials>,
    ) -> Result<Request<super::PayloadBody>, http::Error> {
        let region = self.regions.of(call.bucket);
        let (service, target) = match &call.elsewhere {
            Some((service, target)) => (*service, target.clone()),
            None => (S3, self.address.target(&region, call.bucket, call.key)),
        };
        let query = call.query.canonical();
        let mut headers = call.headers.clone();
        headers.insert(HOST, target.host_header()?);
        if let Some(credentials) = keys {
            let now = (self.settings.now)();
            let signer = Signer::new(credentials, &region, service, now);
            signer.sign_headers(
                &call.method,
                &target.path,
                &query,
                &mut headers,
                &call.payload_hash(),
            )?;
        }
        headers.insert(USER_AGENT, self.user_agent.clone());
        if call.method == Method::PUT || call.method == Method::POST {
            headers.insert(CONTENT_LENGTH, call.payload.len().into());
        }
        let mut request = Request::new(call.payload.body());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = target.uri(&query)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn log(&self, call: &Call<'_>, took: Duration, result: &Result<Answer, Failure>) {
        if !self.settings.log_calls {
            return;
        }
        let operation = call.operation.name();
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(answer) => {
                let status = answer.head.status.as_u16();
                tracing::debug!(operation, duration_ms, status, "S3APICall");
            }
            Err(Failure { error, .. }) => {
                let status = error.status().map(|status: StatusCode| status.as_u16());
                tracing::debug!(operation, duration_ms, status, %error, "S3APICall");
            }
        }
    }
}

/// No answer, or not all of it.
fn cut(call: &Call<'_>, source: impl Into<BoxError>) -> Failure {
    let error = call
        .error(ErrorKind::Unavailable { retry_after: None })
        .with_source(source);
    Failure {
        error,
        remedy: Remedy::Later(None),
        keys: None,
    }
}

/// Reads a body of at most `largest` bytes that is never silent for longer than `idle`.
pub(super) async fn collect(
    mut body: AnswerBody,
    idle: Duration,
    largest: usize,
) -> Result<Bytes, BoxError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = timeout(idle, body.frame()).await.map_err(|_| Silence)? {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > largest {
            return Err("the answer is too large".into());
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

/// An answer that stopped in the middle.
#[derive(Debug)]
pub(super) struct Silence;

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer stopped in the middle")
    }
}

impl std::error::Error for Silence {}
