//! Hooks over HTTP.

mod connect;
mod endpoint;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod hop;
mod judge;
mod proxy;
mod read;
mod settings;
mod sign;
mod tls;

use std::{sync::OnceLock, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, Response, StatusCode};
use hyper::body::Incoming;
use tokio::{sync::Semaphore, time};

use self::{
    connect::Client,
    endpoint::Endpoint,
    guard::Guard,
    hop::{Call, Hop},
    judge::{Answered, Judge},
    read::{Body, read},
};
pub use self::{
    proxy::Proxies,
    settings::{HttpSettings, HttpSettingsError},
    sign::{Secret, SecretError},
};
use crate::{
    Failure, HookName, Message, Reaction, Transport,
    format::{self, Format},
};

/// The most bytes that are read of an answer in [`Format::V1`].
const V1_LIMIT: usize = 1 << 20;

/// As many redirects in a row are followed.
const REDIRECTS: usize = 10;

/// How long a body that nobody looks at may take, so that its connection can be used again.
const DRAIN: Duration = Duration::from_secs(1);

/// How long [`Transport::check`] waits.
const CHECK: Duration = Duration::from_secs(5);

/// Sends each message by POST to one endpoint. HTTP/2 if a TLS endpoint offers it, connections are
/// kept and used again.
///
/// What answers mean depends on the format:
///
/// - [`Format::Auto`]: 2xx accepts; if the body is a JSON object, it is obeyed as version 2's answer.
///   4xx refuses, and status and body reach the client; a body that is version 2's answer with
///   `RejectUpload` is obeyed instead. 408, 425 and 429 are failures.
/// - [`Format::V2`]: 2xx with a JSON object and its Content-Type is the answer, all else a failure; to
///   an event other than progress any 2xx will do.
/// - [`Format::V1`]: below 400 accepts, whatever the body. All else reaches the client of a question.
///
/// An answer with 5xx, or none, is asked for again. Events other than progress are sent once: whoever
/// keeps them sends them again.
///
/// Each request carries the headers of [Standard Webhooks](https://www.standardwebhooks.com):
/// `webhook-id` ([`Message::id`]), `webhook-timestamp` and, with a [`Secret`], `webhook-signature`;
/// besides, `Landfall-Sequence` ([`Message::sequence`]) and, except in version 2, `Hook-Name`.
#[derive(Debug)]
pub struct Http {
    endpoint: Endpoint,
    forward: Vec<HeaderName>,
    attempts: u32,
    backoff: Duration,
    timeout: Duration,
    secrets: Vec<Secret>,
    judge: Judge,
    proxies: Proxies,
    calls: Semaphore,
    client: Client,
    redirects: Option<Redirects>,
}

/// The way to where redirects lead.
#[derive(Debug)]
struct Redirects {
    guard: Guard,
    /// Connects only where the guard lets it.
    client: Client,
}

/// Why one attempt brought no answer.
enum Miss {
    /// Another attempt may.
    Passing(Failure),
    /// Another wouldn't.
    Lasting(Failure),
}

impl Http {
    /// Prepares the transport. No connection is opened yet.
    ///
    /// # Errors
    /// A setting that can't be used, or no root certificates for an `https` endpoint.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpSettingsError> {
        let endpoint = Endpoint::new(&settings.url)?;
        if settings.timeout.is_zero() {
            return Err(HttpSettingsError::Zero("the time limit"));
        }
        if settings.parallel == 0 {
            return Err(HttpSettingsError::Zero("the number of parallel calls"));
        }
        let tls = tls::config(settings.skip_verify, endpoint.url.scheme() == "https")
            .map_err(HttpSettingsError::Tls)?;
        let client = |guard| Client::new(&tls, settings.proxies.clone(), guard, settings.parallel);
        let redirects = settings.follow_redirects.then(|| {
            let guard = Guard::new(&settings.allow);
            Redirects {
                client: client(Some(guard.clone())),
                guard,
            }
        });
        Ok(Self {
            client: client(None),
            redirects,
            forward: forwarded(&settings.forward_headers)?,
            attempts: settings.attempts,
            backoff: settings.backoff,
            timeout: settings.timeout,
            secrets: settings.secrets,
            judge: Judge {
                format: settings.format,
                limit: match settings.format {
                    Format::V1 => V1_LIMIT,
                    Format::V2 | Format::Auto => settings.size_limit,
                },
                stop_code: settings.stop_code,
            },
            proxies: settings.proxies,
            calls: Semaphore::new(settings.parallel.min(Semaphore::MAX_PERMITS)),
            endpoint,
        })
    }

    /// All attempts; `missed` is why the last one that ended brought no answer.
    async fn call(
        &self,
        call: &Call<'_>,
        missed: &mut Option<Failure>,
    ) -> Result<Reaction, Failure> {
        let hook = call.message.hook;
        let begun = time::Instant::now();
        let attempts = if hook.is_question() || hook == HookName::PostReceive {
            self.attempts
        } else {
            1
        };
        let mut nth = 1;
        loop {
            let outcome = self.attempt(call).await;
            let would_be_late = begun.elapsed().saturating_add(self.backoff) >= self.timeout;
            let is_last = nth >= attempts || would_be_late;
            let failure = match outcome {
                Ok(answered) if is_last || !answered.status.is_server_error() => {
                    return self.judge.judge(hook, &answered);
                }
                Ok(answered) => judge::unexpected(&answered),
                Err(Miss::Passing(failure)) if !is_last => failure,
                Err(Miss::Passing(failure) | Miss::Lasting(failure)) => return Err(failure),
            };
            tracing::debug!(%hook, id = call.message.id, attempt = nth, error = %failure, "HookRetry");
            *missed = Some(failure);
            time::sleep(self.backoff).await;
            nth += 1;
        }
    }

    /// One attempt, with the redirects it leads to.
    async fn attempt(&self, call: &Call<'_>) -> Result<Answered, Miss> {
        let permit = self.calls.acquire().await;
        let _permit = permit.map_err(|error| lasting("the hooks are closed", error))?;
        let mut hop = Hop::first(&self.endpoint);
        for _ in 0..=REDIRECTS {
            let request = hop.request(&self.endpoint, call);
            let sent = self.client_for(&hop)?.send(request).await;
            let answer = sent.map_err(|error| match error.is_forbidden {
                true => Miss::Lasting(Failure::new(error.to_string())),
                false => Miss::Passing(Failure::new(error.to_string())),
            })?;
            if self.redirects.is_none() {
                return self.read(answer).await;
            }
            let next = hop
                .next(&self.endpoint, answer.status(), answer.headers())
                .map_err(|error| lasting("", error))?;
            match next {
                None => return self.read(answer).await,
                Some(next) => hop = next,
            }
        }
        let text = format!("the hook endpoint redirects more than {REDIRECTS} times");
        Err(Miss::Lasting(Failure::new(text)))
    }

    /// Who connects for a hop: beyond the operator's own address, someone with a guard.
    fn client_for(&self, hop: &Hop) -> Result<&Client, Miss> {
        let Some(redirects) = self
            .redirects
            .as_ref()
            .filter(|_| !hop.is_at(&self.endpoint))
        else {
            return Ok(&self.client);
        };
        let literal = redirects.guard.check_literal(&hop.url);
        let is_checked = literal.map_err(|error| lasting("", error))?;
        if !is_checked && self.proxies.of(&hop.uri).is_some() {
            let text = "a redirect to another host isn't followed through a proxy, where its address \
                        can't be checked";
            return Err(Miss::Lasting(Failure::new(text)));
        }
        Ok(&redirects.client)
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<Answered, Miss> {
        let (head, body) = answer.into_parts();
        let reading = read(body, self.judge.limit);
        let is_ignored = self.judge.format == Format::V1 && head.status < StatusCode::BAD_REQUEST;
        let body = if is_ignored {
            // However it ends, the status has said all.
            let _ = time::timeout(DRAIN, reading).await;
            Body::default()
        } else {
            reading.await.map_err(|error| {
                Miss::Passing(Failure::because(
                    format!("the hook endpoint's answer broke off: {error}"),
                    error,
                ))
            })?
        };
        Ok(Answered {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

#[async_trait]
impl Transport for Http {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        let call = Call {
            message,
            body: Bytes::from(format::body(self.judge.format, message)),
            foreign_body: OnceLock::new(),
            format: self.judge.format,
            forward: &self.forward,
            secrets: &self.secrets,
            proxies: &self.proxies,
        };
        let mut missed = None;
        let calling = time::timeout(self.timeout, self.call(&call, &mut missed)).await;
        calling.unwrap_or_else(|_| {
            let limit = self.timeout;
            let before = missed.map_or_else(String::new, |failure| format!("; before: {failure}"));
            Err(Failure::new(format!(
                "the hook endpoint did not answer within {limit:?}{before}"
            )))
        })
    }

    async fn check(&self) -> Result<(), Failure> {
        match time::timeout(CHECK, self.client.touch(self.endpoint.uri.clone())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let text = format!("could not connect to the hook endpoint: {error}");
                Err(Failure::because(text, error))
            }
            Err(_) => Err(Failure::new(format!(
                "could not connect to the hook endpoint within {CHECK:?}"
            ))),
        }
    }
}

fn lasting(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Miss {
    let text = match what {
        "" => error.to_string(),
        what => format!("{what}: {error}"),
    };
    Miss::Lasting(Failure::because(text, error))
}

/// The headers to forward. Some can't be, as in Go's client.
fn forwarded(names: &[String]) -> Result<Vec<HeaderName>, HttpSettingsError> {
    let mut headers = Vec::new();
    for name in names
        .iter()
        .map(|name| name.trim())
        .filter(|name| !name.is_empty())
    {
        let header =
            HeaderName::try_from(name).map_err(|_| HttpSettingsError::Header(name.to_owned()))?;
        if hop::is_reserved(&header) {
            tracing::warn!(%header, "this header is not forwarded to hooks");
        } else if !headers.contains(&header) {
            headers.push(header);
        }
    }
    Ok(headers)
}
